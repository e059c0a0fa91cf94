"""Other people's name servers, and what the C library makes of them: the
names of a zone are found, also if some of the name servers are down."""

import os
import signal
import socket

import machine
from machine import Case, is_listening, name_servers, sh, wait_for, write

# A mail server that is up, and one that is silent.
UP, SILENT = "127.0.1.1", "127.0.1.2"
MANY = 40

# The program with musl, and with the system's C library.
PROGRAMS = [machine.PROGRAM, machine.GLIBC_PROGRAM]

# How many addresses of a name musl keeps.
KEPT = 48

ZONE = f"""
host-record=one.test,{UP}
host-record=six.test,::1
host-record=both.test,{UP},::1
host-record=silent-and-up.test,{SILENT}
host-record=silent-and-up.test,{UP}
cname=alias.test,one.test
cname=chain1.test,chain2.test
cname=chain2.test,chain3.test
cname=chain3.test,chain4.test
cname=chain4.test,chain5.test
cname=chain5.test,chain6.test
cname=chain6.test,chain7.test
cname=chain7.test,chain8.test
cname=chain8.test,both.test
cname=broken.test,nothing.test
mx-host=mxonly.test,one.test,10
host-record=short.sub.test,{UP}
mx-host=list.test,six.test,20
mx-host=list.test,silent.test,10
mx-host=list.test,none.test,5
host-record=silent.test,{SILENT}
mx-host=mine.test,one.test,10
mx-host=mine.test,me.test,20
host-record=me.test,127.0.1.9
mx-host=null.test,.,0
cname=mxalias.test,mine.test
"""

# MX records that are more than a datagram holds.
LONG = "\n".join(f"mx-host=long.test,mx{i}.with-a-long-name.test,{100 + i}" for i in range(MANY))
LONG += "\nmx-host=long.test,one.test,200\n"


def judge_mx(case, by_tcp):
    """Asks for what both name servers have. Programs with glibc always ask
    again by TCP."""
    for program in PROGRAMS:
        def answers(words, answer, **options):
            return case.answers(words, answer, program=program, **options)

        def cannot(words, why):
            run = case.run_check(words, program=program)
            case.assertEqual((run.status, run.stderr), (2, f"smtpdcheck: {why}\n"), run)

        for _ in range(5):
            answers("--mx mine.test", "one.test")
            answers("--mx MINE.test.", "one.test")
            answers("--mx one.test", "one.test")
            answers("--mx null.test", "")
            answers("--mx none.test", "")
            answers("--mx mxonly.test", "one.test")
            answers("--stop me.test --mx mine.test", "one.test")
            answers("--stop 127.0.1.9 --mx mine.test", "one.test")
            answers("--stop one.test --mx mine.test", "")
            cannot("--stop 127.0.1.8 --mx mine.test", "mine.test: none of its mail servers is a --stop host")
        if by_tcp or program == machine.GLIBC_PROGRAM:
            for _ in range(5):
                answers("--mx long.test", "one.test")
        else:
            cannot("--mx long.test", "cannot look up the mail servers of 'long.test': truncated answer")
        run = answers("-v --mx null.test", "")
        case.assertRegex(run.stderr, r"^null\.test  mx    accepts no mail \(null MX\) ")
        run = answers("-v --mx none.test", "")
        case.assertRegex(run.stderr, r"^none\.test  mx    no such domain ")


def addresses(name, count, network, last):
    """The lines of a zone for a name: `count` addresses where nothing listens,
    and a last one where a server is up."""
    lines = [f"host-record={name},{network}.{i}" for i in range(2, count + 2)]
    return "\n".join([*lines, f"host-record={name},{last}"]) + "\n"


def asks_by_tcp(case):
    """Whether the program's C library asks again by TCP when an answer has been
    truncated. musl does so from 1.2.4 on."""
    name_servers("nameserver 127.0.0.1\n")
    with (
        socket.create_server(("127.0.0.1", 53)) as tcp,
        socket.socket(type=socket.SOCK_DGRAM) as udp,
    ):
        udp.bind(("127.0.0.1", 53))
        udp.settimeout(machine.LIMIT)
        popen = case.begin("--timeout 1 cut.test")
        for _ in ["A", "AAAA"]:
            query, client = udp.recvfrom(512)
            udp.sendto(query[:2] + b"\x83\x80" + query[4:], client)
        case.end(popen)
        tcp.setblocking(False)
        try:
            tcp.accept()[0].close()
            return True
        except BlockingIOError:
            return False


class NameServers(Case):
    def setUp(self):
        self.start(["/usr/sbin/smtp-sink", "-u", "postfix", f"{UP}:25", "100"], log=f"{self.folder}/sink")
        self.start(["/usr/sbin/smtp-sink", "-u", "postfix", "[::1]:25", "100"], log=f"{self.folder}/sink6")
        for address in [UP, "[::1]"]:
            wait_for(lambda: is_listening(25, address), "smtp-sink")
        self.listen(SILENT)
        name_servers("nameserver 127.0.0.1\n")
        machine.hosts("")

    def dnsmasq(self, address="127.0.0.1", zone=ZONE, elsewhere="--address=/#/"):
        """A name server with this zone; other names do not exist."""
        conf = f"{self.folder}/{address}.conf"
        write(conf, zone)
        words = ["/usr/sbin/dnsmasq", "--keep-in-foreground", "--no-resolv", "--no-hosts", "--user=root"]
        words += ["--bind-interfaces", f"--listen-address={address}", "--except-interface=nothing"]
        words += [f"--conf-file={conf}", "--log-facility=-", "--log-queries", "--pid-file=", "--local=/test/", elsewhere]
        server = self.start(words, log=f"{self.folder}/{address}.log")
        where = address if "." in address else f"[{address}]"
        wait_for(lambda: sh(f"ss -Hlun 'sport = :53 and src {where}'").strip(), "dnsmasq", server.log)
        return server

    def test_zone(self):
        """One address, both families, CNAMEs and chains of them; names that do
        not exist or have no address."""
        self.dnsmasq()
        for name in ["one", "six", "both", "alias", "chain8", "chain4", "chain1", "ONE", "silent-and-up"]:
            for _ in range(5):
                self.answers(f"10:{name}.test", f"{name}.test")
        for name in ["none", "broken", "mxonly"]:
            for _ in range(5):
                run = self.answers(f"-v {name}.test", "")
                self.assertRegex(run.stderr, "no such host")
        self.answers("-4 six.test", "")
        self.answers("-6 one.test", "")
        self.answers("-4 both.test", "both.test")
        self.answers("-6 both.test", "both.test")
        self.answers("--stop one.test 10:none.test 20:alias.test 30:both.test", "")
        self.answers("--stop one.test 10:six.test 20:alias.test", "six.test")
        self.answers("--stop both.test 10:six.test 20:alias.test", "")
        self.assertEqual(self.run_check("--stop none.test one.test").status, 2)

    def test_many_addresses(self):
        """Of forty addresses, only the last one is up. The answer is too big
        for UDP, and dnsmasq gives it by TCP. Of sixty, the C library keeps
        some; without TCP, those that fit into a datagram."""
        by_tcp = asks_by_tcp(self)
        self.dnsmasq(zone=addresses("forty.test", 39, "127.0.2", UP) + addresses("sixty.test", 59, "127.0.2", UP))
        for _ in range(20 if by_tcp else 0):
            self.answers("forty.test", "forty.test")
        run = self.run_check("-v sixty.test")
        tried = run.stderr.count("connection refused") + run.stderr.count("greeting 220")
        self.assertIn(tried, [KEPT] if by_tcp else range(1, 32), run)

    def test_without_resolv_conf(self):
        """127.0.0.1 is asked. If it does not answer, musl tries again for five
        seconds; glibc does not."""
        os.unlink("/etc/resolv.conf")
        run = self.answers("-v one.test", "", most=9)
        self.assertRegex(run.stderr, "name server failed")
        self.dnsmasq()
        self.answers("one.test", "one.test")
        self.answers("none.test", "")
        name_servers("")
        self.answers("one.test", "one.test")

    def test_hosts_only(self):
        """Names in the hosts file need no name server."""
        machine.hosts(f"{UP} mx.hosts\n")
        self.answers("mx.hosts", "mx.hosts")

    def test_search_list(self):
        self.dnsmasq()
        name_servers("search nowhere.test sub.test\nnameserver 127.0.0.1\n")
        self.answers("short", "short")
        self.answers("one.test", "one.test")
        self.answers("short.", "")
        self.answers("none", "")

    def silent_name_server(self, address):
        """It is stopped, so that it reads no query."""
        server = self.dnsmasq(address)
        server.signal(signal.SIGSTOP)
        self.addCleanup(server.signal, signal.SIGCONT)
        return server

    def test_silent(self):
        """The C library waits longer than the program."""
        self.silent_name_server("127.0.0.1")
        run = self.answers("-v --timeout 1.5 one.test", "", least=1.5)
        self.assertRegex(run.stderr, "no answer from name server within 1.5 s")
        self.assertEqual(self.run_check(f"--timeout 1 --stop one.test {UP}").status, 2)
        self.answers(f"--timeout 1 one.test {UP}", UP, least=1)

    def test_timeout_1_attempts_1(self):
        """The C library gives up after a second, and so does the program."""
        self.silent_name_server("127.0.0.1")
        name_servers("nameserver 127.0.0.1\noptions timeout:1 attempts:1\n")
        run = self.answers("-v --timeout 10 one.test", "", least=1)
        self.assertRegex(run.stderr, "name server failed")

    def test_two_of_three_down(self):
        """musl asks all three at the same time: one answer is enough."""
        self.dnsmasq("127.0.0.3")
        name_servers("nameserver 127.0.0.1\nnameserver 127.0.0.2\nnameserver 127.0.0.3\n")
        for _ in range(10):
            self.answers("one.test", "one.test")
        self.silent_name_server("127.0.0.1")
        self.silent_name_server("127.0.0.2")
        for _ in range(10):
            self.answers("one.test", "one.test")
        self.answers("chain1.test", "chain1.test")

    def test_server_failure(self):
        """The name server refuses to answer. musl waits five seconds for a
        better answer; glibc does not."""
        self.dnsmasq(elsewhere="--all-servers")
        run = self.answers("-v mx.elsewhere.example", "", most=9)
        self.assertRegex(run.stderr, "name server failed")

    def test_by_ipv6(self):
        self.dnsmasq("::1")
        name_servers("nameserver ::1\n")
        self.answers("both.test", "both.test")

    def test_mx(self):
        by_tcp = asks_by_tcp(self)
        self.dnsmasq(zone=ZONE + LONG)
        judge_mx(self, by_tcp)
        for program in PROGRAMS:
            run = self.answers("-v --timeout 1 --mx list.test", "six.test", least=1, program=program)
            self.assertRegex(run.stderr, r"^list\.test  mx    5:none\.test, 10:silent\.test, 20:six\.test ")
            self.answers("--mx mxalias.test", "one.test", program=program)

    def test_mx_without_an_answer(self):
        """A name server that refuses, one that is stopped, and none."""
        server = self.dnsmasq(elsewhere="--all-servers")

        def cannot(words, why, least=0):
            for program in PROGRAMS:
                run = self.run_check(words, program=program)
                domain = words.split()[-1]
                reason = f"smtpdcheck: cannot look up the mail servers of '{domain}': {why}\n"
                self.assertEqual((run.status, run.stderr), (2, reason), run)
                self.assertGreaterEqual(run.seconds, least, run)
                self.assertLess(run.seconds, least + machine.SLACK, run)

        name_servers("nameserver 127.0.0.1\noptions timeout:1 attempts:1\n")
        cannot("--mx elsewhere.example", "no usable answer from the name servers")
        server.signal(signal.SIGSTOP)
        cannot("--mx mine.test", "no usable answer from the name servers", least=1)
        cannot("--timeout 0.5 --stop 127.0.1.9 --mx mine.test", "no answer in time", least=0.5)
        server.signal(signal.SIGCONT)
        self.answers("--mx mine.test", "one.test")
        server.stop()
        cannot("--mx mine.test", "no usable answer from the name servers")

    def test_attempts_0(self):
        """musl divides by the number of attempts: the status is 2."""
        self.dnsmasq()
        name_servers("nameserver 127.0.0.1\noptions attempts:0\n")
        run = self.run_check("one.test")
        self.assertEqual(run.status, 2, run)
        self.assertIn("resolv.conf", run.stderr)
        self.answers(UP, UP)

    def test_odd_resolv_conf(self):
        """Whatever resolv.conf contains, the program ends with an answer."""
        self.dnsmasq()
        texts = [
            "nameserver",
            "nameserver \n",
            "nameserver not-an-address\n",
            "nameserver 300.1.1.1\nnameserver 127.0.0.1\n",
            "options\n",
            "options timeout:0\nnameserver 127.0.0.1\n",
            "options ndots:99999999999999999999\nnameserver 127.0.0.1\n",
            "options timeout:99999999999 attempts:99999999999\nnameserver 127.0.0.1\n",
            "options timeout:-1 attempts:-1\nnameserver 127.0.0.1\n",
            "search " + "a" * 400 + "\nnameserver 127.0.0.1\n",
            "search " + " ".join(["sub.test"] * 60) + "\nnameserver 127.0.0.1\n",
            "nameserver 127.0.0.1\n" * 50,
            "x" * 100000 + "\nnameserver 127.0.0.1\n",
            "nameserver 127.0.0.1",
            "\0\xff\n" * 20,
        ]
        for text in texts:
            with self.subTest(text[:60]):
                name_servers(text)
                run = self.run_check("--timeout 2 one.test")
                self.assertIn(run.status, [0, 1], run)
                self.assertLess(run.seconds, 2 + machine.SLACK)


class Unbound(Case):
    def test_zone(self):
        """Another name server, and large answers by TCP."""
        by_tcp = asks_by_tcp(self)
        self.start(["/usr/sbin/smtp-sink", "-u", "postfix", f"{UP}:25", "100"], log=f"{self.folder}/sink")
        wait_for(lambda: is_listening(25, UP), "smtp-sink")
        many = "".join(f'local-data: "many.test. A 127.0.2.{i}"\n' for i in range(2, 2 + MANY))
        long = "".join(f'local-data: "long.test. MX {i} mx{i}.with-a-long-name.test."\n' for i in range(MANY))
        write(f"{self.folder}/conf", f"""
server:
    interface: 127.0.0.1
    username: ""
    chroot: ""
    directory: "{self.folder}"
    pidfile: ""
    use-syslog: no
    do-daemonize: no
    module-config: "iterator"
    local-zone: test. static
    local-data: "one.test. A {UP}"
    local-data: "one.test. AAAA 2001:db8::1"
    local-data: "many.test. A {UP}"
    local-data: "mine.test. MX 20 me.test."
    local-data: "mine.test. MX 10 one.test."
    local-data: "me.test. A 127.0.1.9"
    local-data: "mxonly.test. MX 10 one.test."
    local-data: "null.test. MX 0 ."
    local-data: "long.test. MX 200 one.test."
    {long.replace(chr(10), chr(10) + "    ")}
    {many.replace(chr(10), chr(10) + "    ")}
""")
        server = self.start(["/usr/sbin/unbound", "-d", "-c", f"{self.folder}/conf"])
        name_servers("nameserver 127.0.0.1\n")
        wait_for(lambda: sh("ss -Hlun 'sport = :53'").strip(), "unbound", server.log)
        for _ in range(20):
            self.answers("one.test", "one.test")
            if by_tcp:
                self.answers("many.test", "many.test")
            self.answers("none.test", "")
        judge_mx(self, by_tcp)
