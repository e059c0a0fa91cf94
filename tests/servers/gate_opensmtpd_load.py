"""The gate for OpenSMTPD and four hundred clients at once."""

import collections
import os
import random
import re
import signal
import time

from gate_load import LateGreeting
from machine import SLACK, checked, sh, wait_for, write
from opensmtpd import OpenSmtpdSecondary
from secondary import MX1, gates


class GateLoad(OpenSmtpdSecondary):
    COUNT = 400
    # Fewer than the gate checks at a time.
    DOMAINS = [f"d{i}.example" for i in range(50)]

    def setUp(self):
        super().setUp()
        self.start_unbound(self.DOMAINS)
        # As over the Internet, or after looking up the client's name.
        late = LateGreeting(0.3)
        self.addCleanup(late.server_close)
        self.addCleanup(late.shutdown)
        self.start_primary(LateGreeting.MAIN)
        self.accepted = {self.ACCEPTED: self.COUNT}
        self.all_deferred = {self.deferred(""): self.COUNT}

    def open(self):
        """So many sessions, which have named their senders. They are opened one
        after another and kept: smtpd's backlog is five, and of more that come
        at once, some would wait for its greeting for seconds or for ever."""
        self.sessions = []
        for number in range(self.COUNT):
            session = self.session(f"203.0.113.{1 + number % 250}")
            session.mail("from@sender.test")
            self.sessions.append(session)

    def ask_all(self, domains=("example.org",), meanwhile=None):
        """All ask about a recipient before one of them reads its answer.
        Returns the answers and the longest wait."""
        began = time.monotonic()
        for number, session in enumerate(self.sessions):
            session.send(f"RCPT TO:<to@{domains[number % len(domains)]}>\r\n")
        if meanwhile:
            meanwhile()
        answers = collections.Counter()
        for session in self.sessions:
            code, text = session.getreply()
            answers[f"{code} {text.decode()}"] += 1
        checked(self.COUNT)
        return answers, time.monotonic() - began

    def start_for_all_domains(self, *arguments, **options):
        """And for all the domains."""
        self.start_secondary(*arguments, **options)
        for file, prefix in [("domains", ""), ("recipients", "@")]:
            lines = [f"{prefix}{domain}\n" for domain in ["example.org", *self.DOMAINS]]
            write(f"/etc/smtpd/{file}", "".join(lines))
            self.secondary.control(f"update table {file}")

    def test_up(self):
        """Four hundred clients that ask at once, and again, cause one
        connection to the primary in five seconds."""
        self.start_secondary(cache=True)
        self.open()
        began = time.monotonic()
        answers, waits = zip(*[self.ask_all() for _ in range(5)])
        seconds = time.monotonic() - began
        self.assertEqual(list(answers), [self.all_deferred] * 5)
        print(f"\n{5 * self.COUNT} questions in {seconds:.1f} s, waited at most {max(waits):.1f} s", end=" ")
        self.assertLessEqual(self.connections(), 1 + seconds / 5)
        self.clean_primary(self.connections())
        self.no_trouble()

    def test_without_a_cache(self):
        """Those that ask while a check runs share its answer."""
        self.start_for_all_domains()
        self.open()
        answers, _ = self.ask_all()
        self.assertEqual(answers, self.all_deferred)
        few = self.connections()
        self.assertLess(few, 20)
        # One for each domain at least.
        answers, seconds = self.ask_all(self.DOMAINS)
        self.assertEqual(answers, self.all_deferred)
        connections = self.connections() - few
        print(f"\n{few} connections, then {connections} in {seconds:.1f} s", end=" ")
        self.assertGreaterEqual(connections, len(self.DOMAINS))
        self.assertLess(connections, 3 * len(self.DOMAINS))
        self.clean_primary(few + connections)
        self.no_trouble()

    def test_dead(self):
        """The first clients wait for the timeout; then the primary is known to
        be down."""
        self.start_secondary("--timeout 3", cache=True)
        sh(f"ip route add blackhole {MX1}/32")
        self.addCleanup(sh, f"ip route del blackhole {MX1}/32")
        self.open()
        answers, waits = zip(*[self.ask_all() for _ in range(2)])
        self.assertEqual(list(answers), [self.accepted] * 2)
        print(f"\nwaited at most {waits[0]:.1f} s, then {waits[1]:.1f} s", end=" ")
        self.assertGreaterEqual(waits[0], 3)
        self.assertLess(waits[0], 3 + SLACK)
        self.assertLess(waits[1], SLACK)
        self.no_trouble()

    def test_dead_without_a_cache(self):
        """There are many more clients than checks, and more domains: the last
        domains wait for the first."""
        self.start_for_all_domains("--timeout 3")
        sh(f"ip route add blackhole {MX1}/32")
        self.addCleanup(sh, f"ip route del blackhole {MX1}/32")
        self.open()
        answers, seconds = self.ask_all(self.DOMAINS)
        self.assertEqual(answers, self.accepted)
        self.assertGreaterEqual(seconds, 6)
        self.assertLess(seconds, 6 + SLACK)
        self.no_trouble()

    def test_killed(self):
        """Each question is answered, whichever children are killed, and smtpd
        stays alive."""
        self.start_for_all_domains("--timeout 3")
        self.primary_signal(signal.SIGSTOP)
        self.addCleanup(self.primary_signal, signal.SIGCONT)
        self.open()
        parent = gates()[0]
        killed = 0

        def kill():
            nonlocal killed
            chance, until = random.Random(13), time.monotonic() + 5
            while time.monotonic() < until:
                for pid in gates():
                    if pid != parent and chance.random() < 0.2:
                        try:
                            os.kill(pid, chance.choice([signal.SIGKILL, signal.SIGTERM, signal.SIGSEGV]))
                            killed += 1
                        except ProcessLookupError:
                            pass

        answers, _ = self.ask_all(self.DOMAINS, kill)
        self.assertEqual(answers, self.accepted)
        print(f"\n{killed} killed", end=" ")
        self.assertGreater(killed, len(self.DOMAINS) // 2)
        self.primary_signal(signal.SIGCONT)
        wait_for(lambda: gates() == [parent], "the end of all checks")
        # First the primary meets all those who connected and were killed.
        wait_for(lambda: self.ask() == [self.deferred("")], "a deferral", self.secondary.log)
        answers, _ = self.ask_all()
        self.assertEqual(answers, self.all_deferred)
        lines = re.findall("^smtpdcheck: (.*)", self.secondary.log(), re.M)
        self.assertRegex("\n".join(lines), "killed")
        self.assertLessEqual(len(lines), killed)
