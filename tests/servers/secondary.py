"""A sender, a primary mail server and a secondary one, each in a network of its
own. The sender's machine, the one that the tests run on, routes between them
and is their name server.

The primary is a Postfix. So is the secondary here, with the files of
examples/postfix as they are; what a test needs besides is appended. For another
secondary, see opensmtpd.py.
"""

import os
import re
import signal
import smtplib

import machine
from machine import Case, SOURCE, read, sh, wait_for, write
from postfix import Postfix

MX1, MX2, MX2_V6 = "192.0.2.2", "192.0.2.6", "2001:db8:2::2"
# Clients: one of the secondary's own network, and strangers.
OWN_NETWORK, OWN, STRANGER = "198.51.100.0/24", "198.51.100.1", "203.0.113.1"
EXAMPLES = f"{SOURCE}/examples/postfix"

# mx2 is no mail server of other.example: the secondary is set up for it by mistake.
ZONE = f"""
host-record=mx1.example.org,{MX1}
host-record=mx2.example.org,{MX2},{MX2_V6}
host-record=both.example.org,{MX1}
host-record=both.example.org,{MX2}
mx-host=example.org,mx1.example.org,10
mx-host=example.org,mx2.example.org,20
mx-host=other.example,mx1.example.org,10
mx-host=second.example,mx1.example.org,10
mx-host=second.example,mx2.example.org,20
"""

# What the client is told while the primary is up.
DEFERRED = "4.3.2 <{}>: Recipient address rejected: Please use mx1.example.org"


class Network(Case):
    """Whatever the secondary is: a subclass starts it as `self.secondary`, and
    says what it answers and must not log."""

    ACCEPTED = TROUBLE = ""

    def deferred(self, address):
        """The whole answer to a recipient while the primary is up."""
        raise NotImplementedError

    def setUp(self):
        for name, here, there in [("mx1", "192.0.2.1", MX1), ("mx2", "192.0.2.5", MX2)]:
            sh(f"""
                ip netns add {name}
                ip link add {name} type veth peer name eth0 netns {name}
                ip address add {here}/30 dev {name}
                ip link set {name} up
                ip -n {name} link set lo up
                ip -n {name} address add {there}/30 dev eth0
                ip -n {name} link set eth0 up
                ip -n {name} route add default via {here}
            """)
            # The link first: a namespace may end later.
            self.addCleanup(sh, f"ip link del {name}; ip netns del {name}")
        sh(f"""
            ip address add 2001:db8:2::1/64 dev mx2 nodad
            ip -n mx2 address add {MX2_V6}/64 dev eth0 nodad
        """)
        for client in [OWN, STRANGER]:
            sh(f"ip address replace {client}/24 dev lo")
        sh("sysctl -qw net.ipv4.ip_forward=1")
        machine.hosts("")
        self.name_server = self.start_dnsmasq(ZONE, "--listen-address=192.0.2.5")
        machine.name_servers("nameserver 192.0.2.5\n")
        self.box = f"{self.folder}/box"
        sh(f"mkdir {self.box}; chown postfix {self.box}")

    def start_unbound(self, domains=()):
        """A name server for a crowd: dnsmasq's socket holds some 280 queries,
        and the rest is lost. `domains` have the same mail servers as
        example.org."""
        local = "".join(
            f"""
    local-zone: {domain}. static
    local-data: "{domain}. MX 10 mx1.example.org."
    local-data: "{domain}. MX 20 mx2.example.org."
"""
            for domain in domains
        )
        self.name_server.stop()
        write(
            f"{self.folder}/unbound.conf",
            f"""
server:
    interface: 192.0.2.5
    access-control: 192.0.2.0/24 allow
    so-rcvbuf: 4m
    username: ""
    chroot: ""
    directory: "{self.folder}"
    pidfile: ""
    use-syslog: no
    do-daemonize: no
    module-config: "iterator"
    local-zone: org. static
    local-data: "mx1.example.org. A {MX1}"
    local-data: "mx2.example.org. A {MX2}"
    local-data: "mx2.example.org. AAAA {MX2_V6}"
    local-data: "example.org. MX 10 mx1.example.org."
    local-data: "example.org. MX 20 mx2.example.org."
"""
            + local,
        )
        server = self.start(["/usr/sbin/unbound", "-d", "-c", f"{self.folder}/unbound.conf"])
        wait_for(lambda: sh("ss -Hlun 'sport = :53'").strip(), "unbound", server.log)

    def start_primary(self, main=""):
        self.primary = Postfix(
            self,
            "mx1.example.org",
            f"""
virtual_mailbox_domains = example.org
virtual_mailbox_base = {self.box}
virtual_mailbox_maps = static:mail/
virtual_minimum_uid = 1
virtual_uid_maps = static:60000
virtual_gid_maps = static:60000
"""
            + main,
            f"""
            {MX1}:25 inet n - n - 100 smtpd
            virtual unix - n n - - virtual
            """,
            wrapper="ip netns exec mx1",
        )

    def session(self, client=STRANGER, port=25):
        """A session of a client with the secondary."""
        server = MX2_V6 if ":" in client else MX2
        session = smtplib.SMTP(server, port, local_hostname="client.test", timeout=60, source_address=(client, 0))
        self.addCleanup(session.close)
        session.ehlo()
        return session

    def ask(self, recipients=("to@example.org",), sender="from@sender.test", client=STRANGER):
        """The secondary's answers to the recipients of one message, which is
        then given up."""
        session = self.session(client)
        answers = recipients_of(session, recipients, sender)
        session.close()
        return answers

    def defers(self, address="to@example.org", **options):
        """The recipient is deferred, and the primary named."""
        self.assertEqual(self.ask([address], **options), [self.deferred(address)], self.log())

    def accepts(self, address="to@example.org", **options):
        self.assertEqual(self.ask([address], **options), [self.ACCEPTED], self.log())

    def log(self):
        """The end of the secondary's log, to say with a failure."""
        return self.secondary.log()[-3000:]

    def connections(self):
        """How many connections the primary has seen."""
        return len(re.findall(r"smtpd\[\d+\]: connect from", self.primary.log()))

    def no_trouble(self):
        lines = [line for line in self.secondary.log().splitlines() if re.search(self.TROUBLE, line)]
        self.assertEqual(lines, [], self.log())

    def clean_primary(self, connections):
        """The primary has logged this many connections and nothing else: the
        client has said QUIT and no more."""
        pattern = r"smtpd\[\d+\]: disconnect from unknown\[192\.0\.2\.6\] quit=1 commands=1\n"
        log = self.primary.log
        wait_for(lambda: len(re.findall(pattern, log())) >= connections, "the primary's log", log)
        lines = [line for line in log().splitlines() if "smtpd[" in line]
        self.assertEqual(len(lines), 2 * connections, "\n".join(lines))
        self.assertNotRegex(log(), r"lost connection|warning:|error:|fatal:|panic:")

    def primary_signal(self, number):
        for pid in sh("ip netns pids mx1").split():
            os.kill(int(pid), number)

    # How the primary goes down, and how it comes up again.
    def ways(self):
        return {
            "is stopped": (self.primary.stop, self.primary.start),
            "hangs": (lambda: self.primary_signal(signal.SIGSTOP), lambda: self.primary_signal(signal.SIGCONT)),
            "is unplugged": (lambda: sh("ip link set mx1 down"), lambda: sh("ip link set mx1 up")),
            "is swallowed": (
                lambda: sh(f"ip route add blackhole {MX1}/32"),
                lambda: sh(f"ip route del blackhole {MX1}/32"),
            ),
        }


class Secondary(Network):
    """With a Postfix as secondary."""

    ACCEPTED = "250 2.1.5 Ok"
    # The gate was dead, mute or too slow, or a program failed. (That Postfix does not like its folders, when it
    # starts, is not meant.)
    TROUBLE = r"^(?!.*postfix-script).*(problem talking to server|warning:|error:|fatal:|panic:)"

    def deferred(self, address):
        return f"450 {DEFERRED.format(address)}"

    def start_secondary(self, example="master.cf", arguments="", main="", chroot="y", edit=str):
        """`arguments` are the gate's, after those of the example; `edit`
        changes the example's text; `chroot` is smtpd's."""
        write("/etc/postfix/relay_recipients", "".join(f"{user}@example.org x\n" for user in ["to", *users(50)]))
        if example == "master-cache.cf":
            # The commands in its comment.
            self.assertIn("--cache /var/lib/smtpdcheck/cache", read(f"{EXAMPLES}/{example}"))
            for command in re.findall(r"^#   ((?:useradd|install) .*)", read(f"{EXAMPLES}/{example}"), re.M):
                if not command.startswith("useradd") or "smtpdcheck:" not in read("/etc/passwd"):
                    sh(command)
            sh("rm -f /var/lib/smtpdcheck/*")
        service = edit(read(f"{EXAMPLES}/{example}"))
        own = f"""
mynetworks = 127.0.0.0/8 {OWN_NETWORK}
# As Postfix and Debian set it.
smtpd_relay_restrictions = permit_mynetworks, permit_sasl_authenticated, defer_unauth_destination
default_process_limit = 250
"""
        self.secondary = Postfix(
            self,
            "mx2.example.org",
            own + read(f"{EXAMPLES}/main.cf") + main,
            f"{MX2}:25 inet n - {chroot} - - smtpd\n[{MX2_V6}]:25 inet n - {chroot} - - smtpd\n"
            + f"{service.rstrip()} {arguments}\n",
            wrapper="ip netns exec mx2",
        )


def users(count):
    return [f"user{i}" for i in range(1, count + 1)]


def recipients_of(session, recipients, sender="from@sender.test"):
    """Names sender and recipients in a session; returns the answers to the
    latter."""
    code, text = session.mail(sender)
    if code != 250:
        raise AssertionError(f"MAIL: {code} {text}")
    answers = []
    for recipient in recipients:
        code, text = session.rcpt(recipient)
        answers.append(f"{code} {text.decode()}")
    session.rset()
    machine.checked(len(answers))
    return answers


def gates():
    """The processes of the program that are running."""
    found = []
    for pid in filter(str.isdigit, os.listdir("/proc")):
        try:
            if read(f"/proc/{pid}/comm") == "smtpdcheck\n" and "\nState:\tZ" not in read(f"/proc/{pid}/status"):
                found.append(int(pid))
        except (FileNotFoundError, ProcessLookupError):
            pass
    return found


def wait_for_no_gate():
    wait_for(lambda: not gates(), "the end of every gate", lambda: sh("ps -ef"))
