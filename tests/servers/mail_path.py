"""The path of a message from a sender to a primary, directly or by way of a
secondary that asks the program: it accepts messages while the primary is down,
and defers them while it is up.
"""

import collections
import glob
import re
import subprocess
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import machine
from exim import EximSecondary
from machine import wait_for
from opensmtpd import OpenSmtpdSecondary
from postfix import HURRY, PATIENT, Postfix
from secondary import MX2, Secondary, recipients_of

CYCLES = 50
RATE = 8
# So many sessions ask the secondary all the time, once a second each.
LOAD = 50


class MailPath:
    """Whatever the secondary is."""

    # In its log: an accepted message with its name, and a deferral, both of the sender's.
    ACCEPTED_MESSAGE = DEFERRAL = ""

    def start_prompt_secondary(self, cache):
        """That takes no longer than a second to ask the primary, nor to try
        again to deliver, and may have a cache, of a second as well."""
        raise NotImplementedError

    def setUp(self):
        super().setUp()
        self.start_primary()

    def deliver(self, address, count=1):
        """Sends messages to a server; returns the errors."""
        words = ["smtp-source", "-4", "-m", str(count), "-s", str(min(count, 5)), "-f", "from@sender.test"]
        done = subprocess.run([*words, "-t", "to@example.org", f"{address}:25"], capture_output=True, text=True)
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

    def queued(self, server):
        return self.ids(server.queue_files())

    def drain(self, condition, *servers):
        """Waits for a condition of the queues."""

        def is_drained():
            for server in servers:
                server.try_again()
            time.sleep(3)
            return condition()

        wait_for(is_drained, "the queues to drain", servers[0].log, seconds=40)

    def keep_asking(self, number, ended):
        """A client that asks about a recipient once a second and sends
        nothing. Returns the answers and the longest wait."""
        answers, longest = collections.Counter(), 0
        session = self.session(f"203.0.113.{1 + number}")
        while not ended.wait(1):
            began = time.monotonic()
            answers.update(recipients_of(session, [f"user{1 + number}@example.org"], "asks@sender.test"))
            longest = max(longest, time.monotonic() - began)
        session.quit()
        return answers, longest

    def test_rule(self):
        """The secondary accepts messages when the primary is down, in whatever
        way, and defers them, naming the primary, when it is up."""
        # A shorter timeout than the sender's.
        self.start_prompt_secondary(cache=False)
        deferred = self.deferred("to@example.org")
        self.assertIn(deferred, self.deliver(MX2))
        for way, (down, up) in self.ways().items():
            with self.subTest(way):
                down()
                self.assertEqual(self.deliver(MX2, 5), "")
                up()
                wait_for(lambda: deferred in self.deliver(MX2), "a deferral", self.secondary.log)
        self.no_trouble()

    def test_no_mail_is_lost(self):
        """The primary goes down and up fifty times while messages come in, and
        fifty clients ask."""
        self.start_prompt_secondary(cache=True)
        # It tries one of the two first, at random.
        sender = Postfix(
            self,
            "sender.test",
            HURRY + "smtp_dns_support_level = enabled\nrelayhost = [both.example.org]\n",
            "127.0.0.1:25 inet n - n - 100 smtpd\n",
        )
        ended = threading.Event()
        with ThreadPoolExecutor(LOAD) as pool:
            clients = [pool.submit(self.keep_asking, number, ended) for number in range(LOAD)]
            try:
                count = self.send_and_flip()
            finally:
                ended.set()
        asked, longest = collections.Counter(), 0
        for client in clients:
            answers, wait = client.result()
            asked.update(answer[:3] for answer in answers.elements())
            longest = max(longest, wait)

        try:
            self.drain(lambda: len(self.delivered()) >= count, self.secondary, sender)
        except AssertionError:
            # What is still queued is not lost.
            print(self.secondary.queue_list(), sender.queue_list(), end="")
        delivered = self.delivered()
        at_sender, at_secondary = self.queued(sender) - delivered, self.queued(self.secondary) - delivered
        accepted = len(set(re.findall(self.ACCEPTED_MESSAGE, self.secondary.log())))
        deferrals = len(re.findall(self.DEFERRAL, self.secondary.log()))
        machine.checked(deferrals)
        print(
            f"\n{count} sent = {len(delivered)} delivered + {len(at_sender)} queued at the sender"
            f" + {len(at_secondary)} at the secondary, which accepted {accepted}, deferred {deferrals} times,"
            f" and answered {dict(asked)} others, at most {longest:.1f} s each",
            end=" ",
        )
        self.assertEqual(len(delivered | at_sender | at_secondary), count)
        self.assertGreater(deferrals, 0)
        self.assertGreater(accepted, 0)
        self.assertEqual(set(asked), {"250", "450"})
        # The gate answers two seconds after its timeout at the latest.
        self.assertLess(longest, 1 + 2 + machine.SLACK)
        for log in [sender.log(), self.secondary.log(), self.primary.log()]:
            self.assertNotRegex(log, r"status=bounced|PermFail| \*\* |fatal:|panic|problem talking to server|lost processor")

    def send_and_flip(self):
        """Sends messages for as long as the primary goes down and up; returns
        how many."""
        began = time.monotonic()
        count = int(CYCLES * 1.5 * RATE)
        words = f"/usr/sbin/smtp-source -4 -m {count} -s {RATE} -w 1 -f from@sender.test -t to@example.org 127.0.0.1:25"
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
        return count


class ByPostfix(MailPath, Secondary):
    ACCEPTED_MESSAGE = r"qmgr\[\d+\]: (\w+): from=<from@sender\.test>"
    DEFERRAL = r"Please use mx1\.example\.org; from=<from@sender\.test>"

    def start_prompt_secondary(self, cache):
        if cache:
            self.start_secondary("master-cache.cf", "--timeout 1 --cache-ttl 1 --cache-up-ttl 1", HURRY + PATIENT)
        else:
            self.start_secondary(arguments="--timeout 1", main=HURRY)


class ByOpenSmtpd(MailPath, OpenSmtpdSecondary):
    # The others are user1 to user50.
    ACCEPTED_MESSAGE = r"smtp envelope evpid=(\w+) from=<from@sender\.test>"
    DEFERRAL = r"RCPT TO:<to@example\.org>.*Please use mx1\.example\.org"

    def start_prompt_secondary(self, cache):
        """It tries again after 400 seconds, and that cannot be changed."""
        self.start_secondary("--timeout 1" + (" --cache-ttl 1 --cache-up-ttl 1" if cache else ""), cache=cache)


class ByExim(MailPath, EximSecondary):
    ACCEPTED_MESSAGE = r"(\S+) <= from@sender\.test "
    DEFERRAL = r"F=<from@sender\.test> temporarily rejected RCPT .*: Please use mx1\.example\.org"

    def start_prompt_secondary(self, cache):
        cached = " --cache-ttl 1 --cache-up-ttl 1" if cache else ""
        self.start_secondary(f"--timeout 1{cached}", cache=cache, hurry=True)
