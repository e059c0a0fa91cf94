"""What all measurements of `make bench` share: programs that run in turns, the servers they ask, and the table."""

import os
import re
import shutil
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import time

HERE = os.path.dirname(os.path.abspath(__file__))
TARGET = os.path.join(HERE, "../../target")
WORK = os.path.join(TARGET, "bench")
POSTFIX = os.path.join(WORK, "postfix")

# posttls-finger reads Postfix's configuration. It needs three users, and looks up its own name unless it is given.
POSTFIX_ENVIRONMENT = {"MAIL_CONFIG": WORK, "LD_LIBRARY_PATH": os.path.join(POSTFIX, "usr/lib/postfix")}
PLACES = {
    "smtpdcheck": os.path.realpath(os.environ.get("SMTPDCHECK", os.path.join(TARGET, "smtpdcheck"))),
    "floor": os.path.join(WORK, "floor"),
    "mx": os.path.join(WORK, "mx"),
    "check_smtp": "/usr/lib/nagios/plugins/check_smtp",
    "posttls-finger": os.path.join(POSTFIX, "usr/sbin/posttls-finger"),
}

# Tracers. They write to the file TOLD, or to standard error, which is the same one. What they trace has a PATH of ours.
CALLGRIND = f"{shutil.which('valgrind')} --tool=callgrind --callgrind-out-file=/dev/null"
COLLECTED = r"Collected : (\d+)"
STRACE = f"{shutil.which('strace')} -f -o TOLD"

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


def told_by(tracer, run):
    """What a tracer tells about a program that `run` runs, given the words to put before it and its standard error."""
    with tempfile.NamedTemporaryFile("r", encoding="utf-8") as told:
        # strace writes to the file itself: there, what the program says would be in the way.
        run(tracer.replace("TOLD", told.name).split(), subprocess.DEVNULL if "TOLD" in tracer else told)
        told.seek(0)
        return told.read()


def short(words):
    """A command and the folder to run it in. The C library reads the whole name, so that is to be short."""
    folder, name = os.path.split(words[0])
    return {"args": [f"./{name}", *words[1:]], "cwd": folder, "env": environment(words[0])}


def traced(tracer, words):
    """The output of a tracer about a command."""
    def run(tracing, told):
        options = short(words)
        options["args"] = tracing + options["args"]
        subprocess.run(**options, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=told, timeout=120,
                       check=False)
    return told_by(tracer, run)


def instructions(words):
    return int(re.search(COLLECTED, traced(CALLGRIND, words))[1])


def instructions_of_all(words):
    """The same, with those of all processes that the command starts."""
    return sum(map(int, re.findall(COLLECTED, traced(f"{CALLGRIND} --trace-children=yes", words))))


def system_calls(words):
    """How many system calls a command makes, including execve(2) and those of threads, and their names."""
    summary = traced(f"{STRACE} -c -U calls,name", words).splitlines()
    counts = dict(reversed(line.split()) for line in summary if re.match(r" *\d+ \w+$", line))
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


def listener(backlog=4096, family=socket.AF_INET, address=("", 0)):
    server = socket.socket(family)
    if family == socket.AF_INET6:
        server.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
    server.bind(address)
    server.listen(backlog)
    return server, server.getsockname()[1]


def refusing_port():
    """A port on which connections are refused, as long as the socket exists."""
    server = socket.socket()
    server.bind(("", 0))
    return server, server.getsockname()[1]


def in_child(serve_clients):
    """Serves in a child process, which ends with this one, and in any case there."""
    parent = os.getpid()
    child = os.fork()
    if child:
        children.add(child)
        return child
    try:
        serve_clients(lambda: os.getppid() == parent)
    finally:
        os._exit(0)


def serve(server):
    """Greets one client after another, in a child process."""
    return in_child(lambda goes_on: greet_all(server, goes_on))


def greet_all(server, goes_on):
    server.settimeout(1)
    while goes_on():
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


def serve_dns(domain, servers):
    """A name server, in a child process: the domain has these mail servers, names with their addresses, in the order of
    their preferences."""
    server = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    server.bind(("127.0.0.1", 53))
    with server:
        return in_child(lambda goes_on: answer_all(server, domain, servers, goes_on))


def answer_all(server, domain, servers, goes_on):
    server.settimeout(1)

    def encoded(name):
        return b"".join(bytes([len(label)]) + label.encode() for label in name.split(".")) + b"\0"

    records = {(encoded(domain), 15): [i.to_bytes(2) + encoded(name) for i, (name, _) in enumerate(servers)]}
    records |= {(encoded(name), 1): [socket.inet_aton(address)] for name, address in servers}
    while goes_on():
        try:
            query, client = server.recvfrom(512)
        except OSError:
            continue
        # A query may have an OPT record behind its question, which ends with a type and the class IN.
        end_of_name = query.index(b"\0", 12) + 1
        name, kind = query[12:end_of_name], query[end_of_name:end_of_name + 2]
        answer = records.get((name, int.from_bytes(kind)), [])
        counts = b"\0\1" + len(answer).to_bytes(2) + b"\0\0\0\0"
        question = name + kind + b"\0\1"
        for data in answer:
            question += b"\xc0\x0c" + kind + b"\0\1\0\0\0\x3c" + len(data).to_bytes(2) + data
        server.sendto(query[:2] + b"\x81\x80" + counts + question, client)


# Private namespaces

# A user other than root may have namespaces all the same.
UNSHARE = ["unshare", "-m", "-n"] + ([] if os.geteuid() == 0 else ["-r"])


def in_namespace(part):
    """Runs a part of the program that calls this in a private namespace; returns what it prints."""
    return subprocess.run([*UNSHARE, sys.executable, sys.argv[0], part], stdout=subprocess.PIPE, check=False)


def set_up_namespace(hosts, resolv_conf):
    for path, text in (("/etc/hosts", hosts), ("/etc/resolv.conf", resolv_conf)):
        mine = os.path.join(WORK, os.path.basename(path))
        with open(mine, "w", encoding="ascii") as file:
            file.write(text)
        if os.path.exists(path):
            subprocess.run(["mount", "--bind", mine, path], check=True)
    subprocess.run(["ip", "link", "set", "lo", "up"], check=True)


# The limits of the Makefile

def limit(kind, name):
    """How many instructions or system calls there may be at most."""
    pairs = os.environ[f"{kind.upper().replace(' ', '_')}_LIMITS"].split()
    return int(dict(pair.split("=") for pair in pairs)[name])


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
