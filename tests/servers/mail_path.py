"""The path of a message: a sender, a primary mail server and a secondary one,
each in a network of its own. The sender's machine routes between them.

The secondary asks the program, by means of `policy`, whether to accept a
message: it accepts it when the primary is down, and defers it when the primary
is up.
"""

import glob
import os
import re
import signal
import subprocess
import time

import machine
from machine import Case, sh, wait_for
from postfix import Postfix

MX1, MX2 = "192.0.2.2", "192.0.2.6"
CYCLES = 50
RATE = 8

# Queues are run every second, and timeouts are short.
HURRY = """
queue_run_delay = 1s
minimal_backoff_time = 1s
maximal_backoff_time = 2s
smtp_connect_timeout = 1s
smtp_helo_timeout = 1s
smtp_mail_timeout = 3s
smtp_rcpt_timeout = 5s
smtp_data_init_timeout = 3s
smtp_data_xfer_timeout = 3s
smtp_data_done_timeout = 3s
smtp_quit_timeout = 3s
smtp_xforward_timeout = 3s
smtp_connection_cache_on_demand = no
default_destination_concurrency_failed_cohort_limit = 0
bounce_queue_lifetime = 1d
"""


class MailPath(Case):
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
        sh("sysctl -qw net.ipv4.ip_forward=1")
        machine.hosts(f"{MX1} mx1.test\n{MX2} mx2.test\n")
        # For this sender, both servers have the same preference.
        conf = f"host-record=mx1.test,{MX1}\nhost-record=mx2.test,{MX2}\n"
        self.start_dnsmasq(conf + "mx-host=example.test,mx1.test,10\nmx-host=example.test,mx2.test,10\n")
        self.box = f"{self.folder}/box"
        sh(f"mkdir {self.box}; chown postfix {self.box}")
        self.primary = Postfix(
            self,
            "mx1.test",
            f"""
            virtual_mailbox_domains = example.test
            virtual_mailbox_base = {self.box}
            virtual_mailbox_maps = static:mail/
            virtual_minimum_uid = 1
            virtual_uid_maps = static:60000
            virtual_gid_maps = static:60000
            """,
            f"""
            {MX1}:25 inet n - n - 100 smtpd
            virtual unix - n n - - virtual
            """,
            wrapper="ip netns exec mx1",
        )
        # A shorter timeout than the sender's.
        check = "--timeout 1 --stop mx2.test 10:mx1.test 20:mx2.test"
        sh(f"cp {machine.SOURCE}/tests/servers/policy /usr/local/bin/policy")
        self.secondary = Postfix(
            self,
            "mx2.test",
            HURRY
            + f"""
relay_domains = example.test
relay_recipient_maps =
transport_maps = inline:{{example.test=relay:[{MX1}]}}
smtpd_recipient_restrictions = reject_unauth_destination, check_policy_service unix:private/policy
smtpd_relay_restrictions = reject_unauth_destination
""",
            f"""
            {MX2}:25 inet n - n - 100 smtpd
            policy unix - n n - 0 spawn user=nobody argv=/usr/local/bin/policy {check}
            """,
            wrapper="ip netns exec mx2",
        )

    def deliver(self, address, count=1):
        """Sends messages to a server; returns the errors."""
        words = ["smtp-source", "-4", "-m", str(count), "-s", str(min(count, 5)), "-f", "from@sender.test"]
        done = subprocess.run([*words, "-t", "to@example.test", f"{address}:25"], capture_output=True, text=True)
        return done.stderr

    def ids(self, paths):
        """The distinct message ids in files."""
        found = set()
        for path in paths:
            try:
                with open(path, "rb") as file:
                    found.update(re.findall(rb"Message-I[dD]: ?<([^>]+)>", file.read()))
            except FileNotFoundError:
                pass  # It has just been delivered.
        return found

    def delivered(self):
        return self.ids(glob.glob(f"{self.box}/mail/*/*"))

    def queued(self, postfix):
        paths = [glob.glob(f"{postfix.folder}/queue/{queue}/**", recursive=True) for queue in ["incoming", "active", "deferred"]]
        return self.ids(path for path in sum(paths, []) if os.path.isfile(path))

    def drain(self, condition, *servers):
        """Waits for a condition of the queues. A queue manager that finds a
        message still being delivered skips it until it is started again."""

        def is_drained():
            for server in servers:
                server.command("postfix reload >/dev/null 2>&1")
            time.sleep(3)
            return condition()

        wait_for(is_drained, "the queues to drain", servers[0].log, seconds=30)

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

    def test_rule(self):
        """The secondary accepts messages when the primary is down, in whatever
        way, and defers them, naming the primary, when it is up."""
        deferred = "450 4.3.2 <to@example.test>: Recipient address rejected: Please use server mx1.test"
        self.assertIn(deferred, self.deliver(MX2))
        for way, (down, up) in self.ways().items():
            with self.subTest(way):
                down()
                self.assertEqual(self.deliver(MX2, 5), "")
                up()
                wait_for(lambda: deferred in self.deliver(MX2), "a deferral", self.secondary.log)

    def test_no_mail_is_lost(self):
        """The primary goes down and up fifty times while messages come in."""
        sender = Postfix(
            self,
            "sender.test",
            HURRY + "smtp_dns_support_level = enabled\nrelayhost =\nsmtp_host_lookup = dns\n",
            "127.0.0.1:25 inet n - n - 100 smtpd\n",
        )
        began = time.monotonic()
        seconds = CYCLES * 1.5
        count = int(seconds * RATE)
        words = f"/usr/sbin/smtp-source -4 -m {count} -s {RATE} -w 1 -f from@sender.test -t to@example.test 127.0.0.1:25"
        source = self.start(words)
        ways = list(self.ways().values())
        for cycle in range(CYCLES):
            down, up = ways[cycle % len(ways)]
            down()
            time.sleep(0.7)
            up()
            time.sleep(max(0, began + (cycle + 1) * 1.5 - time.monotonic()))
        self.assertEqual(source.popen.wait(60), 0, source.log())
        self.assertEqual(source.log(), "")

        try:
            self.drain(lambda: len(self.delivered()) >= count, self.secondary, sender)
        except AssertionError:
            # What is still queued is not lost.
            print(sh(f"postqueue -c {self.secondary.folder}/etc -p; postqueue -c {sender.folder}/etc -p"), end="")
        delivered = self.delivered()
        at_sender, at_secondary = self.queued(sender) - delivered, self.queued(self.secondary) - delivered
        accepted = len(re.findall(r"postfix/qmgr.*from=<from@sender.test>.*queue active", self.secondary.log()))
        deferrals = self.secondary.log().count("Please use server mx1.test")
        machine.checked(deferrals)
        print(
            f"\n{count} sent = {len(delivered)} delivered + {len(at_sender)} queued at the sender"
            f" + {len(at_secondary)} at the secondary, which deferred {deferrals} times",
            end=" ",
        )
        self.assertEqual(len(delivered | at_sender | at_secondary), count)
        self.assertGreater(deferrals, 0)
        self.assertGreater(accepted, 0)
        for log in [sender.log(), self.secondary.log(), self.primary.log()]:
            self.assertNotRegex(log, r"status=bounced|fatal:|panic:")
