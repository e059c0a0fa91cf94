"""Where the time of a gated Postfix goes, as shares of one run, by perf(1): the processor's time, by process; and the
time that the parent of a gate spends in system calls, by what they are for. service.py asks for them while its Postfix
runs.
"""

import collections
import os
import re
import shutil
import subprocess

from load import RUN, row
from measure import end

SECONDS = "4"
# What comes from perf's names of processes and of system calls.
PROCESSES = {"smtpdcheck": "the gate", "smtpd": "smtpd", "smtp-source": "the clients", "dnsmasq": "the name server",
             "primary": "the primary"}
CALLS = {"poll": "the check, which poll waits for", "clone": "fork", "fork": "fork", "vfork": "fork", "clone3": "fork",
         "wait4": "wait", "waitid": "wait", "pipe2": "the pipe", "pipe": "the pipe", "close": "the pipe",
         "fcntl": "the pipe"}


def parents():
    """The gates: those of their processes that spawn(8) has started."""
    found = subprocess.run(["pgrep", "-x", "spawn"], stdout=subprocess.PIPE, text=True, check=False).stdout.split()
    command = ["pgrep", "-x", "smtpdcheck", "-P", ",".join(found)]
    return subprocess.run(command, stdout=subprocess.PIPE, text=True, check=False).stdout.split()


def told(counts):
    """The shares, the largest one first."""
    total = sum(counts.values())
    return ", ".join(f"{what} {100 * count / total:.0f}%" for what, count in counts.most_common())


def of_processor():
    gates = parents()
    data = os.path.join(RUN, "perf")
    subprocess.run(["perf", "record", "-a", "-e", "cpu-clock", "-F", "499", "-o", data, "sleep", SECONDS],
                   check=True)
    script = ["perf", "script", "-i", data, "-F", "comm,pid"]
    samples = subprocess.run(script, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, check=True).stdout
    os.remove(data)
    counts = collections.Counter()
    for sample in samples.splitlines():
        name, process = sample.rsplit(maxsplit=1)
        name = name.strip()
        if name.startswith(("swapper", ":", "perf")):
            continue
        who = PROCESSES.get(name, "the rest")
        if name == "smtpdcheck":
            who += ": parents" if process in gates else ": children"
        counts[who] += 1
    return told(counts)


def of_parents():
    """Reading is left out, for that is mostly waiting for a question."""
    command = ["perf", "trace", "--summary", "--all-cpus", "sleep", SECONDS]
    summary = subprocess.run(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True, check=True).stderr
    counts = collections.Counter()
    for thread in re.split(r"^ (?=\S.* \(\d+\), )", summary, flags=re.M):
        # Numbers of processes are those of another namespace here; but only parents wait for a process.
        calls = dict(re.findall(r"^   (\w+) +\d+ +\d+ +([\d.]+) ", thread, flags=re.M))
        if thread.startswith("smtpdcheck ") and calls.keys() & {"wait4", "waitid"}:
            calls.pop("read", None)
            for name, milliseconds in calls.items():
                counts[CALLS.get(name, "the rest")] += float(milliseconds)
    return told(counts)


def tell(command, port, source):
    """`source` sends recipients to a port: so many at a time, and so many in all."""
    if not shutil.which("perf"):
        row("where the time goes", "not measured: no perf here", command)
        return
    for sessions, what, shares in ((50, "the processor's time", of_processor), (1, "the parent's system calls", of_parents)):
        others = source(port, sessions, 1000000)
        try:
            subprocess.run(["sleep", "1"], check=True)
            measured = shares()
        except subprocess.CalledProcessError as error:
            measured = f"not measured: {error.cmd[0]} fails here"
        finally:
            end(others)
        row(f"shares of {what}, {sessions} session{'s' if sessions > 1 else ''}", measured, command)
