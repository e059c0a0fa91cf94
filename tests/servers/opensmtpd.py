"""A secondary that is an OpenSMTPD, with the files of examples/opensmtpd as they
are but for what a test has to change."""

import glob
import os
import re
import threading

from machine import SOURCE, Process, read, sh, wait_for, write
from secondary import OWN_NETWORK, Network, users

EXAMPLES = f"{SOURCE}/examples/opensmtpd"
CONF = "/etc/smtpd.conf"
AUTHORITIES = "/etc/ssl/certs/ca-certificates.crt"
# The end of the filter's options in both examples of smtpd.conf.
FILTER = re.compile(r'^(filter smtpdcheck proc-exec (?:.*\\\n)*.*)(" user \w+)$', re.M)


class OpenSmtpd:
    """smtpd in the network of the secondary, or with another `wrapper` before
    its command elsewhere. There is one at a time: it has the places that it has
    by default."""

    def __init__(self, case, wrapper="ip netns exec mx2"):
        self.folder, self.wrapper, self.process = case.folder, wrapper, None
        case.addCleanup(self.stop)
        sh("rm -rf /var/spool/smtpd; mkdir -m 711 /var/spool/smtpd")
        sh("chgrp opensmtpq /usr/sbin/smtpctl; chmod g+s /usr/sbin/smtpctl")
        # OpenSMTPD 7 does not start without it; nothing here is checked with it.
        if not os.path.exists(AUTHORITIES):
            write(AUTHORITIES, "")

    def start(self):
        self.launch()
        wait_for(lambda: len(sh("ip netns exec mx2 ss -Hltn 'sport = :25'").splitlines()) == 2, "smtpd", self.log)

    def launch(self):
        """Does not wait until it listens, since it may end instead."""
        words = [*self.wrapper.split(), "/usr/sbin/smtpd", "-d", "-f", CONF]
        self.process = Process(words, f"{self.folder}/smtpd.log")

    def stop(self):
        if self.process:
            self.process.stop()
            self.process = None

    def control(self, words):
        return sh(f"smtpctl {words} 2>&1")

    def log(self):
        return read(f"{self.folder}/smtpd.log")

    def queue_files(self):
        return glob.glob("/var/spool/smtpd/*/**/message", recursive=True)

    def queue_list(self):
        return self.control("show queue")

    def try_again(self):
        """Delivers what is queued, if that has failed. Only when started again
        does smtpd forget how often a server was down, and uses it at once."""
        log = self.log()
        if "TempFail" in log[log.rindex(" starting\n") :]:
            self.stop()
            self.start()
        # It reads its queue after it has started.
        self.control("schedule all")


class OpenSmtpdSecondary(Network):
    ACCEPTED = "250 2.1.5 Destination address valid: Recipient ok"
    # The filter's own lines are not expected either. (That a new queue lacks a folder when smtpd starts is not
    # meant.)
    TROUBLE = r"^(warn(?!: purge_task)|smtpdcheck: |.*fatal|.*panic|.*socket closed)"

    def setUp(self):
        super().setUp()
        # smtpd listens with a backlog of five. Of more clients that connect at once, some wait for its greeting for
        # seconds or for ever, whatever filter it has.
        self.coming = threading.Semaphore(4)

    def deferred(self, address):
        return "450 4.3.2 Please use mx1.example.org"

    def session(self, *arguments, **options):
        with self.coming:
            return super().session(*arguments, **options)

    def configure(self, arguments="", cache=False, edit=str):
        """Writes the example's files. `arguments` are the filter's, after those
        of the example; with `cache` it is the filter that has one; `edit`
        changes the text of smtpd.conf."""
        conf = read(f"{EXAMPLES}/smtpd.conf")
        self.assertIn(f"{OWN_NETWORK} }}\n", conf)
        if cache:
            conf = uncomment(FILTER.sub("", conf), "filter smtpdcheck")
            for command in re.findall(r"^#   ((?:useradd|install) .*)", conf, re.M):
                if not command.startswith("useradd") or "smtpdcheck:" not in read("/etc/passwd"):
                    sh(command)
            sh("rm -f /var/lib/smtpdcheck/*")
        conf, count = FILTER.subn(lambda found: f"{found[1]} {arguments}".rstrip() + found[2], conf)
        self.assertEqual(count, 1, conf)
        write(CONF, edit(conf))
        os.chmod(CONF, 0o600)
        write("/etc/smtpd/domains", read(f"{EXAMPLES}/domains"))
        write("/etc/smtpd/recipients", "".join(f"{user}@example.org\n" for user in ["to", *users(50)]))

    def start_secondary(self, *arguments, **options):
        self.configure(*arguments, **options)
        self.secondary = OpenSmtpd(self)
        self.secondary.start()


def uncomment(conf, word):
    """A text of smtpd.conf in which the lines that begin with this word count,
    and those that continue them."""
    return re.sub(rf"^#{word}(.*\\\n)*.*", lambda found: re.sub("^#", "", found[0], flags=re.M), conf, flags=re.M)
