"""A secondary that is an Exim, with the files of examples/exim as they are but
for what a test has to change: in Debian's own configuration, split into small
files, or with exim.conf."""

import glob
import os
import re
import socket

from machine import SOURCE, Process, read, sh, wait_for, write
from secondary import OWN_NETWORK, Network, users

EXAMPLES = f"{SOURCE}/examples/exim"
ETC = "/etc/exim4"
SPOOL, LOGS = "/var/spool/exim4", "/var/log/exim4"

# What dpkg-reconfigure exim4-config asks.
DEBIAN = f"""
dc_eximconfig_configtype='internet'
dc_relay_domains='{{}}'
dc_relay_nets='{OWN_NETWORK}'
dc_use_split_config='true'
"""

# Logins: every user's password is right.
LOGINS = """
test_plain:
  driver = plaintext
  public_name = PLAIN
  server_condition = yes
  server_set_id = $auth2
"""

# Messages are tried again at once, and a crowd may ask from one session each.
HURRY = "* * F,10d,1s\n"
CROWD = "smtp_accept_max = 250\nsmtp_accept_max_nonmail = 100000\n"

# The part of the command in the example that has the cache.
CACHE = re.compile(r"^(    )# (.*\\\n)", re.M)


class Exim:
    """Exim in the network of the secondary, or with another `wrapper` before
    its command elsewhere. There is one at a time: it has the places that it has
    by default."""

    def __init__(self, case, wrapper="ip netns exec mx2"):
        self.folder, self.wrapper, self.process = case.folder, wrapper, None
        case.addCleanup(self.stop)
        sh(f"rm -rf {SPOOL} {LOGS}; install -d -o Debian-exim -g Debian-exim {SPOOL} {LOGS}; rm -f /run/exim4/*")

    def start(self):
        self.launch()
        wait_for(lambda: len(sh("ip netns exec mx2 ss -Hltn 'sport = :25'").splitlines()) == 2, "Exim", self.log)

    def launch(self):
        # Queues are run every second.
        words = [*self.wrapper.split(), "/usr/sbin/exim4", "-bdf", "-q1s"]
        self.process = Process(words, f"{self.folder}/exim.log")

    def stop(self):
        if self.process:
            self.process.stop()
            self.process = None

    def log(self):
        """All of its logs: also of rejections, and of its own failures."""
        return "".join(read(path) for path in [f"{self.folder}/exim.log", *sorted(glob.glob(f"{LOGS}/*log"))])

    def queue_files(self):
        return glob.glob(f"{SPOOL}/input/*-H")

    def queue_list(self):
        return sh("exim4 -bp")

    def try_again(self):
        """Delivers what is queued."""
        sh("ip netns exec mx2 exim4 -qff")


class EximSecondary(Network):
    ACCEPTED = "250 Accepted"
    # Exim's own words for what must not happen.
    TROUBLE = r"panic|failed to|Failed|temporarily rejected (?!RCPT \S+: Please use)|Warning: smtpdcheck|taint|timed out"

    def setUp(self):
        super().setUp()
        socket.sethostname("mx2.example.org")
        write("/etc/mailname", "mx2.example.org\n")

    def deferred(self, address):
        return "450 4.3.2 Please use mx1.example.org"

    def configure(self, arguments="", cache=False, edit=str, whole=False, relay="example.org", hurry=False):
        """Writes the example's files. `arguments` are smtpdcheck's, after its
        own; `cache` is with the lines for that; `edit` changes the text of the
        ACL; `whole` is with exim.conf, and not in Debian's configuration; `relay`
        is the list of domains; with `hurry`, messages are tried again at
        once, and a crowd may ask."""
        acl = read(f"{EXAMPLES}/smtpdcheck.acl")
        self.assertEqual(len(CACHE.findall(acl)), 5, acl)
        if cache:
            acl = CACHE.sub(r"\1\2", acl)
            for command in re.findall(r"^#   (install .*)", acl, re.M):
                sh(command)
            sh("rm -f /var/lib/smtpdcheck/*")
        self.assertEqual(acl.count("}{status $runrc: $value}{status $runrc: $value}}"), 1)
        acl = acl.replace("}{status", f"{arguments} }}{{status", 1) if arguments else acl
        write(f"{ETC}/smtpdcheck.acl", edit(acl))
        write(f"{ETC}/relay_recipients", "".join(f"{user}@example.org\n" for user in ["to", *users(50)]))
        sh(f"rm -f {ETC}/exim4.conf; mkdir -p /var/lib/exim4")
        if whole:
            conf = read(f"{EXAMPLES}/exim.conf")
            self.assertIn(OWN_NETWORK, conf)
            conf = conf.replace("relay_to_domains = example.org", f"relay_to_domains = {relay}")
            write(f"{ETC}/exim4.conf", f"{conf}\nbegin authenticators\n{LOGINS}")
        else:
            write(f"{ETC}/update-exim4.conf.conf", DEBIAN.format(relay))
            write(f"{ETC}/conf.d/main/000_localmacros", read(f"{EXAMPLES}/localmacros"))
            write(f"{ETC}/conf.d/auth/50_test", LOGINS)
            write(f"{ETC}/conf.d/main/50_test", CROWD if hurry else "")
            write(f"{ETC}/conf.d/retry/10_test", HURRY if hurry else "")
            sh("update-exim4.conf")

    def start_secondary(self, *arguments, **options):
        self.configure(*arguments, **options)
        self.secondary = Exim(self)
        self.secondary.start()
