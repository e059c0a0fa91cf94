"""What all measurements of `make bench` share: programs that run in turns, the servers they ask, and the table."""

import os
import re
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
PLACES = {
    "smtpdcheck": os.environ.get("SMTPDCHECK", os.path.join(TARGET, "smtpdcheck")),
    "floor": os.path.join(WORK, "floor"),
    "check_smtp": "/usr/lib/nagios/plugins/check_smtp",
    "posttls-finger": os.path.join(POSTFIX, "usr/sbin/posttls-finger"),
}

NAME = "mx.example.org"
ROUNDS = 200  # in which two programs run, for the ratios of times
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
