"""Other people's mail servers: up is up, down is down, and their logs show only
a client that sent QUIT or closed the connection."""

import re
import signal
import socket

from machine import Case, is_listening, sh, wait_for, write
from postfix import Postfix as PostfixServer

# How often each address of a server is checked in succession, and again at the
# same time.
TIMES = 20


class MailServer:
    """The tests of every server."""

    ADDRESSES = ["127.0.0.1", "::1"]
    # How many checks run at the same time: as many as its accept queue holds.
    # The system drops some of any more, and these are never greeted.
    AT_ONCE = TIMES
    # What a clean session leaves in the log.
    CLEAN = None
    # What a server logs about a client with bad manners.
    UNCLEAN = (
        r"(?i)lost connection|pregreet|command time|protocol|pipelin|syntax|unexpected|unrecogni[sz]ed"
        r"|error|warning|fatal|panic|traceback"
    )

    def setUp(self):
        # Children of the server before may still run.
        wait_for(lambda: not is_listening(25), "port 25 to be free")
        self.start_server()
        for address in self.ADDRESSES:
            wait_for(lambda: is_listening(25, f"[{address}]"), f"port 25 of {address}", self.log)

    def start_server(self):
        raise NotImplementedError

    def stop_server(self):
        self.server.stop()

    def log(self):
        return self.server.log()

    def test_up_and_down(self):
        for address in self.ADDRESSES:
            text = f"[{address}]" if ":" in address else address
            self.answers(f"127.0.0.99 10:{text}", text)
        self.stop_server()
        for address in self.ADDRESSES:
            self.answers([address], "")
        self.start_server()
        for address in self.ADDRESSES:
            wait_for(lambda: self.run_check([address]).status == 1, "up again")

    def test_manners(self):
        for address in self.ADDRESSES:
            for _ in range(TIMES):
                self.answers([address], address)
            for _ in range(TIMES // self.AT_ONCE):
                for popen in [self.begin([address]) for _ in range(self.AT_ONCE)]:
                    self.judge(self.end(popen), address)
        self.count_clean(2 * TIMES * len(self.ADDRESSES))

    def count_clean(self, expected):
        def count():
            return len(re.findall(self.CLEAN, self.log(), re.M))

        wait_for(lambda: count() >= expected, f"{expected} times '{self.CLEAN}'", self.log)
        self.assertEqual(count(), expected, self.log())
        self.assertNotRegex(self.log(), self.UNCLEAN)


class Postfix(MailServer, Case):
    CLEAN = r"postfix/smtpd\[\d+\]: disconnect from .* quit=1 commands=1$"
    MAIN = ""

    def start_server(self):
        self.server = PostfixServer(
            self,
            "mx.test",
            self.MAIN,
            """
            127.0.0.1:25 inet n - n - 50 smtpd
            [::1]:25 inet n - n - 50 smtpd
            """,
        )


class Postscreen(MailServer, Case):
    """With a greet delay: the first line of the greeting comes immediately, the
    last one seconds later. A client that sends anything before it is taken for
    a spammer."""

    ADDRESSES = ["127.0.0.1"]
    CLEAN = r"postscreen\[\d+\]: HANGUP after \S+ from .* in tests before SMTP handshake$"
    WAIT = 4

    def start_server(self):
        self.server = PostfixServer(
            self,
            "mx.test",
            f"""
            postscreen_access_list =
            postscreen_greet_action = enforce
            postscreen_greet_wait = {self.WAIT}s
            """,
            """
            127.0.0.1:25 inet n - n - 1 postscreen
            smtpd pass - - n - - smtpd
            """,
        )

    def test_the_first_line_is_enough(self):
        """It does not wait for the last line, and sends nothing before it."""
        for _ in range(TIMES):
            self.answers(["127.0.0.1"], "127.0.0.1", most=self.WAIT)
        self.count_clean(TIMES)

    def test_quit_while_another_server_is_waited_for(self):
        """The last line comes while the first server may still be up: postscreen
        gets its QUIT."""
        self.listen("127.0.0.9")
        run = self.answers(f"--timeout {self.WAIT + 2} -v 127.0.0.9 127.0.0.1", "127.0.0.1", least=self.WAIT + 2)
        self.assertRegex(run.stderr, r"127.0.0.1 +up +127.0.0.1: greeting 220-mx.test ESMTP Postfix .*\(<?\d+ ms\)")
        wait_for(lambda: re.search(Postfix.CLEAN, self.log(), re.M), "a clean session")
        self.assertRegex(self.log(), r"PASS NEW")
        self.assertNotRegex(self.log(), self.UNCLEAN)


class PostfixAtItsLimits(Case):
    def hold(self, address, number=1, greeted=True):
        """Opens connections and keeps them."""
        held = []
        for _ in range(number):
            held.append(socket.create_connection((address, 25), 5))
            self.addCleanup(held[-1].close)
            if greeted:
                self.assertIn(b"220 ", held[-1].recv(100))
        return held

    def test_connection_count(self):
        """The third connection of a client is greeted with 421: it is down,
        until one of the others has ended."""
        PostfixServer(
            self,
            "mx.test",
            """
            smtpd_client_connection_count_limit = 2
            """,
            """
            127.0.0.1:25 inet n - n - 50 smtpd
            """,
        )
        held = self.hold("127.0.0.1", 2)
        for _ in range(TIMES):
            run = self.answers("-v 127.0.0.1", "")
            self.assertRegex(run.stderr, r"greeting 421 4\.7\.0 mx\.test Error: too many connections")
        held[0].close()
        wait_for(lambda: self.run_check("127.0.0.1").status == 1, "up again")

    def test_process_limit(self):
        """All processes are busy: the system accepts, but there is no greeting."""
        PostfixServer(
            self,
            "mx.test",
            "",
            """
            127.0.0.1:25 inet n - n - 1 smtpd
            """,
        )
        held = self.hold("127.0.0.1")
        run = self.answers("-v --timeout 1.5 127.0.0.1", "", least=1.5)
        self.assertRegex(run.stderr, r"no greeting within 1.5 s")
        held[0].close()
        self.answers("127.0.0.1", "127.0.0.1")

    def test_postscreen_queue(self):
        """At its own limit, postscreen greets with 421 too."""
        PostfixServer(
            self,
            "mx.test",
            """
            postscreen_access_list =
            postscreen_greet_wait = 20s
            postscreen_greet_action = enforce
            postscreen_client_connection_count_limit = 1
            """,
            """
            127.0.0.1:25 inet n - n - 1 postscreen
            smtpd pass - - n - - smtpd
            """,
        )
        held = self.hold("127.0.0.1", greeted=False)
        self.assertIn(b"220-", held[0].recv(100))
        run = self.answers("-v 127.0.0.1", "")
        self.assertRegex(run.stderr, r"greeting 421 4\.7\.0 ")
        held[0].close()
        wait_for(lambda: self.run_check("127.0.0.1").status == 1, "up again")


class Exim(MailServer, Case):
    CLEAN = r"SMTP connection from \S+ (?:D=\S+ )?closed by QUIT$"

    def start_server(self):
        write(f"{self.folder}/conf", f"""
            primary_hostname = mx.test
            log_file_path = {self.folder}/%slog
            log_selector = +smtp_connection +smtp_protocol_error +smtp_syntax_error
            pid_file_path =
            spool_directory = {self.folder}/spool
            local_interfaces = <; 127.0.0.1 ; ::1
            keep_environment =
            tls_advertise_hosts =
            smtp_accept_max = 50
            rfc1413_query_timeout = 0s
        """)
        self.server = self.start(["/usr/sbin/exim4", "-bdf", "-C", f"{self.folder}/conf"])

    def log(self):
        return sh(f"cat {self.folder}/*log")

    def test_connection_count(self):
        """The 51st connection is greeted with 421."""
        held = [socket.create_connection(("127.0.0.1", 25)) for _ in range(50)]
        for connection in held:
            self.addCleanup(connection.close)
            connection.recv(100)
        run = self.answers("-v 127.0.0.1", "")
        self.assertRegex(run.stderr, "greeting 421 ")
        for connection in held:
            connection.close()
        wait_for(lambda: self.run_check("127.0.0.1").status == 1, "up again")


class OpenSmtpd(MailServer, Case):
    AT_ONCE = 5
    CLEAN = r"smtp disconnected reason=quit$"

    def start_server(self):
        write(f"{self.folder}/conf", """
listen on 127.0.0.1
listen on ::1
action nowhere mda "cat >/dev/null"
match from any for any action nowhere
""")
        sh("mkdir -p /var/spool/smtpd; chmod 711 /var/spool/smtpd")
        self.server = self.start(["/usr/sbin/smtpd", "-d", "-f", f"{self.folder}/conf"])


class SmtpSink(MailServer, Case):
    ADDRESSES = ["127.0.0.1"]
    AT_ONCE = 4
    CLEAN = r"disconnect"

    def start_server(self):
        self.server = self.start("/usr/sbin/smtp-sink -v -u postfix 127.0.0.1:25 4")

    def test_full_accept_queue(self):
        """A server hangs and its queue is full: connections are never made, or
        are reset, depending on the system's configuration."""
        self.server.signal(signal.SIGSTOP)
        self.addCleanup(self.server.signal, signal.SIGCONT)
        held = []
        while True:
            connection = socket.socket()
            self.addCleanup(connection.close)
            connection.settimeout(0.5)
            try:
                connection.connect(("127.0.0.1", 25))
            except TimeoutError:
                break
            held.append(connection)
        self.assertGreater(len(held), 4)
        run = self.answers("-v --timeout 1.5 127.0.0.1", "", least=1.5)
        self.assertRegex(run.stderr, r"no connection within 1.5 s")
        write("/proc/sys/net/ipv4/tcp_abort_on_overflow", "1")
        run = self.answers("-v --timeout 1.5 127.0.0.1", "")
        write("/proc/sys/net/ipv4/tcp_abort_on_overflow", "0")
        self.server.signal(signal.SIGCONT)
        self.answers("127.0.0.1", "127.0.0.1")


class Aiosmtpd(MailServer, Case):
    ADDRESSES = ["127.0.0.1"]
    CLEAN = r">> b'QUIT'$"
    # It calls every closed connection lost.
    UNCLEAN = r"(?i)eof received|error|traceback|unrecogni|syntax"

    def start_server(self):
        words = "/usr/bin/python3 -m aiosmtpd -n -dd -l 127.0.0.1:25"
        self.server = self.start(words, log=f"{self.folder}/log")
