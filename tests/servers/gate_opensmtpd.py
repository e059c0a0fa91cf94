"""The gate for OpenSMTPD, as examples/opensmtpd sets it up: a real secondary
asks it, as its filter, and a real primary is asked."""

import glob
import os
import re
import signal
import ssl
import time

from machine import PROGRAM, sh, wait_for, write
from opensmtpd import OpenSmtpd, OpenSmtpdSecondary, uncomment
from secondary import OWN, gates, recipients_of, wait_for_no_gate

# smtpd's own answer to a recipient for whom it has no rule.
INVALID = "550 Invalid recipient: <{}>"
# The answer of the filter in the example that knows the users.
UNKNOWN = "550 5.1.1 No such recipient"


class Gate(OpenSmtpdSecondary):
    def setUp(self):
        super().setUp()
        self.start_primary()

    def logged(self, pattern):
        """The secondary logs a line that matches as a whole."""
        pattern = re.compile(f"^{pattern}$", re.M)
        wait_for(lambda: pattern.search(self.secondary.log()), pattern.pattern, self.secondary.log)

    def update_tables(self):
        for table in ["domains", "recipients"]:
            self.secondary.control(f"update table {table}")

    def test_deferred_and_delivered(self):
        """A message is deferred while the primary is up; while it is down, it
        is accepted, and delivered when the primary is back."""
        self.start_secondary()
        self.defers()
        self.defers(sender="")
        self.defers("TO@EXAMPLE.org")
        self.defers(client="2001:db8:2::1")
        self.clean_primary(4)
        deferral = r'command="(?i:rcpt to):<to@example\.org>" result="450 4\.3\.2 Please use mx1\.example\.org"'
        self.logged(rf"\w+ smtp failed-command {deferral}")
        self.primary.stop()
        session = self.session()
        self.assertEqual(session.sendmail("from@sender.test", ["to@example.org"], "Subject: test\n\nx\n"), {})
        session.quit()
        self.primary.start()
        self.defers()
        # It would try again after 400 seconds, or after a restart.
        self.secondary.stop()
        self.secondary.start()
        self.secondary.control("schedule all")
        wait_for(lambda: glob.glob(f"{self.box}/mail/new/*"), "the message", self.secondary.log)
        self.no_trouble()

    def test_fifty_recipients(self):
        """Of one message, one after another."""
        self.start_secondary(cache=True)
        addresses = [f"user{i}@example.org" for i in range(1, 51)]
        session = self.session()
        self.assertEqual(recipients_of(session, addresses), [self.deferred(address) for address in addresses])
        self.assertEqual({os.stat(f"/proc/{pid}").st_uid for pid in gates()}, {os.stat("/var/lib/smtpdcheck").st_uid})
        # Its result is kept for five seconds.
        self.clean_primary(1)
        session.quit()
        self.no_trouble()

    def test_who_is_asked_about(self):
        """Who may relay is not deferred; what is rejected is rejected, not
        deferred. The primary hears of neither."""
        self.start_secondary()
        self.assertEqual(self.ask(["to@example.org", "user@elsewhere.test"], client=OWN), [self.ACCEPTED] * 2)
        answers = self.ask(["nobody@example.org", "user@elsewhere.test", "to@[192.0.2.6]", "postmaster"])
        self.assertEqual(answers, [UNKNOWN] * 4)
        # To smtpd, these are no addresses.
        answers = self.ask(["to@example.org.", '"to|"@example.org'])
        self.assertEqual(answers, ["501 5.1.3 Recipient address syntax error"] * 2)
        self.clean_primary(0)
        session = self.session()
        session.mail("from@sender.test")
        self.assertEqual(session.rcpt("to@example.org", ["NOTIFY=NEVER"])[0], 450)
        self.clean_primary(1)
        self.no_trouble()

    def test_users(self):
        """Authenticated users are not deferred, on either port."""
        sh(f"""
            openssl req -x509 -newkey rsa:2048 -nodes -subj /CN=mx2.example.org -days 2 \\
                -keyout {self.folder}/key -out {self.folder}/cert 2>/dev/null
            mkdir -p /etc/smtpd
            install -m 644 {self.folder}/cert /etc/smtpd/mx2.example.org.crt
            install -m 600 {self.folder}/key /etc/smtpd/mx2.example.org.key
            echo "user $(smtpctl encrypt password)" >/etc/smtpd/credentials
        """)

        def edit(conf):
            conf = uncomment(uncomment(conf, "pki"), "listen")
            conf = conf.replace(" filter gate\n", " tls pki mx2.example.org auth-optional <credentials> filter gate\n")
            return "table credentials file:/etc/smtpd/credentials\n" + conf.replace(" auth\n", " auth <credentials>\n")

        self.start_secondary(edit=edit)
        both = ["to@example.org", "user@elsewhere.test"]
        self.assertEqual(self.ask(both), [self.deferred("to@example.org"), UNKNOWN])
        self.clean_primary(1)
        # OpenSMTPD 6.8 offers TLS, but with OpenSSL 3, as on Debian 12, no handshake succeeds.
        has_tls = " 6." not in sh("/usr/sbin/smtpd -h 2>&1 || true")
        for port in [25, 587] if has_tls else []:
            session = self.session(port=port)
            session.starttls(context=ssl._create_unverified_context())
            session.login("user", "password")
            self.assertEqual(recipients_of(session, both), [self.ACCEPTED] * 2)
            session.quit()
        self.clean_primary(1)
        self.no_trouble()

    def test_domains(self):
        """smtpd itself answers for other domains, and the name servers are not
        asked. An edited file counts at once, without a signal."""
        self.start_secondary(edit=lambda conf: conf.replace("unknown, smtpdcheck", "smtpdcheck"))
        second = "to@second.example"
        addresses = ["to@elsewhere.test", "to@[192.0.2.6]", second]
        self.assertEqual(self.ask(addresses), [INVALID.format(address) for address in addresses])
        self.clean_primary(0)
        write("/etc/smtpd/recipients", "@example.org\n@second.example\n")
        write("/etc/smtpd/domains", "example.org\n# and this:\nSecond.Example\n")
        self.defers(second)
        self.clean_primary(1)
        self.update_tables()
        self.defers(second)
        self.primary.stop()
        self.accepts(second)
        self.primary.start()
        write("/etc/smtpd/domains", "example.org\n")
        self.accepts(second)
        self.defers()
        self.no_trouble()
        # Without name servers; smtpd has looked this client up before.
        session = self.session()
        self.name_server.stop()
        self.assertEqual(recipients_of(session, [second]), [self.ACCEPTED])
        self.no_trouble()
        self.assertEqual(recipients_of(session, ["to@example.org"]), [self.ACCEPTED])
        self.logged(r"smtpdcheck: smtpdcheck: cannot look up the mail servers of 'example\.org': .*")
        os.remove("/etc/smtpd/domains")
        self.assertEqual(recipients_of(session, ["to@example.org"]), [self.ACCEPTED])
        self.logged(r"smtpdcheck: smtpdcheck: .*'/etc/smtpd/domains'.*")

    def test_log(self):
        """smtpd logs why the gate cannot tell, and with --verbose why a
        message was accepted."""
        self.start_secondary("--verbose")
        write("/etc/smtpd/domains", "example.org\nother.example\n")
        write("/etc/smtpd/recipients", "@example.org\n@other.example\n")
        self.update_tables()
        self.defers()
        self.no_trouble()
        self.accepts("user@other.example")
        self.logged(r"smtpdcheck: smtpdcheck: other\.example: none of its mail servers is a --stop host")
        self.primary.stop()
        self.accepts()
        why = r"mx1\.example\.org +down .*connection refused.*; mx2\.example\.org +stop .*"
        self.logged(rf"smtpdcheck: smtpdcheck: example\.org +mx .*; {why}")

    def test_by_hand(self):
        """What a postmaster types to see the filter's answer."""
        question = r"printf '%s\n' 'config|ready' 'filter|0.7|0|smtp-in|rcpt-to|1|2|to@example.org'"
        answer = "register|filter|smtp-in|rcpt-to\nregister|ready\n"
        answer += "filter-result|1|2|reject|450 4.3.2 Please use mx1.example.org\n"
        options = "--serve opensmtpd --stop mx2.example.org"
        self.assertEqual(sh(f"({question}; sleep 3) | {PROGRAM} {options}"), answer)

    def test_user_and_chroot(self):
        """As the user of the example; and in a chroot, which needs a shell, as
        smtpd starts filters with one."""
        self.start_secondary()
        self.defers()
        self.assertEqual({os.stat(f"/proc/{pid}").st_uid for pid in gates()}, {65534})
        self.secondary.stop()
        wait_for_no_gate()
        jail = f"{self.folder}/jail"
        sh(f"""
            for file in /bin/sh $(ldd /bin/sh | grep -o '/[^ ]*') /etc/resolv.conf {PROGRAM} /etc/smtpd/domains; do
                install -D $file {jail}$file
            done
            chmod -R a+rX {self.folder}
        """)
        user = " user nobody"
        self.start_secondary(edit=lambda conf: conf.replace(user, f'{user} chroot "{jail}"'))
        self.defers()
        self.assertEqual([os.readlink(f"/proc/{pid}/root").endswith(jail) for pid in gates()], [True])
        self.primary.stop()
        self.accepts()
        self.no_trouble()

    def pending(self):
        """A session with a question that waits for the primary, which
        hangs."""
        self.primary_signal(signal.SIGSTOP)
        self.addCleanup(self.primary_signal, signal.SIGCONT)
        session = self.session()
        session.mail("from@sender.test")
        session.send("RCPT TO:<to@example.org>\r\n")
        wait_for(lambda: len(gates()) == 2, "a child that waits for the primary", self.secondary.log)
        return session

    def test_restart_and_stop(self):
        """The gate ends with smtpd, however that ends, also in the middle of a
        question."""
        self.start_secondary()
        for number in [signal.SIGTERM, signal.SIGINT, signal.SIGKILL]:
            self.assertEqual(len(gates()), 1)
            session = self.pending()
            began = time.monotonic()
            self.secondary.process.signal(number)
            wait_for_no_gate()
            self.assertLess(time.monotonic() - began, 9, "the child has waited for the primary")
            session.close()
            self.secondary.stop()
            self.secondary.start()
            self.primary_signal(signal.SIGCONT)
            self.defers()

    def test_killed(self):
        """A question whose child is killed is answered, and the next one
        too."""
        self.start_secondary()
        session = self.pending()
        os.kill(max(gates()), signal.SIGKILL)
        self.assertEqual(session.getreply()[0], 250)
        self.primary_signal(signal.SIGCONT)
        session.rset()
        self.assertEqual(recipients_of(session, ["to@example.org"]), [self.deferred("to@example.org")])
        self.logged(r"smtpdcheck: smtpdcheck: .*killed.*")

    def test_client_that_leaves(self):
        """In the middle of a question, which is answered for nobody."""
        self.start_secondary()
        self.pending().close()
        self.primary_signal(signal.SIGCONT)
        wait_for(lambda: len(gates()) == 1, "the end of the check")
        self.defers()
        self.no_trouble()

    def test_wrong_options(self):
        """smtpd says what is wrong with the filter, and ends."""
        both = "--max-defer and --serve opensmtpd cannot be used together"
        wrong = {
            "--nonsense": "unknown option '--nonsense'; see --help",
            "--max-defer 4h --cache /run/cache": both,
            "--domains /nonexistent": ".*'/nonexistent'.*",
        }
        for arguments, reason in wrong.items():
            with self.subTest(arguments):
                self.ends(f"smtpdcheck: smtpdcheck: {reason}", arguments)
        reason = "smtpdcheck: smtpdcheck: --serve opensmtpd needs --stop; see --help"
        self.ends(reason, edit=lambda conf: conf.replace("--stop mx2.example.org", ""))
        # That is smtpd's own.
        self.ends(".*getpwnam.*", edit=lambda conf: conf.replace("user nobody", "user none"))

    def ends(self, reason, arguments="", edit=str):
        self.configure(arguments, edit=edit)
        self.secondary = OpenSmtpd(self)
        sh(f"rm -f {self.folder}/smtpd.log")
        self.secondary.launch()
        try:
            wait_for(lambda: self.secondary.process.popen.poll() is not None, "the end of smtpd", self.secondary.log)
            self.logged(reason)
        finally:
            self.secondary.stop()
        wait_for_no_gate()
