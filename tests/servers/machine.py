"""The machine on which the tests of one file run: this one, but with a private
network, processes and file system. Nothing that happens there is visible
outside, and nothing is left when it ends.

It has the files of this machine and of the packages that `install` has
fetched, or those of another release of Debian, as `system` has made it; what is
written is kept in memory. Port 25 is free, and the network is 127.0.0.0/8 and
::1.
"""

import glob
import os
import resource
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
import unittest

SOURCE = os.path.realpath(os.path.join(os.path.dirname(__file__), "../.."))
PACKAGES = os.path.join(SOURCE, "target/servers/packages")
MACHINE = os.path.join(SOURCE, "target/servers/machine")

# Every user may run the program under test here.
PROGRAM = "/usr/local/bin/smtpdcheck"
# The same, built with the system's C library and with debugging information.
GLIBC_PROGRAM = os.path.join(SOURCE, "target/servers/glibc/release/smtpdcheck")

# How many seconds longer than expected a run may take on a busy machine.
SLACK = 4
# A run that takes longer, in seconds, is killed, and its test fails.
LIMIT = 60

USERS = ["postfix", "Debian-exim", "opensmtpd", "opensmtpq", "unbound"]
GROUPS = [*USERS, "postdrop"]

_count = 0
_count_lock = threading.Lock()


def sh(script):
    """Runs a shell script, which must succeed; returns its output."""
    done = subprocess.run(["sh", "-euc", script], capture_output=True, text=True)
    if done.returncode != 0:
        raise AssertionError(f"{script}\n{done.stdout[-2000:]}{done.stderr[-2000:]}")
    return done.stdout


def write(path, text):
    """Replaces a file or a link."""
    os.makedirs(os.path.dirname(path), exist_ok=True)
    if os.path.islink(path):
        os.unlink(path)
    with open(path, "w") as file:
        file.write(text)


def read(path):
    with open(path, errors="replace") as file:
        return file.read()


def enter(system):
    """Makes the files of the machine, in new namespaces, and makes them the
    root of this process, which had better start its program anew: Python looks
    there for its own files. `system` is what `system` has made, or "/"."""
    program = os.environ.get("SMTPDCHECK") or os.path.join(SOURCE, "target/smtpdcheck")
    root = f"{MACHINE}/root"
    os.makedirs(MACHINE, exist_ok=True)
    sh(f"""
        mount -t tmpfs tmpfs {MACHINE}
        cd {MACHINE}
        mkdir upper work root
        mount -t overlay -o lowerdir={system},upperdir=upper,workdir=work overlay root
        mount -t proc proc root/proc
        mount -t sysfs sysfs root/sys
        mount --rbind /dev root/dev
        [ ! -d root/dev/shm ] || mount -t tmpfs tmpfs root/dev/shm
        mount -t tmpfs tmpfs root/tmp
        mount -t tmpfs tmpfs root/run
        chmod 1777 root/tmp
        mkdir -p {root}{SOURCE}
        mount -o bind,ro {SOURCE} {root}{SOURCE}
    """)
    if system == "/":
        for package in sorted(glob.glob(f"{PACKAGES}/*.deb")):
            sh(f"dpkg-deb --fsys-tarfile {package} | tar -x --keep-directory-symlink -C {root}")
    with open(program, "rb") as file:
        program = file.read()
    with open(root + PROGRAM, "wb") as file:
        file.write(program)
    os.chmod(root + PROGRAM, 0o755)
    os.chroot(root)
    os.chdir("/")


def set_up():
    """Makes the rest of the machine."""
    for i, user in enumerate(GROUPS):
        with open("/etc/group", "a") as file:
            file.write(f"{user}:x:{60000 + i}:\n")
    for i, user in enumerate(USERS):
        with open("/etc/passwd", "a") as file:
            file.write(f"{user}:x:{60000 + i}:{60000 + i}::/nonexistent:/bin/false\n")
    os.makedirs("/var/lib/opensmtpd/empty", exist_ok=True)
    socket.sethostname("mx.test")
    hosts("")
    name_servers("")
    write("/etc/nsswitch.conf", "hosts: files dns\n")
    sh("ip link set lo up")


def hosts(text):
    write("/etc/hosts", f"127.0.0.1 localhost\n{text}")


def name_servers(text):
    """Writes resolv.conf. Without a name server in it, the C library asks
    127.0.0.1."""
    write("/etc/resolv.conf", text)


def wait_for(condition, what, log=str, seconds=20):
    """Waits until a condition is true, and returns its value. If it takes too
    long, the error has the end of the log."""
    until = time.monotonic() + seconds
    while True:
        value = condition()
        if value:
            return value
        if time.monotonic() > until:
            raise AssertionError(f"waited {seconds} s for {what}\n{log()[-4000:]}")
        time.sleep(0.01)


def is_listening(port, address=None):
    """Whether a server listens on a TCP port."""
    at = f"sport = :{port}" + (f" and src {address}" if address else "")
    return bool(sh(f"ss -Hltn '{at}'").strip())


class Run:
    """The result of one run of the program."""

    def __init__(self, words, status, stdout, stderr, seconds):
        self.words, self.status, self.seconds = words, status, seconds
        self.stdout, self.stderr = stdout, stderr

    def __str__(self):
        words = " ".join(self.words)
        if len(words) > 500:
            words = words[:500] + " ..."
        return (
            f"\n$ {words}\nstandard output: {self.stdout!r}\n"
            f"standard error: {self.stderr!r}\nstatus {self.status} after {self.seconds:.3f} s"
        )


def checks():
    """How often the program was run."""
    return _count


def checked(number=1):
    global _count
    with _count_lock:
        _count += number


class Process:
    """A process that ends with the test at the latest."""

    def __init__(self, words, log, **options):
        self.log_path = log
        with open(log, "ab") as file:
            self.popen = subprocess.Popen(
                words, stdin=subprocess.DEVNULL, stdout=file, stderr=file, start_new_session=True, **options
            )

    def log(self):
        return read(self.log_path)

    def signal(self, number):
        self.popen.send_signal(number)

    def stop(self):
        if self.popen.poll() is None:
            self.popen.terminate()
            try:
                self.popen.wait(10)
            except subprocess.TimeoutExpired:
                pass
        try:
            # Including all processes that it has started.
            os.killpg(self.popen.pid, signal.SIGKILL)
        except ProcessLookupError:
            pass
        self.popen.wait()


class Case(unittest.TestCase):
    """A test that runs the program and judges the result, with an empty
    directory of its own."""

    def run(self, result=None):
        self.folder = tempfile.mkdtemp(dir="/run")
        os.chmod(self.folder, 0o777)
        return super().run(result)

    def begin(self, words, **options):
        """Starts the program; see end()."""
        words = words.split() if isinstance(words, str) else words
        wrapper = options.pop("under", [])
        program = options.pop("program", PROGRAM)
        words = [*wrapper, program, *words]
        checked()
        began = time.monotonic()
        popen = subprocess.Popen(
            words,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            **options,
        )
        popen.began = began
        return popen

    def end(self, popen):
        """Waits for the program, which must end by itself with one of its three
        statuses, and print nothing but printable characters."""
        try:
            stdout, stderr = popen.communicate(timeout=LIMIT)
            seconds = time.monotonic() - popen.began
        except subprocess.TimeoutExpired:
            popen.kill()
            stdout, stderr = popen.communicate()
            self.fail(f"{popen.args} hangs: {stdout} {stderr}")
        run = Run(
            popen.args,
            popen.returncode,
            stdout.decode(errors="replace"),
            stderr.decode(errors="replace"),
            seconds,
        )
        self.assertIn(run.status, [0, 1, 2], run)
        self.assertRegex(stdout + stderr, rb"\A[ -~\n]*\Z", run)
        if run.status == 2:
            self.assertRegex(run.stderr, r"\Asmtpdcheck: [^\n]+\n\Z", run)
        if run.status != 1 and not {"--help", "--version"} & set(run.words):
            self.assertEqual(run.stdout, "", run)
        return run

    def run_check(self, words, **options):
        return self.end(self.begin(words, **options))

    def answers(self, words, answer, least=0, most=None, **options):
        """Runs the program: it must print this answer, "" for none, and take
        `least` seconds, and not many more."""
        run = self.run_check(words, **options)
        self.judge(run, answer, least, most)
        return run

    def judge(self, run, answer, least=0, most=None):
        expected = (1, answer + "\n") if answer else (0, "")
        self.assertEqual((run.status, run.stdout), expected, run)
        self.assertGreaterEqual(run.seconds, least, run)
        self.assertLess(run.seconds, least + SLACK if most is None else most, run)

    def start(self, words, log=None, **options):
        """Starts a server, which ends with the test at the latest."""
        words = words.split() if isinstance(words, str) else words
        log = log or f"{self.folder}/{os.path.basename(words[0])}.log"
        process = Process(words, log, **options)
        self.addCleanup(process.stop)
        return process

    def start_crowd(self, wrapper=""):
        """Starts the servers of crowd.py; they listen when this returns.
        `wrapper` comes before each command, as in "ip netns exec far"."""
        crowd = self.start(f"{wrapper} {sys.executable} {SOURCE}/tests/servers/crowd.py", log=f"{self.folder}/crowd.log")
        wait_for(lambda: sh(f"{wrapper} ss -Hltn 'sport = :25'").strip(), "the crowd", crowd.log)
        return crowd

    def start_dnsmasq(self, zone, options=""):
        """Starts a name server with this zone at 127.0.0.1, and uses it; other
        names do not exist."""
        conf = f"{self.folder}/dnsmasq.conf"
        write(conf, zone)
        words = "/usr/sbin/dnsmasq --keep-in-foreground --no-resolv --no-hosts --user=root --pid-file= --address=/#/"
        words += f" --listen-address=127.0.0.1 --bind-interfaces --conf-file={conf} {options}"
        server = self.start(words)
        name_servers("nameserver 127.0.0.1\n")
        wait_for(lambda: sh("ss -Hlun 'sport = :53'").strip(), "dnsmasq", server.log)
        return server

    def listen(self, address, port=25):
        """A server that accepts connections and never greets."""
        family = socket.AF_INET6 if ":" in address else socket.AF_INET
        server = socket.create_server((address, port), family=family)
        self.addCleanup(server.close)
        return server


def limits(**values):
    """Sets limits such as NOFILE=8, in the child process of a Popen."""

    def set_limits():
        for name, value in values.items():
            resource.setrlimit(getattr(resource, f"RLIMIT_{name}"), (value, value))

    return set_limits
