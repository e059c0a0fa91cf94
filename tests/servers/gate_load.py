"""The gate for Postfix and two hundred clients at once."""

import collections
import socketserver
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor

from machine import SLACK, sh, wait_for
from postfix import PATIENT
from secondary import MX1, Secondary, recipients_of


class LateGreeting(socketserver.ThreadingTCPServer):
    """A policy service that lets a Postfix greet only after a while."""

    allow_reuse_address = daemon_threads = True
    request_queue_size = 100
    # How to use it, in main.cf.
    MAIN = """
smtpd_delay_reject = no
smtpd_client_restrictions = check_policy_service inet:192.0.2.1:10000
"""

    class RequestHandlerClass(socketserver.StreamRequestHandler):
        def handle(self):
            for line in self.rfile:
                if line == b"\n":
                    time.sleep(self.server.seconds)
                    self.wfile.write(b"action=DUNNO\n\n")

    def __init__(self, seconds):
        self.seconds = seconds
        super().__init__(("192.0.2.1", 10000), self.RequestHandlerClass)
        threading.Thread(target=self.serve_forever, daemon=True).start()


class GateLoad(Secondary):
    COUNT = 200

    def crowd(self, rounds=1, pause=0):
        """Each client has an address of its own and asks about one recipient a
        round. Returns the answers and the longest wait of each round."""
        waits = [0] * rounds
        answers = [collections.Counter() for _ in range(rounds)]
        together = threading.Barrier(self.COUNT, timeout=60)
        lock = threading.Lock()

        def client(number):
            session = self.session(f"203.0.113.{1 + number}")
            for round in range(rounds):
                together.wait()
                began = time.monotonic()
                answer = recipients_of(session, ["to@example.org"])
                with lock:
                    answers[round].update(answer)
                    waits[round] = max(waits[round], time.monotonic() - began)
                time.sleep(pause)
            session.close()

        with ThreadPoolExecutor(self.COUNT) as pool:
            list(pool.map(client, range(self.COUNT)))
        return answers, waits

    def setUp(self):
        super().setUp()
        self.start_unbound()
        # As over the Internet, or after looking up the client's name.
        late = LateGreeting(0.3)
        self.addCleanup(late.server_close)
        self.addCleanup(late.shutdown)
        self.start_primary(LateGreeting.MAIN)
        self.start_secondary("master-cache.cf", main=PATIENT)
        self.all_deferred = {self.deferred("to@example.org"): self.COUNT}
        self.accepted = {"250 2.1.5 Ok": self.COUNT}

    def test_up(self):
        """Two hundred clients that come at once make one connection to the
        primary, and then one in five seconds."""
        began = time.monotonic()
        answers, waits = self.crowd(rounds=5, pause=1.5)
        seconds = time.monotonic() - began
        self.assertEqual(answers, [self.all_deferred] * 5)
        connections = self.connections()
        print(f"\n{5 * self.COUNT} questions in {seconds:.1f} s: {connections} connections", end=" ")
        print(f"waited at most {waits[0]:.1f} s, then {max(waits[1:]):.1f} s", end=" ")
        self.assertLessEqual(connections, 2 + seconds / 5)
        self.no_trouble()

    def test_at_its_limit(self):
        """By default, a Postfix accepts fifty connections at a time from one
        client. Forty-nine are open: the gate makes one at a time."""
        self.defers()
        hold = f"import socket, time; held = [socket.create_connection(('{MX1}', 25)) for _ in range(49)]"
        hold += "; print([one.recv(99) for one in held], flush=True); time.sleep(600)"
        holder = self.start(["ip", "netns", "exec", "mx2", sys.executable, "-c", hold], log=f"{self.folder}/held.log")
        wait_for(lambda: holder.log().count("220 mx1.example.org") == 49, "49 greetings", holder.log)
        answers, _ = self.crowd(rounds=5, pause=1.5)
        self.assertEqual(answers, [self.all_deferred] * 5)
        # Its results have expired meanwhile.
        self.assertGreater(self.connections(), 49 + 1)
        self.assertNotIn("limit exceeded", self.primary.log())
        self.no_trouble()

    def test_dead(self):
        """The first clients wait for the timeout of ten seconds; then the
        primary is known to be down."""
        sh(f"ip route add blackhole {MX1}/32")
        self.addCleanup(sh, f"ip route del blackhole {MX1}/32")
        answers, waits = self.crowd(rounds=2)
        self.assertEqual(answers, [self.accepted] * 2)
        print(f"\nwaited at most {waits[0]:.1f} s, then {waits[1]:.1f} s", end=" ")
        self.assertGreaterEqual(waits[0], 10)
        self.assertLess(waits[1], SLACK)
        self.no_trouble()

    def test_refusing(self):
        """Nobody waits, and when the primary is back, everybody is
        deferred."""
        self.primary.stop()
        answers, waits = self.crowd(rounds=2)
        self.assertEqual(answers, [self.accepted] * 2)
        print(f"\nwaited at most {max(waits):.1f} s", end=" ")
        self.assertLess(max(waits), 10)
        self.primary.start()
        answers, waits = self.crowd()
        self.assertEqual(answers, [self.all_deferred])
        self.no_trouble()
