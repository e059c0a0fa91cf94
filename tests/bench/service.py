"""The gate as a policy service of Postfix, measured beside other policy services: see load.py.

service.py                 everything: prints what bench.py puts into the table
service.py COMMAND...      runs a command among the servers, for a look at what is measured

Postfix has one service of master.cf for each policy service; smtp-source sends recipients, one a connection.
"""

import socket
import time

import load
import shares
from load import CACHE, FLOOR, FOLDER, Compared
from measure import end, spawn, wait
from postfix import Postfix
from questions import DOMAIN, PRIMARY, SECONDARY, PolicyService

GATE = f"smtpdcheck --serve postfix --stop {SECONDARY[0]}"
REMEMBERING = f"{GATE} --cache {CACHE} --cache-up-ttl 5"
STATIC = "check_recipient_access static:450"
SERVICES = {
    STATIC: Compared(load.STATIC, 2501, 1000),
    "constant": Compared(load.CONSTANT, 2502, 1000),
    REMEMBERING: Compared(load.REMEMBERING, 2503, 1000, load.FAST),
    GATE: Compared(load.ASKING, 2504, 1000),
    f"script-gate postfix {SECONDARY[0]}": Compared(load.SCRIPT, 2505, 30),
}
ROUNDS = 5
# Of how many recipients the wait is measured, each time: this part of those that are sent, but of so many at least.
WAITS, PART = 10, 20


def start_postfix(servers):
    """The secondary; each policy service has a port of its own."""
    main = f"""
    relay_domains = {DOMAIN}
    relay_recipient_maps =
    mynetworks =
    smtpd_relay_restrictions = reject_unauth_destination
    smtpd_client_connection_count_limit = 0
    """
    services = ""
    for command, service in SERVICES.items():
        port = service.port
        policy = f"check_policy_service {{ unix:private/policy{port}, default_action=DUNNO, timeout=15s }}"
        if command == STATIC:
            policy = "check_recipient_access static:{DEFER_IF_PERMIT 4.3.2 Please use mx1.example.org}"
        else:
            services += f"policy{port} unix - n n - 0 spawn user=nobody argv={FOLDER}/{command}\n"
        services += (f"{SECONDARY[1]}:{port} inet n - n - 100 smtpd -o "
                     f"{{ smtpd_recipient_restrictions = reject_unauth_destination, {policy} }}\n")
    postfix = Postfix(servers, SECONDARY[0], main, services)
    servers.wait_until_listening(SERVICES, "Postfix", postfix.log)


def source(port, sessions, count):
    """smtp-source, which sends recipients, one a connection."""
    return spawn(["/usr/sbin/smtp-source", "-4", "-A", "-s", str(sessions), "-m", str(count),
                  "-f", "from@example.net", "-t", f"to@{DOMAIN}", f"{SECONDARY[1]}:{port}"])


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


def ask(port, sessions, count):
    """How many recipients are answered a second; and how long the answer takes, while all sessions but one do the
    same."""
    count = max(count, 2 * sessions)
    begun = time.perf_counter()
    wait(source(port, sessions, count))
    rate = count / (time.perf_counter() - begun)
    others = source(port, sessions - 1, 1000000) if sessions > 1 else None
    times = [session(port) for _ in range(max(WAITS, count // PART))]
    if others:
        end(others)
    return rate, times


def by_itself(_):
    gates = {GATE: PolicyService, REMEMBERING: PolicyService}
    goals = {GATE: ("at least 0.7 x (aim: 0.9)", 0.7), REMEMBERING: ("more than 1 x", 1)}
    load.alone("the service alone", {FLOOR: PolicyService}, gates, goals)
    load.memory("the service alone", PolicyService, GATE, 200)


def in_postfix(servers):
    start_postfix(servers)
    load.under_load("Postfix", SERVICES, ask, ROUNDS)
    for command in (GATE, REMEMBERING):
        shares.tell(command, SERVICES[command].port, source)


if __name__ == "__main__":
    load.measure(by_itself, in_postfix)
