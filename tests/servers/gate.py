"""The gate for Postfix, as examples/postfix sets it up: a real secondary asks
it, under spawn(8), and a real primary is asked."""

import base64
import collections
import glob
import os
import re
import signal
import socketserver
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import machine
from machine import PROGRAM, SLACK, SOURCE, sh, wait_for, write
from postfix import HURRY, PATIENT, Postfix
from secondary import DEFERRED, MX1, OWN, STRANGER, Secondary, gates, recipients_of, users, wait_for_no_gate

# What Postfix says when a client has got too many errors.
TOO_MANY = "421 4.7.0 mx2.example.org Error: too many errors"


class DovecotAuth(socketserver.ThreadingUnixStreamServer):
    """Answers what Postfix asks Dovecot: every user's password is right."""

    daemon_threads = True

    class RequestHandlerClass(socketserver.StreamRequestHandler):
        def handle(self):
            self.wfile.write(b"VERSION\t1\t1\nMECH\tPLAIN\tplaintext\nSPID\t1\nCUID\t1\nCOOKIE\t0\nDONE\n")
            for line in self.rfile:
                words = line.decode().rstrip("\n").split("\t")
                if words[0] == "AUTH":
                    response = next(word[5:] for word in words if word.startswith("resp="))
                    user = base64.b64decode(response).split(b"\0")[1].decode()
                    self.wfile.write(f"OK\t{words[1]}\tuser={user}\n".encode())

    def __init__(self, path):
        super().__init__(path, self.RequestHandlerClass)
        os.chmod(path, 0o666)
        threading.Thread(target=self.serve_forever, daemon=True).start()


class Gate(Secondary):
    def setUp(self):
        super().setUp()
        self.start_primary()

    def logged(self, pattern):
        """The secondary logs a line that matches, after the time and the name."""
        pattern = re.compile(r"postfix/smtpd\[\d+\]: " + pattern + "$", re.M)
        wait_for(lambda: pattern.search(self.secondary.log()), pattern.pattern, self.secondary.log)

    def test_fifty_recipients(self):
        """One connection to the primary serves a message, and another
        message is another question."""
        self.start_secondary(main=PATIENT)
        addresses = [f"{user}@example.org" for user in users(50)]
        session = self.session()
        for number in [1, 2]:
            began = time.monotonic()
            answers = recipients_of(session, addresses)
            self.assertLess(time.monotonic() - began, SLACK)
            self.assertEqual(answers, [f"450 {DEFERRED.format(address)}" for address in addresses])
            self.clean_primary(number)
        # An accepted message, too: it is for everybody or for nobody.
        self.primary.stop()
        self.assertEqual(recipients_of(session, addresses), ["250 2.1.5 Ok"] * 50)
        session.quit()
        # Without --verbose, that is not logged.
        wait_for(lambda: "disconnect from" in self.secondary.log(), "the log", self.log)
        self.assertEqual(re.findall(r"NOQUEUE: (\w+)", self.secondary.log()), ["reject"] * 100)
        self.no_trouble()

    def test_error_limits(self):
        """Postfix's own: a deferred recipient counts as an error. After ten, it
        delays each answer by a second; after twenty, it hangs up."""
        self.start_secondary()
        session = self.session()
        session.mail("from@sender.test")
        seconds, answers = [], []
        while not answers or answers[-1][0] != 421:
            began = time.monotonic()
            answers.append(session.rcpt(f"user{len(answers) + 1}@example.org"))
            seconds.append(time.monotonic() - began)
        self.assertEqual([code for code, _ in answers], [450] * 20 + [421])
        self.assertEqual(f"{answers[-1][0]} {answers[-1][1].decode()}", TOO_MANY)
        self.assertLess(sum(seconds[:10]), SLACK)
        for second in seconds[11:20]:
            self.assertGreaterEqual(second, 1)
        self.clean_primary(1)

    def test_who_is_asked_about(self):
        """Who may relay is not deferred; what is refused is refused, not
        deferred. The primary hears of neither."""
        self.start_secondary(
            main="smtpd_sasl_auth_enable = yes\nsmtpd_sasl_type = dovecot\nsmtpd_sasl_path = private/auth\n"
        )
        auth = DovecotAuth(f"{self.secondary.folder}/queue/private/auth")
        self.addCleanup(auth.server_close)
        self.addCleanup(auth.shutdown)
        self.accepts(client=OWN)
        self.assertEqual(self.ask(["user@elsewhere.test"], client=OWN), ["250 2.1.5 Ok"])
        session = self.session()
        session.login("user", "password")
        self.assertEqual(recipients_of(session, ["to@example.org", "user@elsewhere.test"]), ["250 2.1.5 Ok"] * 2)
        session.quit()
        unknown = "550 5.1.1 <nobody@example.org>: Recipient address rejected: User unknown in relay recipient table"
        # By smtpd_relay_restrictions, which come first.
        foreign = "454 4.7.1 <user@elsewhere.test>: Relay access denied"
        literal = "550 5.1.1 <to@[192.0.2.6]>: Recipient address rejected: User unknown in local recipient table"
        answers = self.ask(["nobody@example.org", "user@elsewhere.test", "to@[192.0.2.6]"])
        self.assertEqual(answers, [unknown, foreign, literal])
        self.assertEqual(gates(), [])
        self.clean_primary(0)
        self.defers()
        self.defers(sender="")
        self.defers("TO@EXAMPLE.org")
        self.defers("to@example.org.")
        self.assertEqual({os.stat(f"/proc/{pid}").st_uid for pid in gates()}, {65534})
        self.clean_primary(4)
        # Its commands may also come in one piece.
        session = self.session()
        session.send("MAIL FROM:<>\r\nRCPT TO:<nobody@example.org>\r\nRCPT TO:<to@example.org>\r\nDATA\r\n")
        codes = [session.getreply()[0] for _ in range(4)]
        self.assertEqual(codes, [250, 550, 450, 554])
        self.clean_primary(5)
        self.no_trouble()

    def test_log(self):
        """The secondary's log tells who was deferred to which server, and why
        it cannot tell; with --verbose also why a message was accepted."""
        self.start_secondary(arguments="--verbose", main="relay_domains = example.org other.example\n")
        write("/etc/postfix/relay_recipients", "to@example.org x\n@other.example x\n")
        self.secondary.command("postfix reload >/dev/null 2>&1")
        self.defers()
        where = r"NOQUEUE: {}: RCPT from unknown\[203\.0\.113\.1\]: {}; "
        who = r"from=<from@sender\.test> to=<{}> proto=ESMTP helo=<client\.test>"
        deferred = r"450 4\.3\.2 <to@example\.org>: Recipient address rejected: Please use mx1\.example\.org"
        self.logged(where.format("reject", deferred) + who.format(r"to@example\.org"))
        self.clean_primary(1)
        # Set up for a domain by mistake.
        self.accepts("user@other.example")
        why = r"smtpdcheck: other\.example: none of its mail servers is a --stop host"
        self.logged(where.format("warn", why) + who.format(r"user@other\.example"))
        self.primary.stop()
        self.accepts()
        self.logged(where.format("info", ".*mx1.example.org.*connection refused.*") + who.format(r"to@example\.org"))
        self.name_server.stop()
        self.accepts()
        why = r"smtpdcheck: cannot look up the mail servers of 'example\.org': .*"
        self.logged(where.format("warn", why) + who.format(r"to@example\.org"))
        self.no_trouble()

    def test_server_address(self):
        """The address that the client has connected to is this machine's,
        whatever --stop says."""

        def edit(text):
            return text.replace("--stop mx2.example.org", "--stop both.example.org")

        machine.hosts("192.0.2.99 both.example.org\n")
        self.start_secondary(edit=edit)
        session = self.session()
        self.assertIn(DEFERRED.format("to@example.org"), recipients_of(session, ["to@example.org"])[0])
        self.defers(client="2001:db8:2::1")
        self.clean_primary(2)
        self.no_trouble()

    def test_by_hand(self):
        """What a postmaster types to see the service's answer."""
        self.start_secondary()
        question = r"printf '%s\n' request=smtpd_access_policy protocol_state=RCPT recipient=to@example.org ''"
        answer = "action=DEFER_IF_PERMIT 4.3.2 Please use mx1.example.org\n\n"
        self.assertEqual(sh(f"{question} | {PROGRAM} --serve postfix --stop mx2.example.org"), answer)
        socket = f"{self.secondary.folder}/queue/private/smtpdcheck"
        program = f"import socket, sys; s = socket.socket(socket.AF_UNIX); s.connect('{socket}')"
        program += "; s.sendall(sys.stdin.buffer.read()); print(s.recv(999).decode(), end='')"
        self.assertEqual(sh(f'{question} | python3 -c "{program}"'), answer)
        wait_for_no_gate()

    def test_chroots(self):
        """smtpd outside of a chroot; the gate itself in one, with nothing but
        the program, resolv.conf, and passwd for spawn(8)."""
        self.start_secondary(chroot="n")
        self.defers()
        self.no_trouble()
        self.secondary.stop()
        wait_for_no_gate()
        queue = f"{self.secondary.folder}/queue"
        sh(f"install -D {PROGRAM} {queue}{PROGRAM}; install -D -m 644 /etc/resolv.conf {queue}/etc/resolv.conf")
        sh(f"grep '^nobody:' /etc/passwd >{queue}/etc/passwd")
        service = "smtpdcheck unix  -       n       {}       -       0       spawn"

        def edit(text):
            self.assertIn(service.format("n"), text)
            return text.replace(service.format("n"), service.format("y"))

        self.start_secondary(chroot="y", edit=edit)
        self.defers()
        self.assertEqual([os.readlink(f"/proc/{pid}/root").endswith(queue) for pid in gates()], [True])
        self.primary.stop()
        self.accepts()
        self.no_trouble()

    def test_replaced_while_it_runs(self):
        """Each client is answered while make install replaces the program,
        and afterwards the new one answers."""
        self.start_secondary(main=PATIENT)
        sh(f"cp {PROGRAM} {self.folder}/new")
        old = self.session()
        recipients_of(old, ["to@example.org"])
        install = f"make -C {SOURCE} install PROGRAM={self.folder}/new MANDIR={self.folder}/man DOCDIR={self.folder}/doc"
        ended = threading.Event()
        answers = collections.Counter()

        def keep_asking():
            while not ended.is_set():
                answers.update(self.ask())

        with ThreadPoolExecutor(4) as pool:
            clients = [pool.submit(keep_asking) for _ in range(4)]
            try:
                for _ in range(20):
                    before = sum(answers.values())
                    sh(install)
                    wait_for(lambda: sum(answers.values()) > before + 4, "answers", self.secondary.log)
                answers.update(recipients_of(old, ["to@example.org"]))
            finally:
                ended.set()
        for client in clients:
            client.result()
        self.assertEqual(list(answers), [f"450 {DEFERRED.format('to@example.org')}"])
        # The gates of idle smtpd processes are still the old ones; those of new ones are not.
        self.secondary.command("postfix reload >/dev/null 2>&1")
        old.close()
        wait_for_no_gate()
        self.defers()
        self.assertEqual([os.readlink(f"/proc/{pid}/exe").endswith(PROGRAM) for pid in gates()], [True])
        self.no_trouble()

    def test_reload_and_stop(self):
        """The gate ends with its smtpd, also in the middle of a question."""
        self.start_secondary()
        for command in ["reload", "stop"]:
            session = self.session()
            recipients_of(session, ["to@example.org"])
            self.assertEqual(len(gates()), 1)
            if command == "reload":
                self.secondary.command("postfix reload >/dev/null 2>&1")
                # Sessions go on.
                self.assertEqual(recipients_of(session, ["to@example.org"]), [f"450 {DEFERRED.format('to@example.org')}"])
                session.quit()
            else:
                self.secondary.stop()
            wait_for_no_gate()
        self.secondary.start()
        self.primary_signal(signal.SIGSTOP)
        self.addCleanup(self.primary_signal, signal.SIGCONT)
        session = self.session()
        session.mail("from@sender.test")
        session.send("RCPT TO:<to@example.org>\r\n")
        wait_for(lambda: len(gates()) == 2, "a child that waits for the primary", self.secondary.log)
        began = time.monotonic()
        self.secondary.stop()
        wait_for_no_gate()
        self.assertLess(time.monotonic() - began, 9, "the child has waited for the primary")
        self.no_trouble()

    def test_killed(self):
        """As by spawn(8) at its time limit: the next answer comes from a new
        gate, a second later. In the middle of a question, too."""
        self.start_secondary()
        deferred = [f"450 {DEFERRED.format('to@example.org')}"]
        session = self.session()
        self.assertEqual(recipients_of(session, ["to@example.org"]), deferred)
        for pid in gates():
            os.kill(pid, signal.SIGKILL)
        wait_for_no_gate()
        began = time.monotonic()
        self.assertEqual(recipients_of(session, ["to@example.org"]), deferred)
        self.assertGreaterEqual(time.monotonic() - began, 1)
        self.primary_signal(signal.SIGSTOP)
        session.mail("from@sender.test")
        session.send("RCPT TO:<to@example.org>\r\n")
        wait_for(lambda: len(gates()) == 2, "a child that waits for the primary", self.secondary.log)
        os.kill(min(gates()), signal.SIGKILL)
        wait_for_no_gate()
        self.primary_signal(signal.SIGCONT)
        self.assertEqual(session.getreply()[0], 450)
        self.assertNotIn("problem talking to server", self.secondary.log())

class MaxDefer(Secondary):
    SECONDS = 6

    def setUp(self):
        super().setUp()
        self.start_primary()
        self.start_secondary("master-cache.cf", f"--max-defer {self.SECONDS} --verbose", HURRY + PATIENT)

    def deferred_until(self, least, **options):
        """Asks until it is accepted."""
        answers = []
        while not answers or answers[-1] != "250 2.1.5 Ok":
            self.assertLess(time.monotonic(), least + SLACK, answers)
            answers += self.ask(**options)
            time.sleep(0.2)
        # The table counts whole seconds.
        self.assertGreater(time.monotonic(), least - 1)
        self.assertEqual(set(answers[:-1]), {f"450 {DEFERRED.format('to@example.org')}"})
        self.assertGreater(len(answers), 5)

    def test_sender_that_cannot_reach_the_primary(self):
        sh(f"ip rule add iif lo to {MX1} unreachable")
        self.addCleanup(sh, f"ip rule del iif lo to {MX1} unreachable")
        sender = Postfix(
            self,
            "sender.test",
            HURRY + "smtp_dns_support_level = enabled\nrelayhost = [both.example.org]\n",
            "127.0.0.1:25 inet n - n - 100 smtpd\n",
        )
        began = time.monotonic()
        sh("/usr/sbin/smtp-source -4 -f from@sender.test -t to@example.org 127.0.0.1:25")
        wait_for(lambda: glob.glob(f"{self.box}/mail/new/*"), "the message", sender.log, seconds=30)
        self.assertGreater(time.monotonic() - began, self.SECONDS - 1)
        log = sender.log()
        self.assertRegex(log, r"mx2\.example\.org|192\.0\.2\.6.* said: 450 4\.3\.2 .*Please use mx1\.example\.org")
        deferrals = len(re.findall("Please use mx1.example.org", self.secondary.log()))
        self.assertGreater(deferrals, 1)
        self.no_trouble()

    def test_by_sender_and_recipient(self):
        """From any address; another sender or recipient has its own time."""
        began = time.monotonic()
        self.defers(client="203.0.113.1")
        self.deferred_until(began + self.SECONDS, client="203.0.113.9")
        self.defers(sender="another@sender.test")
        self.defers("user1@example.org")
        self.accepts(client=STRANGER, sender="FROM@sender.test")
        self.assertRegex(self.secondary.log(), r"info: .*: smtpdcheck: .*accept +first deferred \d+ s ago; from=<")
        # Both kinds of recipient in one message.
        answers = self.ask(["user2@example.org", "to@example.org"])
        self.assertEqual(answers, [f"450 {DEFERRED.format('user2@example.org')}", "250 2.1.5 Ok"])
        self.no_trouble()

    def test_null_sender(self):
        """It is told by its network."""
        began = time.monotonic()
        self.defers(sender="", client="203.0.113.1")
        self.deferred_until(began + self.SECONDS, sender="", client="203.0.113.200")
        self.defers(sender="", client="192.0.2.5")
        self.defers(sender="from@sender.test")
        self.no_trouble()
