"""A Postfix with the configuration of a test."""

import glob
import os
import re
import textwrap

from machine import read, sh, wait_for, write

MAIN = """
compatibility_level = 3.6
maillog_file = {folder}/maillog
maillog_file_prefixes = /run
queue_directory = {folder}/queue
data_directory = {folder}/data
config_directory = {folder}/etc
myhostname = {name}
mydestination =
inet_protocols = all
alias_maps =
notify_classes =
smtpd_peername_lookup = no
smtpd_client_event_limit_exceptions =
mynetworks = 0.0.0.0/0 [::]/0
smtpd_relay_restrictions = permit_mynetworks, reject
"""

# Runs beside the services of a test.
MASTER = """
postlog unix-dgram n - n - 1 postlogd
anvil unix - - n - 1 anvil
rewrite unix - - n - - trivial-rewrite
proxymap unix - - n - - proxymap
cleanup unix n - n - 0 cleanup
qmgr unix n - n 300 1 qmgr
smtp unix - - n - - smtp
relay unix - - n - - smtp
error unix - - n - - error
retry unix - - n - - error
discard unix - - n - - discard
bounce unix - - n - 0 bounce
defer unix - - n - 0 bounce
trace unix - - n - 0 bounce
flush unix n - n 1000? 0 flush
showq unix n - n - - showq
scache unix - - n - 1 scache
"""

# Queues are run every second, and timeouts are short.
HURRY = """
queue_run_delay = 1s
minimal_backoff_time = 1s
maximal_backoff_time = 2s
smtp_connect_timeout = 1s
smtp_helo_timeout = 1s
smtp_mail_timeout = 3s
smtp_rcpt_timeout = 5s
smtp_data_init_timeout = 3s
smtp_data_xfer_timeout = 3s
smtp_data_done_timeout = 3s
smtp_quit_timeout = 3s
smtp_xforward_timeout = 3s
smtp_connection_cache_on_demand = no
default_destination_concurrency_failed_cohort_limit = 0
bounce_queue_lifetime = 1d
"""

# No delays and hang-ups for a client that gets many errors, such as deferrals.
PATIENT = """
smtpd_soft_error_limit = 1000
smtpd_hard_error_limit = 1000
"""


def last_of_each(main):
    """Parameters of main.cf without those that a later line sets again, which
    Postfix would warn about."""
    settings, name = {}, None
    for line in main.splitlines():
        if re.match(r"\w+ *=", line):
            name = line.split("=")[0].strip()
            settings[name] = []
        settings.setdefault(name, []).append(line)
    return "\n".join(sum(settings.values(), [])) + "\n"


class Postfix:
    """`services` are lines of master.cf; those on port 25 listen when it has
    started. `wrapper` comes before each command, as in
    "ip netns exec there"."""

    def __init__(self, case, name, main, services, wrapper=""):
        self.folder = f"{case.folder}/{name}"
        self.services, self.wrapper = services, wrapper
        sh(f"mkdir -p {self.folder}/queue {self.folder}/data; chown postfix {self.folder}/data")
        write(f"{self.folder}/etc/main.cf", last_of_each(MAIN.format(folder=self.folder, name=name) + textwrap.dedent(main)))
        write(f"{self.folder}/etc/master.cf", MASTER + textwrap.dedent(services))
        sh(f"cp /etc/postfix/postfix-files {self.folder}/etc/")
        sh("chgrp postdrop /usr/sbin/postqueue /usr/sbin/postdrop; chmod g+s /usr/sbin/postqueue /usr/sbin/postdrop")
        case.addCleanup(self.stop)
        self.start()

    def command(self, words):
        return sh(f"{self.wrapper} {words.replace(' ', f' -c {self.folder}/etc ', 1)}")

    def start(self):
        self.command("postfix start >/dev/null")
        listening = f"{self.wrapper} ss -Hltn 'sport = :25'"
        wait_for(lambda: len(sh(listening).splitlines()) >= self.services.count(":25 "), "Postfix", self.log)

    def stop(self):
        if os.path.exists(f"{self.folder}/queue/pid/master.pid"):
            self.command("postfix stop >/dev/null 2>&1 || true")

    def log(self):
        return read(f"{self.folder}/maillog")

    def queue_files(self):
        paths = [glob.glob(f"{self.folder}/queue/{queue}/**", recursive=True) for queue in ["incoming", "active", "deferred"]]
        return [path for path in sum(paths, []) if os.path.isfile(path)]

    def queue_list(self):
        return sh(f"postqueue -c {self.folder}/etc -p")

    def try_again(self):
        """Delivers what is queued. A queue manager that finds a message still
        being delivered skips it until it is started again."""
        self.command("postfix reload >/dev/null 2>&1")
