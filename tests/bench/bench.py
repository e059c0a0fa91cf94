"""smtpdcheck, measured beside other programs that check an SMTP server.

bench.py                   everything: prints a table, also in target/bench.md, and all figures in target/bench.json
bench.py by-name, by-mx    used by bench.py itself, in a private namespace

`make bench` installs the others, and sets the limits that are goals here. All servers are started here, on loopback;
service.py, filter.py and acl.py measure the gates. Times are from spawn to exit. They are noisy, so two programs that
are compared run in turns, and a ratio is the median of the ratios of all rounds.
"""

import json
import os
import re
import resource
import shutil
import signal
import socket
import statistics
import subprocess
import sys
import time

# Nothing is written among the sources.
sys.dont_write_bytecode = True

from measure import (  # noqa: E402
    HERE, NAME, PLACES, ROUNDS, SHOWN, TARGET, WORK, addresses, arguments, children, commas, cpu, end, environment,
    in_namespace, instructions, instructions_of_all, limit, listener, median_ratio, milliseconds, needs, peak_memory,
    refusing_port, row, rows, serve, serve_dns, set_up_namespace, spawn, system_calls, table, take_turns, wait, wall,
)
from questions import DOMAIN  # noqa: E402

POSTFIX_CONFIGURATION = """\
compatibility_level = 3.6
mail_owner = nobody
default_privs = games
setgid_group = daemon
myhostname = localhost.localdomain
"""

SMTPDCHECK = "smtpdcheck --port PORT 127.0.0.1"
FLOOR = "floor PORT 127.0.0.1"
OTHERS = [
    "check_smtp -H 127.0.0.1 -p PORT",
    "posttls-finger -l none -c [127.0.0.1]:PORT",
    "swaks --quit-after BANNER --server 127.0.0.1 --port PORT --helo localhost --from a@localhost --to a@localhost",
    "nc -z 127.0.0.1 PORT",
]
MX = f"smtpdcheck --port PORT --mx {DOMAIN}"
MX_FLOOR = f"mx PORT {DOMAIN}"
# What a careful script does without --mx; it is passed to sh -c.
DIG = f"floor PORT $(dig +short MX {DOMAIN} | sort -n | cut -d ' ' -f 2)"

CPU_ROUNDS = 21
MANY = (10, 100, 1000, 4000)
DEADLINE = 900  # seconds, for everything

# The timeout of the silent servers, in seconds.
TIMEOUT = 2

# What picture.py draws: lists of a name, what is measured, how many, and figures.
figures = []


# What is measured

def one_live():
    what = "one live server by address"
    server, port = listener()
    serving = serve(server)
    programs = []
    for command in [SMTPDCHECK, FLOOR, *OTHERS]:
        words = arguments(command, port)
        if words:
            programs.append((command, words))
        else:
            row("not here", "not measured", command)

    for command, words in programs:
        count = instructions(words)
        goal = within(count, "instructions", "check") if command == SMTPDCHECK else ()
        row(f"{what}: user instructions", commas(count), command, *goal)
    for command, words in programs:
        count = system_calls(words)[0]
        goal = within(count, "system calls", "check") if command == SMTPDCHECK else ()
        row(f"{what}: system calls", commas(count), command, *goal)

    floor = dict(programs)[FLOOR]
    for command, words in programs:
        ours, floors = take_turns(wall, words, floor)
        ratio = median_ratio(ours, floors)
        told = f"{ratio:.2f} x the floor ({milliseconds(ours)} against {milliseconds(floors)})"
        goal = ("at most 1.1 x", ratio <= 1.1) if command == SMTPDCHECK else ()
        if command != FLOOR:
            row(f"{what}: wall time", told, command, *goal)
    end(serving)

    for command, _ in programs:
        # nc does not wait for a greeting: a full queue keeps it waiting for its connection.
        waits = not command.startswith("nc ")
        server, port = listener(4096 if waits else 0)
        if not waits:
            full = [socket.socket() for _ in range(2)]
            for client in full:
                client.setblocking(False)
                client.connect_ex(("127.0.0.1", port))
        child = spawn(arguments(command, port))
        client = server.accept() if waits else None
        time.sleep(0.5)
        memory = peak_memory(child)
        end(child)
        goal = ("at most 160 KiB", memory <= 160) if command == SMTPDCHECK else ()
        row(f"{what}: peak memory", f"{commas(memory)} KiB", command, *goal)
        del client

    for command, words in programs:
        size = os.path.getsize(words[0])
        told = f"{commas(size)} bytes{needs(words[0])}"
        goal = size_goal(words[0]) if command == SMTPDCHECK else ()
        row("size", told, command.split()[0], *goal)


def within(count, kind, name):
    """The goal of a count, and whether it is met."""
    most = limit(kind, name)
    return f"at most {commas(most)}", count <= most


def size_goal(program):
    """The same for the size of the program, whose limit depends on the musl in it."""
    run = subprocess.run([os.path.join(HERE, "../package/size"), program], cwd=os.path.join(HERE, "../.."), text=True,
                         capture_output=True, check=False)
    if most := re.search(r"(?:at most|over the limit of) (\d+)", run.stdout + run.stderr):
        return f"at most {commas(int(most[1]))} bytes", run.returncode == 0
    return ()


def deciding_byte():
    server, port = listener()
    times = []
    for _ in range(ROUNDS):
        child = spawn(arguments(SMTPDCHECK, port))
        client = server.accept()[0]
        client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        client.sendall(b"220")
        time.sleep(0.005)
        begun = time.perf_counter()
        client.sendall(b" ")
        wait(child)
        times.append(time.perf_counter() - begun)
        client.close()
    median = statistics.median(times) * 1000
    row("deciding byte to exit", f"{median:.2f} ms", SMTPDCHECK, "at most 2 ms", median <= 2)


def by_name():
    """Measured with an /etc/hosts of its own."""
    run = in_namespace("by-name")
    if run.returncode:
        row("one live server by name", "not measured: no namespaces here, or it failed", SMTPDCHECK)
        return
    for command, ratio, named, addressed in json.loads(run.stdout):
        told = f"{ratio:.2f} x the same by address ({named} against {addressed})"
        goal = ("at most 2 x", ratio <= 2) if command.startswith("smtpdcheck") else ()
        row("one live server by name (hosts file)", told, command, *goal)


def by_name_inside():
    set_up_namespace(f"127.0.0.1 {NAME}\n::1 {NAME}\n", "")
    server, port = listener(family=socket.AF_INET6)
    serving = serve(server)
    told = []
    for command in (SMTPDCHECK, FLOOR):
        name = command.replace("127.0.0.1", NAME)
        names, addresses = take_turns(wall, arguments(name, port), arguments(command, port))
        told.append((name, median_ratio(names, addresses), milliseconds(names), milliseconds(addresses)))
    end(serving)
    print(json.dumps(told))


def by_mx():
    """One MX, looked up at a name server on loopback, as is its address."""
    what = "one live MX"
    if not shutil.which("dig"):
        row(what, "not measured: no dig here", MX)
        return
    run = in_namespace("by-mx")
    if run.returncode:
        row(what, "not measured: no namespaces here, or it failed", MX)
        return
    told = json.loads(run.stdout)
    for named in ("user instructions", "system calls"):
        for command, measured in told[named]:
            row(f"{what}: {named}", commas(measured), command)
    for other, ratio, ours, theirs in told["wall time"]:
        goal = ("at most 1.3 x the C program", ratio <= 1.3) if other == "C program" else ()
        row(f"{what}: wall time", f"{ratio:.2f} x the {other} ({ours} against {theirs})", MX, *goal)


def by_mx_inside():
    set_up_namespace("", "nameserver 127.0.0.1\n")
    answering = serve_dns(DOMAIN, [(NAME, "127.0.0.1")])
    server, port = listener()
    serving = serve(server)
    script = ["/bin/sh", "-c", DIG.replace("floor PORT", f"{PLACES['floor']} {port}")]
    commands = {MX: arguments(MX, port), MX_FLOOR: arguments(MX_FLOOR, port), DIG: script}
    # All must find it.
    for words in commands.values():
        found = subprocess.run(words, env=environment(words[0]), stdout=subprocess.PIPE, check=False)
        assert (found.returncode, found.stdout.rstrip(b".\n")) == (1, NAME.encode()), found
    ours, *others = take_turns(wall, *commands.values())
    told = {
        "user instructions": [(command, instructions_of_all(words)) for command, words in commands.items()],
        "system calls": [(command, system_calls(words)[0]) for command, words in commands.items()],
        "wall time": [(other, median_ratio(ours, times), milliseconds(ours), milliseconds(times))
                      for other, times in zip(("C program", "script"), others)],
    }
    end(serving)
    end(answering)
    print(json.dumps(told))


def silent():
    command = f"smtpdcheck --timeout {TIMEOUT} --port PORT"
    # One after another, as the original smtpdcheck asks them, many would take too long.
    for way, words, counts, rounds in (("together", command, (1, 10, 100, 1000), 3),
                                       ("one by one", f"{command} --jobs 1", (1, 3, 10), 1)):
        for count in counts:
            server, port = listener()
            median = statistics.median(wall(arguments(words, port) + addresses(count)) for _ in range(rounds))
            server.close()
            goal = ()
            if way == "together":
                goal = (f"{TIMEOUT} s and at most 100 ms", TIMEOUT <= median <= TIMEOUT + 0.1)
            row("n silent servers: wall time", f"n = {commas(count)}: {median:.3f} s", f"{words} {SHOWN}", *goal)
            figures.append(["silent servers", way, count, median / TIMEOUT])
    server, port = listener()
    child = spawn(arguments(command, port) + addresses(1000))
    clients = [server.accept() for _ in range(1000)]
    time.sleep(0.2)
    memory = peak_memory(child)
    wait(child)
    row("1,000 silent servers: peak memory", f"{commas(memory)} KiB", f"{command} {SHOWN}", "at most 2,048 KiB",
        memory <= 2048)
    del clients


def refusing():
    """The floor connects in succession, which is immediate where connections are refused: the least CPU time."""
    _keep, port = refusing_port()
    first = None
    command = "smtpdcheck --port PORT"
    for count in MANY:
        ours = arguments(command, port) + addresses(count)
        floor = arguments("floor PORT", port) + addresses(count)
        ours, floor = take_turns(cpu, ours, floor, rounds=CPU_ROUNDS)
        ratio = median_ratio(ours, floor)
        ours, floor = statistics.median(ours) / count, statistics.median(floor) / count
        first = first or ours
        told = f"n = {commas(count)}: {ours * 1e6:.1f} µs, {ratio:.2f} x the floor's {floor * 1e6:.1f}"
        goal = ()
        if count == MANY[-1]:
            told += f", {ours / first:.2f} x that at {MANY[0]}"
            goal = (f"at most 2 x, at most 1.5 x that at {MANY[0]}", ratio <= 2 and ours <= 1.5 * first)
        row("n refusing servers: CPU time a server", told, f"{command} {SHOWN}", *goal)


def answering():
    """The worst case of poll(2): all servers are waited for, and each answer wakes the program."""
    what = "n answers of 554, one by one: CPU time"
    command = "smtpdcheck --port PORT"
    for count in MANY:
        if resource.getrlimit(resource.RLIMIT_NOFILE)[0] < count + 100:
            row(what, f"n = {commas(count)}: not measured: too few descriptors", f"{command} {SHOWN}")
            continue
        server, port = listener()
        child = spawn(arguments(command, port) + addresses(count))
        clients = [server.accept()[0] for _ in range(count)]
        for client in clients:
            client.sendall(b"554 no\r\n")
            time.sleep(0.0005)
        used = wait(child)
        used = used.ru_utime + used.ru_stime
        told = f"n = {commas(count)}: {used * 1000:,.1f} ms, {used / count * 1e6:.1f} µs a server"
        row(what, told, f"{command} {SHOWN}")


def cached():
    """A server that is silent for a second is checked twice; the second answer comes from the cache."""
    cache = os.path.join(WORK, "cache")
    if os.path.exists(cache):
        os.remove(cache)
    _keep, port = listener()
    words = [PLACES["smtpdcheck"], "--timeout", "1", "--cache", cache, "--port", str(port), "127.0.0.1"]
    wait(spawn(words))
    count, names = system_calls(words)
    sockets = "no socket" if "socket" not in names else "a socket"
    row("answered from the cache", f"{sockets}, {count} system calls", "smtpdcheck --timeout 1 --cache FILE --port PORT 127.0.0.1",
        "no socket, at most 20", "socket" not in names and count <= 20)


def gates():
    """Measured on machines of their own: see load.py."""
    unshare = ["unshare", "--net", "--mount", "--pid", "--ipc", "--uts", "--propagation=private", "--fork",
               "--kill-child"]
    if os.geteuid() != 0:
        unshare = ["sudo", "--preserve-env=SMTPDCHECK", *unshare]
    for script, command in (("service.py", "smtpdcheck --serve postfix"), ("filter.py", "smtpdcheck --serve opensmtpd"),
                            ("acl.py", "smtpdcheck --mx in an ACL")):
        run = subprocess.run([*unshare, sys.executable, "-B", f"{HERE}/{script}"], stdout=subprocess.PIPE, check=False)
        if run.returncode:
            row("the gate", "not measured: no root or no packages here, or it failed", command)
            continue
        found = json.loads(run.stdout)
        for measured in found["rows"]:
            row(*measured)
        figures.extend(found["figures"])


def everything():
    with open(os.path.join(WORK, "main.cf"), "w", encoding="ascii") as file:
        file.write(POSTFIX_CONFIGURATION)
    begun = time.monotonic()
    for part in (one_live, deciding_byte, by_name, by_mx, silent, refusing, answering, cached, gates):
        part()
    text = f"""\
# smtpdcheck, measured beside other programs

{table()}
Instructions: `valgrind --tool=callgrind`. System calls: `strace -f -c`, including execve. Peak memory: `VmHWM` in
`/proc/PID/status`, while the program waits for a greeting (nc: for its connection). Ratios: medians of interleaved
runs, {ROUNDS} for times (from spawn to exit), {CPU_ROUNDS} for CPU times. `floor` is `tests/bench/floor.c`, static with
musl, `-Os`; `mx` is `tests/bench/mx.c`, which asks for the MX records and then for each server in turn.

The gates: `gate` is `tests/bench/gate.c`, built in the same way, which looks up and connects in turn, in a child for
each question; `constant` and `constant-filter` are `tests/bench/constant.c` and `constant-filter.c`, the least policy
service and the least filter; `script-gate` is a careful shell script around `dig` and `smtpdcheck`;
`check_recipient_access`, `match … reject` and `defer` are the mail servers' own. All recipients are deferred. The
sessions are those of `smtp-source` for Postfix, and of `tests/bench/sessions.c` for others, of which four at most wait
for a greeting; one recipient a connection. The wait is the median time that one session waits for its answer. Questions
of a gate alone come over a socket, one after the other. The least and the greatest ratio stand in parentheses; of a
gate alone the least and the greatest tenth are left out.
"""
    with open(os.path.join(TARGET, "bench.md"), "w", encoding="utf-8") as file:
        file.write(text)
    with open(os.path.join(TARGET, "bench.json"), "w", encoding="utf-8") as file:
        json.dump({"rows": rows, "figures": figures}, file, indent=1)
    print(text)
    print(f"bench: {time.monotonic() - begun:.0f} s", file=sys.stderr)


def out_of_time(*_):
    raise TimeoutError(f"bench: not done after {DEADLINE} s")


def main():
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    signal.signal(signal.SIGALRM, out_of_time)
    signal.alarm(DEADLINE)
    os.makedirs(WORK, exist_ok=True)
    try:
        match sys.argv[1:]:
            case []:
                everything()
            case ["by-name"]:
                by_name_inside()
            case ["by-mx"]:
                by_mx_inside()
            case _:
                sys.exit(__doc__)
    finally:
        for child in list(children):
            end(child)
    return 0


if __name__ == "__main__":
    sys.exit(main())
