"""Gates that are asked over a socket, as a mail server would ask them, and what a question costs them."""

import re
import socket
import subprocess
import time
from collections import Counter

from measure import CALLGRIND, COLLECTED, PLACES, STRACE, short, told_by

DOMAIN = "example.org"
PRIMARY, SECONDARY = ("mx1.example.org", "192.0.2.1"), ("mx2.example.org", "192.0.2.2")
DEFERRED = f"4.3.2 Please use {PRIMARY[0]}"
BLOCK = 100  # questions, before it is the turn of another gate

QUESTION = f"""\
request=smtpd_access_policy
protocol_state=RCPT
protocol_name=ESMTP
helo_name=sender.example.net
queue_id=
sender=from@example.net
recipient=to@{DOMAIN}
recipient_count=0
client_address=192.0.2.9
client_name=sender.example.net
reverse_client_name=sender.example.net
instance=INSTANCE
sasl_method=
sasl_username=
sasl_sender=
size=1000
ccert_subject=
ccert_issuer=
ccert_fingerprint=
ccert_pubkey_fingerprint=
encryption_protocol=
encryption_cipher=
encryption_keysize=0
etrn_domain=
stress=
client_port=50000
policy_context=
server_address={SECONDARY[1]}
server_port=25

"""


class Gate:
    """A gate that is asked over a socket, as the mail server would run it. A subclass says what a question is, by its
    number, and what the answer must be."""

    end = b"\n"

    def __init__(self, command, tracing=(), told=None):
        self.socket, other = socket.socketpair()
        name, *rest = command.split()
        options = short([PLACES[name], *rest])
        options["args"] = [*tracing, *options["args"]]
        with other:
            self.process = subprocess.Popen(**options, stdin=other, stdout=other, stderr=told)
        self.asked = 0
        self.begin()

    def begin(self):
        pass

    def question(self, number):
        raise NotImplementedError

    def answer(self, number):
        raise NotImplementedError

    def read(self, end):
        told = b""
        while not told.endswith(end):
            received = self.socket.recv(4096)
            assert received, "the gate has ended"
            told += received
        return told

    def ask(self):
        self.asked += 1
        self.socket.sendall(self.question(self.asked))
        told = self.read(self.end)
        assert told == self.answer(self.asked), told

    def block(self):
        begun = time.perf_counter()
        for _ in range(BLOCK):
            self.ask()
        return (time.perf_counter() - begun) / BLOCK

    def close(self):
        self.socket.close()
        self.process.wait()


class PolicyService(Gate):
    end = b"\n\n"

    def question(self, number):
        return QUESTION.replace("INSTANCE", f"{number:016x}").encode()

    def answer(self, number):
        return f"action=DEFER_IF_PERMIT {DEFERRED}\n\n".encode()


class Filter(Gate):
    def begin(self):
        self.socket.sendall(b"config|smtpd-version|6.8.0p2\nconfig|ready\n")
        self.read(b"register|ready\n")

    def question(self, number):
        return f"filter|0.6|{number}|smtp-in|rcpt-to|{number:016x}|{number:016x}|to@{DOMAIN}\n".encode()

    def answer(self, number):
        return f"filter-result|{number:016x}|{number:016x}|reject|450 {DEFERRED}\n".encode()


def told_about(kind, command, tracer, count):
    """What a tracer tells about a gate that is asked so many questions."""
    def run(tracing, told):
        gate = kind(command, tracing, told)
        for _ in range(count):
            gate.ask()
        gate.close()
    return told_by(tracer, run)


def one_more(measure):
    """What one more question costs after ten."""
    ten, twenty = measure(10), measure(20)
    return (twenty - ten) / 10


def instructions(kind, command):
    """How many one more question costs the parent."""
    # It is the last one to end.
    return one_more(lambda count: int(re.findall(COLLECTED, told_about(kind, command, CALLGRIND, count))[-1]))


def calls_of_processes(kind, command, count):
    """How many system calls a gate makes while it is asked so many questions, and how many each of its children, with
    its threads."""
    calls, makers = Counter(), {}
    for line in told_about(kind, command, STRACE, count).splitlines():
        process, event = line.split(maxsplit=1)
        if made := re.search(r"(?:clone3?|fork)\b.* = (\d+)$", event):
            makers[made[1]] = process
        # The rest of a call, signals, and ends of processes.
        if not event.startswith(("<", "-", "+")):
            calls[process] += 1
    parent = next(iter(calls))
    children = Counter()
    for process, made in calls.items():
        while makers.get(process, parent) != parent:
            process = makers[process]
        children[process] += made
    return children.pop(parent), list(children.values())


def system_calls(kind, command):
    """How many one more question costs the parent, and how many the child. Of children it is the least of twenty: how
    often threads wait for one another is up to chance."""
    children = calls_of_processes(kind, command, 20)[1]
    return one_more(lambda count: calls_of_processes(kind, command, count)[0]), min(children)
