"""The command in an ACL of Exim, measured beside an ACL that always defers: see load.py.

acl.py                     everything: prints what bench.py puts into the table
acl.py COMMAND...          runs a command among the servers, for a look at what is measured

The ACL is that of examples/exim, with and without its lines for the cache; each port has its own.
"""

import load
from exim import CACHE, ETC, EXAMPLES, Exim
from load import DOMAIN, PRIMARY, SECONDARY, Compared
from machine import read, sh, write

STATIC = "defer"
GATE = "smtpdcheck --mx in an ACL"
REMEMBERING = f"{GATE}, with --cache, --cache-up-ttl 5, --max-defer"

ACLS = {
    STATIC: Compared(load.CONSTANT, 2501, 500),
    REMEMBERING: Compared(load.REMEMBERING, 2502, 200),
    GATE: Compared(load.ASKING, 2503, 200),
}
ROUNDS = 3


def start_exim(servers):
    acl = read(f"{EXAMPLES}/smtpdcheck.acl")
    texts = {STATIC: f"defer\n  message = 450 4.3.2 Please use {PRIMARY[0]}\n", GATE: acl,
             REMEMBERING: CACHE.sub(r"\1\2", acl)}
    acls = ""
    for command, text in texts.items():
        port = ACLS[command].port
        write(f"{ETC}/{port}.acl", text)
        acls += f"acl_{port}:\n  .include {ETC}/{port}.acl\n  accept\n"
    ports = " : ".join(str(compared.port) for compared in ACLS.values())
    write(f"{ETC}/exim4.conf", f"""
primary_hostname = {SECONDARY[0]}
domainlist relay_to_domains = {DOMAIN}
daemon_smtp_ports = {ports}
local_interfaces = {SECONDARY[1]}
acl_smtp_rcpt = acl_$received_port
smtp_accept_max = 250
smtp_connect_backlog = 250
keep_environment =
tls_advertise_hosts =
begin acl
{acls}
""")
    sh("install -d -o Debian-exim /var/lib/smtpdcheck")
    exim = Exim(servers, wrapper="")
    exim.launch()
    servers.wait_until_listening(ACLS, "Exim", exim.log)


def in_exim(servers):
    start_exim(servers)
    load.under_load("Exim", ACLS, load.send, ROUNDS)


if __name__ == "__main__":
    load.measure(in_exim)
