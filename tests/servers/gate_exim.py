"""The gate for Exim, as examples/exim sets it up: a real secondary runs the
program for each recipient, and a real primary is asked."""

import os
import random
import re
import signal
import time

import machine
from machine import PROGRAM, SLACK, SOURCE, read, sh, wait_for, write
from secondary import OWN, STRANGER, gates, recipients_of, users, wait_for_no_gate
from exim import ETC, EximSecondary

# How many senders and recipients are made up at random.
STRANGE = 120
PLAIN = b"<from@sender.test>"

# What is run in place of the program, and what the log says of it.
FAILURES = {
    "missing": ("", "status 127: timeout: failed to run command .*: No such file or directory"),
    "not executable": ("", "status 126: timeout: failed to run command .*: Permission denied"),
    "a folder": ("", "status 126: timeout: failed to run command .*: Permission denied"),
    "killed": ("kill -KILL $$", "status 137: Killed"),
    "crashes": ("kill -SEGV $$", "status 139: Segmentation fault"),
    "hangs": ("exec sleep 1000", "status 137: Killed"),
    "cannot be terminated": ("trap '' TERM; while :; do sleep 1; done", "status 137: Killed"),
    "is stopped": ("kill -STOP $$", "status 137: Killed"),
    "cannot tell": ("echo 'smtpdcheck: why' >&2; exit 2", "why"),
    "another status": ("echo mx1.example.org; exit 3", "status 3: mx1.example.org"),
    "accepts, with a name": ("echo mx1.example.org", "status 0: mx1.example.org"),
    "defers, without a name": ("exit 1", "status 1: "),
    "defers, with an empty name": ("echo; exit 1", "status 1: "),
    "defers, with something else": ("echo 'not a name'; exit 1", "status 1: not a name"),
    "defers, with half a line": ("printf mx1.example.org; exit 1", "status 1: mx1.example.org"),
    "says much": ("head -c 3000000 /dev/zero | tr '\\0' x; exit 1", "status 1: x+"),
}
# What is done to it besides.
DONE = {"missing": "rm program", "not executable": "chmod 644 program", "a folder": "rm program; mkdir program"}

# Local parts, as they are between quotes, besides random ones.
LOCAL_PARTS = [
    rb"", rb"a b", rb" --stop x", rb"-x", rb"--max-defer 0", rb"\"", rb"\\", rb"\\\"", rb"'", rb"' x '", rb"$", rb"$domain",
    rb"${", rb"}", rb"}}", rb"{", rb"${run{/bin/false}}", rb"}{x}}", rb"\$1", rb"$1", rb"\N", rb"\N^x\N", rb"`x`", rb"$(x)",
    rb";x", rb"#", rb"%s%n", rb"@", rb":", rb"/", rb"\ ", "ü".encode(), b"\xff\xfe", b"\x01\x7f\t", b"x" * 60,
]  # fmt: skip

# Exim itself refuses most of these.
DOMAINS = [
    "strange.test", "STRANGE.Test", "xn--bcher-kva.strange.test", "bücher.strange.test", "x-.strange.test", "192.0.2.2",
    "x" * 63 + ".strange.test", "x" * 64 + ".strange.test", "x." * 110 + "strange.test", "x.strange.test.", "_x.strange.test",
    "-x.strange.test", "--.strange.test", "--stop.strange.test", "a..strange.test", "a b.strange.test", '"x".strange.test',
    "$x.strange.test", "${x}.strange.test", "'.strange.test", "[192.0.2.2]",
]  # fmt: skip


class Gate(EximSecondary):
    def setUp(self):
        super().setUp()
        self.start_primary()

    def in_place_of_the_program(self, script):
        """Makes a shell script of what instead() names."""
        sh(f"rm -rf {self.folder}/program")
        write(f"{self.folder}/program", f"#!/bin/sh\n{script}\n")
        os.chmod(f"{self.folder}/program", 0o755)

    def instead(self, text):
        """In the text of the example, names another program, and shortens the
        time after which it is killed."""
        for old, new in [(PROGRAM, f"{self.folder}/program"), ("timeout -s KILL 15", "timeout -s KILL 2")]:
            self.assertIn(old, text)
            text = text.replace(old, new)
        return text

    def warnings(self):
        return re.findall(r"^[-0-9: ]+ (H=.* Warning: .*)$", self.secondary.log(), re.M)

    def test_who_is_asked_about(self):
        """Who may relay is not deferred; what is refused is refused, not
        deferred. The primary hears of neither."""
        for whole in [False, True]:
            with self.subTest(whole=whole):
                self.start_secondary(whole=whole)
                before = self.connections()
                self.assertEqual(self.ask(["to@example.org", "user@elsewhere.test"], client=OWN)[0], self.ACCEPTED)
                session = self.session()
                session.login("user", "password")
                self.assertEqual(recipients_of(session, ["to@example.org"]), [self.ACCEPTED])
                session.quit()
                answers = self.ask(["nobody@example.org", "user@elsewhere.test", "to@[192.0.2.6]", "to@example.org."])
                self.assertEqual([answer[:3] for answer in answers], ["550", "550", "501", "501"])
                self.assertEqual(self.connections(), before)
                self.defers()
                self.defers(sender="")
                self.defers("TO@EXAMPLE.org")
                self.defers(client="2001:db8:2::1")
                self.clean_primary(before + 4)
                self.no_trouble()
                self.secondary.stop()

    def test_fifty_recipients(self):
        """One connection to the primary serves all of them, and none is
        rejected for good."""
        self.start_secondary(cache=True)
        addresses = [f"{user}@example.org" for user in users(50)]
        session = self.session()
        began = time.monotonic()
        for _ in range(2):
            self.assertEqual(recipients_of(session, addresses), [self.deferred("")] * 50)
        self.assertLess(time.monotonic() - began, 5)
        self.clean_primary(1)
        self.primary.stop()
        wait_for(lambda: self.ask() == [self.ACCEPTED], "the cache to forget", self.secondary.log)
        self.assertEqual(recipients_of(session, addresses), [self.ACCEPTED] * 50)
        session.quit()
        self.no_trouble()
        wait_for_no_gate()

    def test_rule(self):
        """It accepts messages when the primary is down, in whatever way, and
        defers them when it is up."""
        self.start_secondary("--timeout 1", whole=True)
        self.defers()
        for way, (down, up) in self.ways().items():
            with self.subTest(way):
                down()
                began = time.monotonic()
                self.accepts()
                self.assertLess(time.monotonic() - began, 1 + SLACK)
                up()
                wait_for(lambda: self.ask() == [self.deferred("")], "a deferral", self.secondary.log)
        self.no_trouble()

    def test_log(self):
        """It tells who was deferred to which server, and why it cannot tell,
        and is silent about the rest."""
        self.start_secondary("--timeout 2", whole=True, relay="example.org : other.example")
        sh(f"rm {ETC}/relay_recipients")
        who = r"H=(client.test) [203.0.113.1] F=<from@sender.test> "
        self.defers()
        self.assertIn(f"{who}temporarily rejected RCPT <to@example.org>: Please use mx1.example.org\n", self.secondary.log())
        self.primary.stop()
        self.accepts()
        self.assertEqual(self.warnings(), [])
        # Set up for a domain by mistake. One line for all recipients of a message.
        self.assertEqual(self.ask(["user@other.example", "to@other.example"]), [self.ACCEPTED] * 2)
        self.name_server.stop()
        self.accepts()
        where = "H=(client.test) [203.0.113.1] Warning: smtpdcheck: "
        self.assertEqual(
            self.warnings(),
            [
                f"{where}other.example: none of its mail servers is a --stop host",
                f"{where}cannot look up the mail servers of 'example.org': no answer in time",
            ],
        )

    def test_by_hand(self):
        """What a postmaster types to see the answer."""
        self.start_secondary(cache=True)
        words = next(re.finditer(r"^    \$ (printf .*exim4 -bh .*)$", read(f"{SOURCE}/README.md"), re.M))[1]
        session = sh(f"ip netns exec mx2 {words.replace('you@', 'to@').replace('| exim4', '| ip netns exec mx2 exim4')}")
        self.assertIn("\n450 4.3.2 Please use mx1.example.org\n", session.replace("\r", ""))
        # Not even root's session makes a cache that Exim's user cannot use.
        self.defers()
        self.no_trouble()
        # Debian's ACL verifies the recipient first.
        self.name_server.stop()
        self.assertRegex(self.ask()[0], "^451 ")

    def test_cache_that_cannot_be_used(self):
        """The check is made without it, and the log says so."""
        self.start_secondary(cache=True)
        sh("echo something else >/var/lib/smtpdcheck/cache; chown Debian-exim /var/lib/smtpdcheck/cache")
        self.defers()
        self.primary.stop()
        self.accepts()
        self.assertEqual(len(self.warnings()), 2, self.log())
        for warning in self.warnings():
            self.assertRegex(warning, r"smtpdcheck: warning: cache '/var/lib/smtpdcheck/cache': not an smtpdcheck cache")

    def test_program_that_fails(self):
        """Mail is accepted, whatever it does and however long it takes."""
        self.start_secondary(edit=self.instead)
        for failure, (script, logged) in FAILURES.items():
            with self.subTest(failure):
                self.in_place_of_the_program(script)
                sh(f"cd {self.folder}; {DONE.get(failure, 'true')}")
                before = len(self.warnings())
                began = time.monotonic()
                self.accepts()
                self.assertLess(time.monotonic() - began, 2 + SLACK)
                self.assertEqual(len(self.warnings()), before + 1, self.log())
                self.assertRegex(self.warnings()[-1], f" Warning: smtpdcheck: {logged}$")
        self.in_place_of_the_program("echo mx1.example.org; exit 1")
        self.defers()
        # With --verbose, or with warnings.
        self.in_place_of_the_program("echo a b >&2; echo mx1.example.org; echo c d >&2; echo 'smtpdcheck: e f' >&2; exit 1")
        self.defers()
        self.assertRegex(self.warnings()[-1], f" Warning: smtpdcheck: e f$")
        self.assertNotRegex(self.secondary.log(), r"temporarily rejected (?!RCPT \S+: Please use)|panic")
        self.assertEqual(sh(f"pgrep -f [/]run.*/program || true"), "")

    def test_check_that_is_killed(self):
        """As by a machine that runs out of memory; or because Exim ends."""
        self.start_secondary("--timeout 2")
        self.primary_signal(signal.SIGSTOP)
        self.addCleanup(self.primary_signal, signal.SIGCONT)
        session = self.session()
        session.mail("from@sender.test")
        session.send("RCPT TO:<to@example.org>\r\n")
        for pid in wait_for(gates, "a check", self.secondary.log):
            os.kill(pid, signal.SIGKILL)
        self.assertEqual(session.getreply()[0], 250)
        # A client that does not wait.
        session.send("RCPT TO:<to@example.org>\r\n")
        wait_for(gates, "a check", self.secondary.log)
        session.close()
        session = self.session()
        session.mail("from@sender.test")
        session.send("RCPT TO:<to@example.org>\r\n")
        wait_for(lambda: len(gates()) > 1, "a check", self.secondary.log)
        self.secondary.stop()
        wait_for_no_gate()
        self.assertEqual(sh("pgrep -x timeout || true"), "")

    def recorded(self):
        """The arguments of each call of the program since the last time."""
        path = f"{self.folder}/arguments"
        with open(path, "rb") as file:
            calls = file.read().split(b"\0end\n")[:-1]
        os.truncate(path, 0)
        return [call.split(b"\0") for call in calls]

    def record(self, **options):
        """Starts a secondary that writes down the arguments of the program."""
        write(f"{self.folder}/arguments", "")
        os.chmod(f"{self.folder}/arguments", 0o666)
        record = f"{{ printf '%s\\0' \"$@\"; echo end; }} >>{self.folder}/arguments"
        self.in_place_of_the_program(f"{record}; echo mx1.example.org; exit 1")
        self.start_secondary(edit=self.instead, whole=True, **options)
        sh(f"rm {ETC}/relay_recipients")

    def test_strange_addresses(self):
        """No sender and no recipient breaks the command, adds an option to it,
        or gets 451."""
        self.record(cache=True)
        seed = random.Random(1)
        alphabet = [bytes([byte]) for byte in range(1, 256) if byte not in b'\r\n"\\'] + [rb"\"", rb"\\"]
        alphabet += [rb"\"", rb"\\", b"$", b"{", b"}", b" ", b"'", b"--"] * 9
        chosen = LOCAL_PARTS + [b"".join(seed.choices(alphabet, k=seed.randint(1, 20))) for _ in range(STRANGE)]
        words = "--stop mx2.example.org --mx=example.org"
        words += " --cache /var/lib/smtpdcheck/cache --cache-up-ttl 5 --max-defer 4h"
        called = 0
        for local_part in chosen:
            strange = b'<"' + local_part + b'"@'
            for sender, recipient in [(strange + b"sender.test>", b"<to@example.org>"), (PLAIN, strange + b"example.org>")]:
                session = self.session()
                session.send(b"MAIL FROM:" + sender + b"\r\n")
                answers = [session.getreply()]
                session.send(b"RCPT TO:" + recipient + b"\r\n")
                answers.append(session.getreply())
                session.close()
                where = f"{sender} {recipient} {answers}\n{self.log()}"
                calls = self.recorded()
                if answers[1][0] == 450:
                    called += 1
                    self.assertEqual(len(calls), 1, where)
                    key = calls[0].pop()
                    self.assertEqual([word.decode() for word in calls[0]], words.split(), where)
                    self.assertRegex(key, rb"(?s)\A--key=.+@sender\.test .*@example\.org\Z", where)
                    if sender != PLAIN:
                        # Exim makes blanks of some white space.
                        blank = bytes.maketrans(b"\t\x0b\x0c", b"   ")
                        expected = b"--key=" + sender[1:-1].lower() + b" to@example.org"
                        self.assertEqual(key.translate(blank), expected.translate(blank), where)
                else:
                    self.assertRegex(str(answers[-1][0]), "^5", where)
                    self.assertEqual(calls, [], where)
        machine.checked(called)
        self.assertGreater(called, STRANGE)
        self.assertNotRegex(self.secondary.log(), r"451|panic|failed to|Warning: smtpdcheck")

    def test_strange_domains(self):
        """The domain is one argument, in lower case, whatever it begins with."""
        self.record(relay="*")
        # They need not be in DNS.
        sh(f"sed -i 's/verify = recipient.*/condition = yes/' {ETC}/exim4.conf")
        self.secondary.stop()
        self.secondary.start()
        for domain in DOMAINS:
            for option in ["", " SMTPUTF8"]:
                session = self.session()
                session.send(f"MAIL FROM:<from@sender.test>{option}\r\n".encode())
                self.assertEqual(session.getreply()[0], 250)
                session.send(f"RCPT TO:<to@{domain}>\r\n".encode())
                answer = session.getreply()
                session.close()
                calls = self.recorded()
                where = f"{domain}{option} {answer}\n{self.log()}"
                if answer[0] == 450:
                    self.assertEqual(calls, [[b"--stop", b"mx2.example.org", f"--mx={domain.lower()}".encode()]], where)
                else:
                    self.assertRegex(str(answer[0]), "^5", where)
                    self.assertEqual(calls, [], where)


class MaxDefer(EximSecondary):
    SECONDS = 6

    def setUp(self):
        super().setUp()
        self.start_primary()
        self.start_secondary(f"--max-defer {self.SECONDS}", cache=True)

    def deferred_until(self, least, **options):
        """Asks until it is accepted."""
        answers = []
        while not answers or answers[-1] != self.ACCEPTED:
            self.assertLess(time.monotonic(), least + SLACK, answers)
            answers += self.ask(**options)
            time.sleep(0.2)
        # The table counts whole seconds.
        self.assertGreater(time.monotonic(), least - 1)
        self.assertEqual(set(answers[:-1]), {self.deferred("")})
        self.assertGreater(len(answers), 5)

    def test_by_sender_and_recipient(self):
        """From any address; another sender or recipient has its own time, and
        the null sender has one for each network."""
        began = time.monotonic()
        self.defers(client="203.0.113.1")
        self.defers(client="203.0.113.1", sender="")
        self.defers(client="2001:db8:2::1", sender="")
        self.deferred_until(began + self.SECONDS, client="203.0.113.9")
        self.accepts(client=STRANGER, sender="FROM@sender.test")
        self.accepts("TO@EXAMPLE.org", client=STRANGER)
        self.accepts(client="203.0.113.200", sender="")
        self.accepts(client="2001:db8:2::1", sender="")
        self.defers(client="192.0.2.5", sender="")
        self.defers(sender="another@sender.test")
        self.defers("user1@example.org")
        # Both kinds of recipient in one message.
        self.assertEqual(self.ask(["user2@example.org", "to@example.org"]), [self.deferred(""), self.ACCEPTED])
        self.no_trouble()
        wait_for_no_gate()
