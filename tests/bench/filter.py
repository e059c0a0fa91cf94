"""The gate as a filter of OpenSMTPD, measured beside other filters: see load.py.

filter.py                  everything: prints what bench.py puts into the table
filter.py COMMAND...       runs a command among the servers, for a look at what is measured

One smtpd has all filters, each for a port of its own.
"""

import load
from load import CACHE, FLOOR, FOLDER, Compared
from machine import write
from opensmtpd import CONF, OpenSmtpd
from questions import DEFERRED, DOMAIN, SECONDARY, Filter, PolicyService

DOMAINS = "/etc/smtpd/domains"
GATE = f"smtpdcheck --serve opensmtpd --stop {SECONDARY[0]} --domains {DOMAINS}"
REMEMBERING = f"{GATE} --cache {CACHE} --cache-up-ttl 5"

STATIC = "phase rcpt-to match rcpt-to <recipients> reject"
FILTERS = {
    STATIC: Compared(load.STATIC, 2501, 1000),
    "constant-filter": Compared(load.CONSTANT, 2502, 1000),
    REMEMBERING: Compared(load.REMEMBERING, 2503, 1000, load.FAST),
    GATE: Compared(load.ASKING, 2504, 1000),
    f"script-gate opensmtpd {SECONDARY[0]}": Compared(load.SCRIPT, 2505, 30),
}
ROUNDS = 5


def start_smtpd(servers):
    conf = f"""
    table domains file:{DOMAINS}
    table recipients {{ "to@{DOMAIN}" }}
    action to_primary relay backup mx "{SECONDARY[0]}"
    match from any for domain <domains> action to_primary
    """
    for command, compared in FILTERS.items():
        port = compared.port
        what = f'proc-exec "{FOLDER}/{command}" user nobody'
        if command == STATIC:
            what = f'{command} "450 {DEFERRED}"'
        conf += f"filter filter{port} {what}\nlisten on {SECONDARY[1]} port {port} filter filter{port}\n"
    write(CONF, conf)
    smtpd = OpenSmtpd(servers, wrapper="")
    smtpd.launch()
    servers.wait_until_listening(FILTERS, "smtpd", smtpd.log)


def by_itself(_):
    write(DOMAINS, f"{DOMAIN}\n")
    gates = {GATE: Filter, REMEMBERING: Filter}
    goals = {GATE: ("at least 0.7 x (aim: 0.9)", 0.7), REMEMBERING: ("more than 1 x", 1)}
    load.alone("the filter alone", {FLOOR: PolicyService}, gates, goals)
    load.memory("the filter alone", Filter, GATE)


def in_smtpd(servers):
    start_smtpd(servers)
    load.under_load("OpenSMTPD", FILTERS, load.send, ROUNDS)


if __name__ == "__main__":
    load.measure(by_itself, in_smtpd)
