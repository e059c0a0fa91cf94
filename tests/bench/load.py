"""What the measurements of all gates share: the machine, the load, the ratios, and the gate by itself.

Each of service.py, filter.py and acl.py measures one kind of mail server, on a machine of its own, which bench.py makes
the namespaces of. The mail server is a secondary of DOMAIN, with a port for each of the programs that are compared;
they defer every recipient. The primary does nothing but greet. Programs that are compared run in turns, and a ratio is
the median of the ratios of all rounds.
"""

import json
import os
import re
import statistics
import subprocess
import sys
import time
from typing import NamedTuple

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path[1:1] = [os.path.join(HERE, "../servers")]

import machine  # noqa: E402
from machine import sh, wait_for, write  # noqa: E402
from measure import PLACES, WORK, commas, end, median_ratio, milliseconds, peak_memory, spawn  # noqa: E402
from questions import BLOCK, DOMAIN, PRIMARY, SECONDARY, instructions, system_calls  # noqa: E402

ZONE = f"""
mx-host={DOMAIN},{PRIMARY[0]},10
mx-host={DOMAIN},{SECONDARY[0]},20
host-record={PRIMARY[0]},{PRIMARY[1]}
host-record={SECONDARY[0]},{SECONDARY[1]}
"""

FOLDER = "/usr/local/bin"
RUN = "/run/bench"
CACHE = "/run/cache/servers"
PROGRAMS = ["constant", "constant-filter", "gate", "primary", "sessions"]
FLOOR = f"gate {SECONDARY[0]}"

SESSIONS = (1, 10, 50)
BLOCKS = 20
QUESTIONS = 1000  # before the parent's memory is measured


class Servers:
    """Everybody who takes part, but the mail server and the programs that are measured."""

    def __init__(self):
        machine.enter("/")
        machine.set_up()
        self.folder = RUN
        self.cleanups = []
        for program in PROGRAMS:
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

    def wait_until_listening(self, programs, what, log):
        for program in programs.values():
            wait_for(lambda: machine.is_listening(program.port), what, log)


# What is found out

rows = []
# For bench.py's figures.
figures = []


def row(*cells):
    """A row of the table, which bench.py makes."""
    rows.append(cells)
    print(f"bench: {cells[0]}: {cells[1]}", file=sys.stderr)


def measure(*parts):
    """Runs these parts on a machine of its own, each with the machine as its argument, and prints what they have found
    out. Or, with arguments, runs a command there."""
    servers = Servers()
    if sys.argv[1:]:
        sys.exit(subprocess.run(sys.argv[1:], check=False).returncode)
    for part in parts:
        part(servers)
    for cleanup in servers.cleanups:
        cleanup()
    print(json.dumps({"rows": rows, "figures": figures}))


# Under load

def send(port, sessions, count):
    """So many sessions at a time send recipients, one a connection: how many are answered a second, and the median
    wait."""
    count = max(count, 2 * sessions)
    run = subprocess.run([PLACES["sessions"], SECONDARY[1], str(port), str(sessions), str(count)],
                         stdout=subprocess.PIPE, text=True, check=True, timeout=60)
    seconds, wait = map(float, run.stdout.split())
    return count / seconds, [wait / 1e6]


class Compared(NamedTuple):
    """How a program that is compared with others is asked."""

    name: str  # CONSTANT, SCRIPT or another
    port: int
    count: int  # of questions at a time: a second or two
    # In words, and the least ratios to the constant answer and to the script.
    goal: tuple[str, float, float] | None = None


STATIC, CONSTANT, SCRIPT = "static", "constant", "script"
REMEMBERING, ASKING = "with the cache", "without the cache"
FAST = ("at least 0.6 x the constant answer (aim: 0.8), 10 x the script", 0.6, 10)


def under_load(server, programs, ask, rounds):
    """Compares programs, by their commands. `ask` returns how many recipients are answered a second, and some waits."""
    for sessions in SESSIONS:
        what = f"RCPT a second through {server}, {sessions} session{'s' if sessions > 1 else ''}"
        rates, waits = ({program.name: [] for program in programs.values()} for _ in range(2))
        for program in programs.values():
            # All processes have started, and the primary is remembered.
            ask(program.port, sessions, program.count // 10)
        for i in range(rounds):
            order = list(programs.values())
            for program in order if i % 2 else reversed(order):
                rate, times = ask(program.port, sessions, program.count)
                rates[program.name].append(rate)
                waits[program.name].append(times)
        for command, program in programs.items():
            ours = sum(waits[program.name], [])
            tell(what, command, program, rates, ours)
            medians = [list(map(statistics.median, waits[name])) for name in (program.name, CONSTANT)]
            figures.append([server, program.name, sessions, statistics.median(rates[program.name]),
                            statistics.median(ours), median_ratio(rates[program.name], rates[CONSTANT]),
                            median_ratio(*medians)])


def tell(what, command, program, rates, waits):
    ours = rates[program.name]
    told = f"{commas(statistics.median(ours))}; wait {milliseconds(waits)}"
    goal = ()
    if program.name in (REMEMBERING, ASKING):
        ratios = [one / other for one, other in zip(ours, rates[CONSTANT])]
        ratio, tenfold = statistics.median(ratios), median_ratio(ours, rates[SCRIPT]) if SCRIPT in rates else 0
        told += f"; {ratio:.2f} x the constant answer ({min(ratios):.2f} to {max(ratios):.2f})"
        told += f", {tenfold:.0f} x the script" if tenfold else ""
        if program.goal:
            words, least, times = program.goal
            goal = (words, ratio >= least and tenfold >= times)
    row(what, told, command, *goal)


# The gate alone

def alone(what, floor, gates, goals):
    """One question after the other, without a mail server. `floor` and `gates` are kinds of Gate by command; `goals`
    the words and the least ratio to the floor."""
    kinds = {**floor, **gates}
    services = [kind(command) for command, kind in kinds.items()]
    times = [[] for _ in services]
    for service in services:
        service.block()
    for i in range(BLOCKS):
        order = list(zip(services, times))
        for service, results in order if i % 2 else reversed(order):
            results.append(service.block())
    for command, results in zip(kinds, times):
        told = f"{commas(1 / statistics.median(results))}"
        goal = ()
        if command in gates:
            ratios = sorted(theirs / ours for ours, theirs in zip(results, times[0]))
            ratio = statistics.median(ratios)
            told += f"; {ratio:.2f} x the C program ({ratios[BLOCKS // 10]:.2f} to {ratios[-1 - BLOCKS // 10]:.2f})"
            words, least = goals[command]
            goal = (words, ratio >= least)
        row(f"{what}: questions a second", told, command, *goal)
    for service in services:
        service.close()
    # It belongs to root, and the mail server's is nobody's.
    if os.path.exists(CACHE):
        os.remove(CACHE)
    for command, kind in kinds.items():
        row(f"{what}: user instructions of the parent a question", commas(instructions(kind, command)), command)
    for command, kind in kinds.items():
        parent, child = system_calls(kind, command)
        told = f"{commas(parent)} of the parent, {commas(child)} of the child"
        row(f"{what}: system calls a question", told, command)


def memory(what, kind, command, most=None):
    service = kind(command)
    for _ in range(QUESTIONS):
        service.ask()
    peak = peak_memory(service.process.pid)
    with open(f"/proc/{service.process.pid}/smaps_rollup", encoding="ascii") as rollup:
        private = sum(map(int, re.findall(r"Private_\w+:\s+(\d+) kB", rollup.read())))
    service.close()
    figures.append(["memory", what, QUESTIONS, peak])
    told = f"{peak} KiB, of which {private} are its own; after {commas(QUESTIONS)} questions"
    row(f"{what}: peak memory", told, command, *(() if most is None else (f"at most {most} KiB", peak <= most)))
