"""What never wavers, measured against the limits that the Makefile sets: instructions and system calls.

budgets.py           everything; fails if anything is over its limit
budgets.py inside    used by itself, in a private namespace: what needs a name server and port 25
"""

import os
import subprocess
import sys

# Nothing is written among the sources.
sys.dont_write_bytecode = True

import questions  # noqa: E402
from measure import (  # noqa: E402
    UNSHARE, WORK, arguments, children, commas, end, in_namespace, instructions, limit, listener, serve, serve_dns,
    set_up_namespace, system_calls,
)
from questions import DOMAIN, PRIMARY, SECONDARY, Filter, PolicyService  # noqa: E402

# The least of so many runs counts: how often a program waits, and how often its threads wait for one another, is up to
# chance.
RUNS = 10


def is_within(what, measured, kind, name, command):
    """Whether it is within the limit of this name. Says so."""
    most = limit(kind, name)
    told = f"budgets: {what}: {commas(measured)} {kind}, at most {commas(most)} (`{command}`)"
    if measured > most:
        print(f"{told}: OVER THE LIMIT, which is {name} in the Makefile", file=sys.stderr)
    else:
        print(told)
    return measured <= most


def least(measure, words):
    return min(measure(words) for _ in range(RUNS))


def calls(words):
    return system_calls(words)[0]


def of_an_address():
    server, port = listener()
    serve(server)
    what, command = "one live server by address", f"smtpdcheck --port {port} 127.0.0.1"
    words = arguments(command, port)
    return [is_within(what, least(instructions, words), "instructions", "check", command),
            is_within(what, least(calls, words), "system calls", "check", command)]


def inside():
    set_up_namespace("", "nameserver 127.0.0.1\n")
    for _, address in (PRIMARY, SECONDARY):
        subprocess.run(["ip", "address", "add", f"{address}/32", "dev", "lo"], check=True)
    serve_dns(DOMAIN, [PRIMARY, SECONDARY])
    serve(listener(address=(PRIMARY[1], 25))[0])
    command = f"smtpdcheck --mx {DOMAIN}"
    count = least(calls, arguments(command, 25))
    within = [is_within("a domain with two mail servers", count, "system calls", "mx", command)]
    for name, kind in (("postfix", PolicyService), ("opensmtpd", Filter)):
        command = f"smtpdcheck --serve {name} --stop {SECONDARY[0]}"
        parent = "the parent, one question"
        count = questions.instructions(kind, command)
        within.append(is_within(parent, count, "instructions", name, command))
        count, of_child = questions.system_calls(kind, command)
        within.append(is_within(parent, count, "system calls", name, command))
        within.append(is_within("its child", of_child, "system calls", f"{name}-child", command))
    return within


def everything():
    within = all(of_an_address())
    if subprocess.run([*UNSHARE, "true"], check=False).returncode:
        print(f"check: NOT CHECKED: instructions and system calls of --mx and --serve: {' '.join(UNSHARE)} fails here",
              file=sys.stderr)
        return within and not os.environ.get("CI")
    run = in_namespace("inside")
    sys.stdout.write(run.stdout.decode())
    return within and run.returncode == 0


def main():
    os.makedirs(WORK, exist_ok=True)
    try:
        match sys.argv[1:]:
            case []:
                return 0 if everything() else 1
            case ["inside"]:
                return 0 if all(inside()) else 1
            case _:
                sys.exit(__doc__)
    finally:
        for child in list(children):
            end(child)


if __name__ == "__main__":
    sys.exit(main())
