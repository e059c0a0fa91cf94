"""The gate, measured beside other policy services of Postfix. bench.py runs this in namespaces of its own.

service.py                 everything: prints the rows of the table
service.py COMMAND...      runs a command among the servers, for a look at what is measured

Here Postfix is the secondary of DOMAIN, with one service of master.cf for each policy service; smtp-source sends
recipients to it, one a connection, and each is deferred. The primary does nothing but greet. Programs that are
compared run in turns, and a ratio is the median of the ratios of all rounds.
"""

import json
import os
import re
import socket
import statistics
import subprocess
import sys
import time

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path[1:1] = [os.path.join(HERE, "../servers")]

import machine  # noqa: E402
from machine import sh, wait_for, write  # noqa: E402
from measure import PLACES, WORK, commas, end, median_ratio, milliseconds, peak_memory, spawn, wait  # noqa: E402
from postfix import Postfix  # noqa: E402

DOMAIN = "example.org"
PRIMARY, SECONDARY = ("mx1.example.org", "192.0.2.1"), ("mx2.example.org", "192.0.2.2")
ZONE = f"""
mx-host={DOMAIN},{PRIMARY[0]},10
mx-host={DOMAIN},{SECONDARY[0]},20
host-record={PRIMARY[0]},{PRIMARY[1]}
host-record={SECONDARY[0]},{SECONDARY[1]}
"""

FOLDER = "/usr/local/bin"
RUN = "/run/bench"
CACHE = "/run/cache/servers"
GATE = f"smtpdcheck --serve postfix --stop {SECONDARY[0]}"
REMEMBERING = f"{GATE} --cache {CACHE} --cache-up-ttl 5"
SCRIPT = f"script-gate {SECONDARY[0]}"
CONSTANT = "constant"
STATIC = "check_recipient_access static:450"
FLOOR = f"gate {SECONDARY[0]}"

SESSIONS = (1, 10, 50)
# The port of each policy service, and how many recipients are sent at a time: a second or two.
SERVICES = {STATIC: (2501, 1000), CONSTANT: (2502, 1000), REMEMBERING: (2503, 1000), GATE: (2504, 1000),
            SCRIPT: (2505, 30)}
ROUNDS = 5
WAITS = 10  # of how many recipients the wait is measured, each time
BLOCK = 100  # questions to the service alone, before it is the other's turn
BLOCKS = 20
QUESTIONS = 1000  # before the parent's memory is measured

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
DEFERRED = b"action=DEFER_IF_PERMIT 4.3.2 Please use " + PRIMARY[0].encode() + b"\n\n"


# The machine

class Servers:
    """Everybody who takes part, but the programs that are measured."""

    def __init__(self):
        machine.enter("/")
        machine.set_up()
        self.folder = RUN
        self.cleanups = []
        for program in ("constant", "gate", "primary"):
            sh(f"install -m 755 {WORK}/{program} {FOLDER}/")
            PLACES[program] = f"{FOLDER}/{program}"
        sh(f"install -m 755 {HERE}/script-gate {FOLDER}/")
        PLACES["smtpdcheck"] = machine.PROGRAM
        sh(f"mkdir {self.folder}; install -d -o nobody {os.path.dirname(CACHE)}")
        # postlogd also logs to its own socket: with a queue of ten, the default in a new namespace, it has waited for
        # itself for ever.
        sh("sysctl -qw net.unix.max_dgram_qlen=1000")
        for _, address in (PRIMARY, SECONDARY):
            sh(f"ip address add {address}/32 dev lo")
        self.start_dns()
        spawn([PLACES["primary"], PRIMARY[1], "25"])
        wait_for(lambda: machine.is_listening(25), "the primary")

    def start_dns(self):
        write(f"{self.folder}/zone", ZONE)
        options = "--no-resolv --no-hosts --user=root --pid-file= --listen-address=127.0.0.1 --bind-interfaces"
        spawn(["/usr/sbin/dnsmasq", "--keep-in-foreground", *options.split(), "--local=/#/",
               f"--conf-file={self.folder}/zone"])
        machine.name_servers("nameserver 127.0.0.1\n")
        wait_for(lambda: sh("ss -Hlun 'sport = :53'"), "dnsmasq")

    def addCleanup(self, cleanup):
        self.cleanups.append(cleanup)

    def start_postfix(self):
        """The secondary; each policy service has a port of its own."""
        main = f"""
        relay_domains = {DOMAIN}
        relay_recipient_maps =
        mynetworks =
        smtpd_relay_restrictions = reject_unauth_destination
        smtpd_client_connection_count_limit = 0
        """
        services = ""
        for command, (port, _) in SERVICES.items():
            policy = f"check_policy_service {{ unix:private/policy{port}, default_action=DUNNO, timeout=15s }}"
            if command == STATIC:
                policy = "check_recipient_access static:{DEFER_IF_PERMIT 4.3.2 Please use mx1.example.org}"
            else:
                services += f"policy{port} unix - n n - 0 spawn user=nobody argv={FOLDER}/{command}\n"
            services += (f"{SECONDARY[1]}:{port} inet n - n - 100 smtpd -o "
                         f"{{ smtpd_recipient_restrictions = reject_unauth_destination, {policy} }}\n")
        self.postfix = Postfix(self, SECONDARY[0], main, services)
        for port, _ in SERVICES.values():
            wait_for(lambda: machine.is_listening(port), "Postfix", self.postfix.log)


# What is measured

rows = []


def row(*cells):
    """A row of the table, which bench.py makes."""
    rows.append(cells)
    print(f"bench: {cells[0]}: {cells[1]}", file=sys.stderr)


def source(port, sessions, count):
    """smtp-source, which sends recipients, one a connection."""
    return spawn(["/usr/sbin/smtp-source", "-4", "-A", "-s", str(sessions), "-m", str(count),
                  "-f", "from@example.net", "-t", f"to@{DOMAIN}", f"{SECONDARY[1]}:{port}"])


def rate(port, sessions, count):
    """How many recipients are answered a second."""
    count = max(count, 2 * sessions)
    begun = time.perf_counter()
    wait(source(port, sessions, count))
    return count / (time.perf_counter() - begun)


def session(port):
    """Sends one recipient, which must be deferred; returns how long the answer took."""
    with socket.create_connection((SECONDARY[1], port)) as client:
        replies = client.makefile("rb")
        replies.readline()
        for command in ("HELO sender.example.net", "MAIL FROM:<from@example.net>", f"RCPT TO:<to@{DOMAIN}>"):
            begun = time.perf_counter()
            client.sendall(f"{command}\r\n".encode())
            reply = replies.readline()
        took = time.perf_counter() - begun
        assert reply.startswith(b"450 4.3.2") and PRIMARY[0].encode() in reply, reply
        client.sendall(b"QUIT\r\n")
        replies.readline()
    return took


def waits(port, sessions):
    """How long the answer takes, while all sessions but this one do the same."""
    others = source(port, sessions - 1, 1000000) if sessions > 1 else None
    times = [session(port) for _ in range(WAITS)]
    if others:
        end(others)
    return times


def under_load(sessions):
    what = f"RCPT a second through Postfix, {sessions} session{'s' if sessions > 1 else ''}"
    rates, times = {command: [] for command in SERVICES}, {command: [] for command in SERVICES}
    for port, count in SERVICES.values():
        # All processes have started, and the primary is remembered.
        session(port)
        rate(port, sessions, count // 10)
    for i in range(ROUNDS):
        order = list(SERVICES.items())
        for command, (port, count) in order if i % 2 else reversed(order):
            rates[command].append(rate(port, sessions, count))
            times[command] += waits(port, sessions)
    for command in SERVICES:
        told = f"{commas(statistics.median(rates[command]))}; wait {milliseconds(times[command])}"
        ratio, tenfold = (median_ratio(rates[command], rates[other]) for other in (CONSTANT, SCRIPT))
        goal = ()
        if command in (REMEMBERING, GATE):
            ratios = [ours / constant for ours, constant in zip(rates[command], rates[CONSTANT])]
            told += (f"; {ratio:.2f} x the constant answer ({min(ratios):.2f} to {max(ratios):.2f}), "
                     f"{tenfold:.0f} x the script")
        if command == REMEMBERING:
            goal = ("at least 0.6 x the constant answer (aim: 0.8), 10 x the script", ratio >= 0.6 and tenfold >= 10)
        row(what, told, command, *goal)


class Service:
    """A policy service that is asked over a socket, as spawn(8) would run it."""

    def __init__(self, command, tracer="", told=None):
        self.socket, other = socket.socketpair()
        name, *rest = command.split()
        with other:
            words = [*tracer.split(), PLACES[name], *rest]
            self.process = subprocess.Popen(words, stdin=other, stdout=other, stderr=told)
        self.asked = 0

    def ask(self):
        self.asked += 1
        self.socket.sendall(QUESTION.replace("INSTANCE", f"{self.process.pid}.{self.asked}").encode())
        answer = b""
        while not answer.endswith(b"\n\n"):
            received = self.socket.recv(4096)
            assert received, "the service has ended"
            answer += received
        assert answer == DEFERRED, answer

    def block(self):
        begun = time.perf_counter()
        for _ in range(BLOCK):
            self.ask()
        return (time.perf_counter() - begun) / BLOCK

    def close(self):
        self.socket.close()
        self.process.wait()


def alone():
    """One question after the other, without Postfix."""
    commands = [FLOOR, GATE, REMEMBERING]
    services = [Service(command) for command in commands]
    times = [[] for _ in services]
    for service in services:
        service.block()
    for i in range(BLOCKS):
        order = list(zip(services, times))
        for service, results in order if i % 2 else reversed(order):
            results.append(service.block())
    for command, results in zip(commands, times):
        told = f"{commas(1 / statistics.median(results))}"
        goal = ()
        if command != FLOOR:
            ratios = sorted(theirs / ours for ours, theirs in zip(results, times[0]))
            ratio = statistics.median(ratios)
            told += f"; {ratio:.2f} x the C program ({ratios[BLOCKS // 10]:.2f} to {ratios[-1 - BLOCKS // 10]:.2f})"
            goal = ("at least 0.7 x (aim: 0.9)", ratio >= 0.7) if command == GATE else ("more than 1 x", ratio > 1)
        row("the service alone: questions a second", told, command, *goal)
    for service in services:
        service.close()


def each_question():
    """What one more question costs, after ten."""
    for what, tracer, pattern in (
        ("user instructions of the parent a question", "valgrind --tool=callgrind --callgrind-out-file=/dev/null",
         r"Collected : (\d+)"),
        ("system calls a question", "strace -f -c -U calls,name", r"(\d+) total"),
    ):
        for command in (FLOOR, GATE, REMEMBERING):
            totals = []
            for count in (10, 20):
                told = f"{RUN}/{tracer.split()[0]}"
                with open(told, "wb") as file:
                    service = Service(command, f"/usr/bin/{tracer}", file)
                for _ in range(count):
                    service.ask()
                service.close()
                with open(told, encoding="utf-8") as file:
                    # The parent is the last one to end.
                    totals.append(int(re.findall(pattern, file.read())[-1]))
            row(f"the service alone: {what}", commas((totals[1] - totals[0]) / 10), command)


def memory():
    service = Service(GATE)
    for _ in range(QUESTIONS):
        service.ask()
    peak = peak_memory(service.process.pid)
    with open(f"/proc/{service.process.pid}/smaps_rollup", encoding="ascii") as rollup:
        private = sum(map(int, re.findall(r"Private_\w+:\s+(\d+) kB", rollup.read())))
    service.close()
    told = f"{peak} KiB, of which {private} are its own; after {commas(QUESTIONS)} questions"
    row("the service alone: peak memory", told, GATE, "at most 200 KiB", peak <= 200)


def main():
    servers = Servers()
    if sys.argv[1:]:
        return subprocess.run(sys.argv[1:], check=False).returncode
    alone()
    each_question()
    memory()
    servers.start_postfix()
    for sessions in SESSIONS:
        under_load(sessions)
    for cleanup in servers.cleanups:
        cleanup()
    print(json.dumps(rows))
    return 0


if __name__ == "__main__":
    sys.exit(main())
