"""smtpdcheck, measured beside other programs that check an SMTP server.

bench.py                        everything: prints a table, also in target/bench.md
bench.py instructions BUDGET    only smtpdcheck's instructions for one live server; fails if there are more than BUDGET
bench.py by-name, by-mx         used by bench.py itself, in a private namespace

`make bench` installs the others. All servers are started here, on loopback. Times are from spawn to exit. They are
noisy, so two programs that are compared run in turns, and a ratio is the median of the ratios of all rounds.
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

HERE = os.path.dirname(os.path.abspath(__file__))
TARGET = os.path.join(HERE, "../../target")
WORK = os.path.join(TARGET, "bench")
POSTFIX = os.path.join(WORK, "postfix")

# posttls-finger reads Postfix's configuration. It needs three users, and looks up its own name unless it is given.
POSTFIX_ENVIRONMENT = {"MAIL_CONFIG": WORK, "LD_LIBRARY_PATH": os.path.join(POSTFIX, "usr/lib/postfix")}
POSTFIX_CONFIGURATION = """\
compatibility_level = 3.6
mail_owner = nobody
default_privs = games
setgid_group = daemon
myhostname = localhost.localdomain
"""
PLACES = {
    "smtpdcheck": os.environ.get("SMTPDCHECK", os.path.join(TARGET, "smtpdcheck")),
    "floor": os.path.join(WORK, "floor"),
    "check_smtp": "/usr/lib/nagios/plugins/check_smtp",
    "posttls-finger": os.path.join(POSTFIX, "usr/sbin/posttls-finger"),
}

SMTPDCHECK = "smtpdcheck --port PORT 127.0.0.1"
FLOOR = "floor PORT 127.0.0.1"
OTHERS = [
    "check_smtp -H 127.0.0.1 -p PORT",
    "posttls-finger -l none -c [127.0.0.1]:PORT",
    "swaks --quit-after BANNER --server 127.0.0.1 --port PORT --helo localhost --from a@localhost --to a@localhost",
    "nc -z 127.0.0.1 PORT",
]
NAME = "mx.example.org"
DOMAIN = "example.org"
MX = f"smtpdcheck --port PORT --mx {DOMAIN}"
# What a careful script does without --mx; it is passed to sh -c.
DIG = f"floor PORT $(dig +short MX {DOMAIN} | sort -n | cut -d ' ' -f 2)"

ROUNDS = 200  # in which two programs run, for the ratios of times
CPU_ROUNDS = 21
MANY = (10, 100, 1000, 4000)
DEADLINE = 300  # seconds, for everything

GREETING = b"220 mx.example.org ESMTP\r\n"


# Processes

children = set()


def arguments(command, port):
    """The words of a command, with the path of the program; None if it is not installed."""
    name, *rest = command.replace("PORT", str(port)).split()
    place = PLACES.get(name) or shutil.which(name)
    return [place, *rest] if place and os.path.exists(place) else None


def environment(program):
    return {"PATH": "/usr/bin:/bin", **(POSTFIX_ENVIRONMENT if program.startswith(POSTFIX) else {})}


def spawn(words):
    null = [(os.POSIX_SPAWN_OPEN, fd, "/dev/null", os.O_RDWR, 0) for fd in (0, 1, 2)]
    child = os.posix_spawn(words[0], words, environment(words[0]), file_actions=null)
    children.add(child)
    return child


def wait(child):
    """Waits for a child to end; returns its resource usage."""
    used = os.wait4(child, 0)[2]
    children.discard(child)
    return used


def end(child):
    os.kill(child, signal.SIGKILL)
    return wait(child)


def wall(words):
    begun = time.perf_counter()
    wait(spawn(words))
    return time.perf_counter() - begun


def cpu(words):
    used = wait(spawn(words))
    return used.ru_utime + used.ru_stime


def take_turns(measure, *commands, rounds=ROUNDS):
    """Measures each command in each round, in alternating order, so that none always follows the same one."""
    measured = [[] for _ in commands]
    for i in range(rounds):
        order = list(zip(commands, measured))
        for words, results in order if i % 2 else reversed(order):
            results.append(measure(words))
    return measured


def median_ratio(ones, others):
    return statistics.median(one / other for one, other in zip(ones, others))


def milliseconds(times):
    return f"{statistics.median(times) * 1000:.2f} ms"


def traced(tracer, words):
    """The output of a tracer about a command."""
    run = subprocess.run([*tracer, *words], env=environment(words[0]), stdin=subprocess.DEVNULL,
                         stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True, timeout=120, check=False)
    return run.stderr


def instructions(words):
    told = traced(["/usr/bin/valgrind", "--tool=callgrind", "--callgrind-out-file=/dev/null"], words)
    return int(re.search(r"Collected : (\d+)", told)[1])


def instructions_of_all(words):
    """The same, with those of all processes that the command starts."""
    told = traced(["/usr/bin/valgrind", "--tool=callgrind", "--callgrind-out-file=/dev/null", "--trace-children=yes"],
                  words)
    return sum(map(int, re.findall(r"Collected : (\d+)", told)))


def system_calls(words):
    """How many system calls a command makes, including execve(2) and those of threads, and their names."""
    summary = os.path.join(WORK, "strace")
    traced(["/usr/bin/strace", "-f", "-c", "-U", "calls,name", "-o", summary], words)
    with open(summary, encoding="ascii") as file:
        counts = dict(reversed(line.split()) for line in file if re.match(r" *\d+ \w+$", line))
    return int(counts.pop("total")), set(counts)


def peak_memory(child):
    with open(f"/proc/{child}/status", encoding="ascii") as status:
        return int(re.search(r"VmHWM:\s+(\d+) kB", status.read())[1])


def needs(program):
    """The files that a program needs, in words."""
    with open(program, "rb") as file:
        if file.read(2) == b"#!":
            return " and its interpreter"
    told = subprocess.run(["ldd", program], env=environment(program), capture_output=True, text=True, check=False)
    size = sum(map(os.path.getsize, re.findall(r"=> (/\S+)", told.stdout)))
    return f" and {size / 1e6:.1f} MB of libraries" if size else ""


# Servers

SHOWN = "127.1.0.1 127.1.0.2 …"


def addresses(count):
    """This many addresses of the loopback network; the first ones are SHOWN."""
    return [f"127.{1 + i // 62500}.{i // 250 % 250}.{1 + i % 250}" for i in range(count)]


def listener(backlog=4096, family=socket.AF_INET):
    server = socket.socket(family)
    if family == socket.AF_INET6:
        server.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
    server.bind(("", 0))
    server.listen(backlog)
    return server, server.getsockname()[1]


def refusing_port():
    """A port on which connections are refused, as long as the socket exists."""
    server = socket.socket()
    server.bind(("", 0))
    return server, server.getsockname()[1]


def serve(server):
    """Greets one client after another, in a child process."""
    child = os.fork()
    if child:
        children.add(child)
        return child
    parent = os.getppid()
    server.settimeout(1)
    while os.getppid() == parent:
        try:
            client = server.accept()[0]
            client.settimeout(60)
            client.sendall(GREETING)
            while (command := client.recv(512)) and not command.startswith(b"QUIT"):
                client.sendall(b"250 localhost\r\n")
            client.sendall(b"221 bye\r\n")
            client.close()
        except OSError:
            pass
    os._exit(0)


def serve_dns():
    """A name server, in a child process: DOMAIN has one MX record, NAME; every name has the address 127.0.0.1."""
    server = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    server.bind(("127.0.0.1", 53))
    child = os.fork()
    if child:
        server.close()
        children.add(child)
        return child
    parent = os.getppid()
    server.settimeout(1)
    name = b"".join(bytes([len(label)]) + label.encode() for label in NAME.split(".")) + b"\0"
    data = {1: socket.inet_aton("127.0.0.1"), 15: b"\0\x0a" + name}
    while os.getppid() == parent:
        try:
            query, client = server.recvfrom(512)
        except OSError:
            continue
        # A query may have an OPT record behind its question, which ends with a type and the class IN.
        end_of_name = query.index(b"\0", 12)
        question = query[12:end_of_name + 5]
        kind = int.from_bytes(query[end_of_name + 1:end_of_name + 3])
        record = b""
        if kind in data:
            fixed = kind.to_bytes(2) + b"\0\1\0\0\0\x3c" + len(data[kind]).to_bytes(2)
            record = b"\xc0\x0c" + fixed + data[kind]
        counts = b"\0\1\0" + bytes([bool(record)]) + b"\0\0\0\0"
        server.sendto(query[:2] + b"\x81\x80" + counts + question + record, client)
    os._exit(0)


# The table

rows = []


def commas(number):
    return f"{number:,.0f}"


def row(what, measured, command, goal="", met=None):
    """Adds a row to the table."""
    if met is not None:
        goal += ": met" if met else ": NOT met"
    rows.append((what, measured, goal, command))
    print(f"bench: {what}: {measured}", file=sys.stderr)


def table():
    """The table in Markdown. What is the same as in the row above is left out."""
    lines = [("what", "measured", "goal", "command"), *rows]
    lines = [(what if what != before else "", *rest) for (before, *_), (what, *rest) in zip([("",)] + lines, lines)]
    lines = [[*line[:3], line[3] and f"`{line[3]}`"] for line in lines]
    lines[0][3] = "command"
    widths = [max(map(len, column)) for column in zip(*lines)]
    lines.insert(1, ["-" * width for width in widths])
    lines = ["| " + " | ".join(map(str.ljust, line, widths)) + " |" for line in lines]
    return "\n".join(lines) + "\n"


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
        goal = ("at most 20,000", count <= 20000) if command == SMTPDCHECK else ()
        row(f"{what}: user instructions", commas(count), command, *goal)
    for command, words in programs:
        count = system_calls(words)[0]
        goal = ("at most 24", count <= 24) if command == SMTPDCHECK else ()
        row(f"{what}: system calls", commas(count), command, *goal)

    floor = dict(programs)[FLOOR]
    for command, words in programs:
        ours, floors = take_turns(wall, words, floor)
        ratio = median_ratio(ours, floors)
        told = f"{ratio:.2f} x the floor ({milliseconds(ours)} against {milliseconds(floors)})"
        goal = ("at most 1.25 x", ratio <= 1.25) if command == SMTPDCHECK else ()
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
        goal = ("at most 98,304 bytes; aim: 80,000", size <= 98304) if command == SMTPDCHECK else ()
        row("size", told, command.split()[0], *goal)


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


def in_namespace(part):
    """Runs a part of this program in a private namespace; returns what it prints."""
    # A user other than root may have namespaces all the same.
    unshare = ["unshare", "-m", "-n"] + ([] if os.geteuid() == 0 else ["-r"])
    return subprocess.run([*unshare, sys.executable, __file__, part], stdout=subprocess.PIPE, check=False)


def set_up_namespace(hosts, resolv_conf):
    for path, text in (("/etc/hosts", hosts), ("/etc/resolv.conf", resolv_conf)):
        mine = os.path.join(WORK, os.path.basename(path))
        with open(mine, "w", encoding="ascii") as file:
            file.write(text)
        if os.path.exists(path):
            subprocess.run(["mount", "--bind", mine, path], check=True)
    subprocess.run(["ip", "link", "set", "lo", "up"], check=True)


def by_name():
    """Measured with an /etc/hosts of its own."""
    run = in_namespace("by-name")
    if run.returncode:
        row("one live server by name", "not measured: no namespaces here", SMTPDCHECK)
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
        row(what, "not measured: no namespaces here", MX)
        return
    told = json.loads(run.stdout)
    for command, measured in zip((MX, DIG), told["instructions"]):
        row(f"{what}: user instructions", commas(measured), command)
    for command, measured in zip((MX, DIG), told["calls"]):
        row(f"{what}: system calls", commas(measured), command)
    row(f"{what}: wall time", f"{told['ratio']:.2f} x the script ({told['ours']} against {told['script']})", MX)


def by_mx_inside():
    set_up_namespace("", "nameserver 127.0.0.1\n")
    answering = serve_dns()
    server, port = listener()
    serving = serve(server)
    ours, script = arguments(MX, port), ["/bin/sh", "-c", DIG.replace("floor PORT", f"{PLACES['floor']} {port}")]
    # Both must find it.
    for words in (ours, script):
        found = subprocess.run(words, env=environment(words[0]), stdout=subprocess.PIPE, check=False)
        assert (found.returncode, found.stdout.rstrip(b".\n")) == (1, NAME.encode()), found
    our_times, script_times = take_turns(wall, ours, script)
    told = {
        "instructions": [instructions_of_all(words) for words in (ours, script)],
        "calls": [system_calls(words)[0] for words in (ours, script)],
        "ratio": median_ratio(our_times, script_times),
        "ours": milliseconds(our_times),
        "script": milliseconds(script_times),
    }
    end(serving)
    end(answering)
    print(json.dumps(told))


def silent():
    command = "smtpdcheck --timeout 2 --port PORT"
    for count in (1, 10, 100, 1000):
        server, port = listener()
        words = arguments(command, port) + addresses(count)
        median = statistics.median(wall(words) for _ in range(3))
        server.close()
        row("n silent servers: wall time", f"n = {commas(count)}: {median:.3f} s", f"{command} {SHOWN}",
            "2 s and at most 100 ms", 2 <= median <= 2.1)
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


def within_budget(budget):
    server, port = listener()
    serve(server)
    count = instructions(arguments(SMTPDCHECK, port))
    print(f"one live server by address: {commas(count)} instructions, at most {commas(budget)}")
    return count <= budget


def everything():
    with open(os.path.join(WORK, "main.cf"), "w", encoding="ascii") as file:
        file.write(POSTFIX_CONFIGURATION)
    begun = time.monotonic()
    for part in (one_live, deciding_byte, by_name, by_mx, silent, refusing, answering, cached):
        part()
    text = f"""\
# smtpdcheck, measured beside other programs

{table()}
Instructions: `valgrind --tool=callgrind`. System calls: `strace -f -c`, including execve. Peak memory: `VmHWM` in
`/proc/PID/status`, while the program waits for a greeting (nc: for its connection). Ratios: medians of interleaved
runs, {ROUNDS} for times (from spawn to exit), {CPU_ROUNDS} for CPU times. `floor` is `tests/bench/floor.c`, static with
musl, `-Os`.
"""
    with open(os.path.join(TARGET, "bench.md"), "w", encoding="utf-8") as file:
        file.write(text)
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
            case ["instructions", budget]:
                return 0 if within_budget(int(budget)) else 1
            case _:
                sys.exit(__doc__)
    finally:
        for child in list(children):
            end(child)
    return 0


if __name__ == "__main__":
    sys.exit(main())
