"""A machine at its limits: the answer is right, or the status is 2 with a
reason. It comes by the deadline."""

import os
import signal
import subprocess
import threading
import time

import machine
from machine import Case, GLIBC_PROGRAM, sh, write

UP, DOWN, SILENT, CLOSING, SLOW = [f"127.0.{kind}.1" for kind in [1, 2, 3, 4, 7]]


def many(kind, count):
    """So many addresses of one kind of crowd.py."""
    return [f"127.{1 + i // 250}.{kind}.{1 + i % 250}" for i in range(count)]


class Limits(Case):
    def setUp(self):
        sh("sysctl -qw net.core.somaxconn=8192 net.ipv4.tcp_max_syn_backlog=8192")
        self.start_crowd()

    def dnsmasq(self):
        names = "".join(f"address=/up{i}.test/{UP}\naddress=/down{i}.test/{DOWN}\n" for i in range(100))
        self.start_dnsmasq(names, "--dns-forward-max=5000")

    def right_or_failed(self, words, answer, **options):
        """Runs the program; returns whether it gave the answer, or else 2."""
        run = self.run_check(words, **options)
        if run.status != 2:
            self.judge(run, answer)
        self.assertLess(run.seconds, machine.SLACK + 2, run)
        return run.status != 2

    def too_many_open_files(self, words, under, least=0):
        """Runs the program, which says that it has too few descriptors."""
        run = self.run_check(words, under=under)
        self.assertRegex(run.stderr, r"\Asmtpdcheck: cannot check '[^']+': too many open files\n\Z", run)
        self.assertEqual(run.status, 2, run)
        self.assertGreaterEqual(run.seconds, least, run)
        self.assertLess(run.seconds, least + machine.SLACK, run)

    def test_descriptors(self):
        """A hundred servers and few descriptors. Standard input, output and
        error are three of them; one more is enough for any number of
        addresses."""
        down = many(2, 50) + many(4, 25) + many(5, 24)
        for limit in range(4, 33):
            under = ["prlimit", f"--nofile={limit}:{limit}"]
            self.answers([*down, UP], UP, under=under)
            self.answers([UP, *down], UP, under=under)
            self.answers([*down, DOWN], "", under=under)
            # Some are never connected to in time.
            self.too_many_open_files(["--timeout=0.3", *many(3, 100)], under, least=0.3)
            self.answers(["--jobs=7", *down, UP], UP, under=under)
        for limit in range(0, 4):
            # None is left to connect with.
            under = ["prlimit", f"--nofile={limit}:{limit}"]
            if limit == 3:
                self.too_many_open_files([*down, UP], under)
            else:
                self.assertEqual(self.run_check([*down, UP], under=under).status, 2)

    def test_descriptors_and_names(self):
        """One descriptor wakes the loop, and a lookup needs one at a time, for
        the hosts file, resolv.conf and the name server. A lookup that gets
        none is made again when others have ended."""
        self.dnsmasq()
        names = [f"down{i}.test" for i in range(99)]
        for limit in range(4, 33):
            under = ["prlimit", f"--nofile={limit}:{limit}"]
            # Five are enough for one lookup: of many begun at the same time, all may fail.
            for _ in range(40 if limit == 5 else 5):
                right = self.right_or_failed([*names, "up1.test"], "up1.test", under=under)
                self.assertEqual(right, limit > 4, limit)
            self.right_or_failed(["--stop=up2.test", *names[:50], "10:up1.test"], "", under=under)

    def test_no_threads(self):
        """RLIMIT_NPROC 0: addresses need no thread; with a name the status is 2."""
        self.dnsmasq()
        under = ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups", "prlimit", "--nproc=0"]
        for _ in range(20):
            self.answers([DOWN, UP], UP, under=under)
            self.answers([UP, "up1.test"], UP, under=under)
            self.answers([DOWN, CLOSING], "", under=under)
            for words in [["up1.test"], [DOWN, "up1.test"], ["--stop=up1.test", UP]]:
                run = self.run_check(words, under=under)
                self.assertEqual(run.status, 2, run)

    def test_memory(self):
        """RLIMIT_AS of 256 KiB to 8 MiB: addresses alone, a hundred names, one
        name, 4,000 servers."""
        self.dnsmasq()
        names = [f"down{i}.test" for i in range(99)]
        down = many(2, 4000)
        for kib in range(256, 8193, 256):
            under = ["prlimit", f"--as={kib * 1024}"]
            right = self.right_or_failed([DOWN, UP], UP, under=under)
            self.assertTrue(right or kib < 1024, kib)
            self.right_or_failed([*names, "up1.test"], "up1.test", under=under)
            self.right_or_failed(["up1.test", UP], "up1.test", under=under)
            if kib % 1024 == 0:
                self.right_or_failed([*down, UP], UP, under=under)

    def test_every_memory_limit(self):
        """In steps of a page, around the least that is enough."""
        self.dnsmasq()
        enough = 0
        for kib in range(128, 640, 4):
            under = ["prlimit", f"--as={kib * 1024}"]
            enough += self.right_or_none([DOWN, UP, "up1.test"], under)
        self.assertGreater(enough, 0)

    def right_or_none(self, words, under):
        """Runs the program where there may be too little to start it, so that
        the system kills it, or prlimit ends with 126; returns whether it was
        started. Its answer is right, or its status 2."""
        popen = subprocess.run([*under, machine.PROGRAM, *words], capture_output=True, timeout=60)
        machine.checked()
        self.assertIn((popen.returncode, popen.stdout), [(1, UP.encode() + b"\n"), (2, b""), (-9, b""), (-11, b""), (126, b"")])
        return popen.returncode in (1, 2)

    def test_stopped_and_continued(self):
        def stopped(words, *times):
            """Runs the program; it is stopped and continued in turns, this many
            seconds after it has begun."""
            popen = self.begin(words)
            for i, at in enumerate(times):
                time.sleep(max(0, popen.began + at - time.monotonic()))
                popen.send_signal(signal.SIGCONT if i % 2 else signal.SIGSTOP)
            return self.end(popen)

        for _ in range(3):
            # Before the deadline, which does not move.
            self.judge(stopped(f"--timeout 1.5 {SILENT}", 0.3, 0.9), "", least=1.5)
            self.judge(stopped(f"--timeout 5 {SLOW}", 0.3, 0.6), SLOW, least=1)
            # The greeting comes while it is stopped.
            self.judge(stopped(f"--timeout 5 {SLOW}", 0.3, 1.5), SLOW, least=1.5)
            # The deadline passes while it is stopped.
            self.judge(stopped(f"--timeout 1 {SILENT}", 0.3, 1.5), "", least=1.5)
            self.judge(stopped(f"--timeout 0.2 {SLOW}", 0.1, 0.4), "", least=0.4)
            # Again and again.
            times = [0.2 + i * 0.01 for i in range(100)]
            self.judge(stopped(f"--timeout 1.5 {SILENT}", *times), "", least=1.5)
            self.judge(stopped(f"--timeout 5 {DOWN} {SLOW}", *times), SLOW, least=1)
        # The very first instructions.
        for _ in range(100):
            self.judge(stopped([DOWN, UP], 0.0, 0.001), UP)

    def test_wall_clock(self):
        """The wall clock jumps back and forth while it waits. A library makes
        it seem so; the clock of this machine is not set."""
        write(f"{self.folder}/time", "+0")
        library = sh("ls /usr/lib/*/faketime/libfaketime.so.1").strip()
        environment = dict(
            os.environ,
            LD_PRELOAD=library,
            FAKETIME_TIMESTAMP_FILE=f"{self.folder}/time",
            FAKETIME_NO_CACHE="1",
            FAKETIME_DONT_FAKE_MONOTONIC="1",
        )

        def year():
            return sh(f"export LD_PRELOAD={library} FAKETIME_TIMESTAMP_FILE={self.folder}/time FAKETIME_NO_CACHE=1; date +%Y").strip()

        years = set()
        ended = threading.Event()

        def jump():
            while not ended.is_set():
                for jump in ["+3000d", "-3000d", "+1h", "-1h", "+0"]:
                    write(f"{self.folder}/time.new", jump)
                    os.rename(f"{self.folder}/time.new", f"{self.folder}/time")
                    time.sleep(0.02)

        thread = threading.Thread(target=jump)
        thread.start()
        try:
            options = {"program": GLIBC_PROGRAM, "env": environment}
            for _ in range(3):
                self.answers(f"--timeout 1.5 {SILENT}", "", least=1.5, **options)
                self.answers(f"--timeout 5 {SLOW}", SLOW, least=1, **options)
            for _ in range(20):
                self.answers([DOWN, UP], UP, **options)
                years.add(year())
        finally:
            ended.set()
            thread.join()
        self.assertGreater(len(years), 1, "the clock did not jump")

    def test_300_processes(self):
        """At the same time: a server that is up, one that is silent, and
        names."""
        self.dnsmasq()
        for words, answer, least in [
            ([DOWN, "10:" + UP], UP, 0),
            (["--timeout=3", SILENT, DOWN], "", 3),
            (["--timeout=20", "down1.test", "10:up1.test"], "up1.test", 0),
        ]:
            processes = [self.begin(words) for _ in range(300)]
            for popen in processes:
                # Three hundred have to start on a few processors.
                self.judge(self.end(popen), answer, least, most=20)

    def test_4000_servers(self):
        down = many(2, 2000) + many(4, 1000) + many(5, 999)
        self.answers([*down, UP], UP, most=10)
        self.answers([UP, *down], UP)
        self.answers([*down, DOWN], "", most=10)
        under = ["prlimit", "--nofile=8192:8192"]
        self.answers(["--timeout=2", *many(3, 4000)], "", least=2, most=8, under=under)
        self.answers(["--timeout=2", "-v", *many(3, 4000)], "", least=2, most=8, under=under)
        self.answers([*(f"{i}:{address}" for i, address in enumerate(down)), f"4000:{UP}"], UP, most=10)
        self.answers(["--stop", down[-1], *(f"10:{address}" for address in down)], "")
        under = ["prlimit", "--nofile=16:16"]
        self.answers([*down, UP], UP, most=10, under=under)
        self.dnsmasq()
        self.answers(["--timeout=50", *(f"none{i}.test" for i in range(3999)), "up1.test"], "up1.test", most=50)
        # More than a megabyte of names.
        names = [f"{'a' * 60}.{'b' * 60}.{i}.test" for i in range(10000)]
        run = self.run_check(["--timeout=2", *names])
        self.assertLess(run.seconds, 2 + 2 * machine.SLACK, run)

    def test_without_end(self):
        """Endless greetings."""
        for _ in range(20):
            self.answers(["127.0.8.1"], "")
            self.answers(["127.0.9.1"], "127.0.9.1")
            self.answers(["127.0.6.1"], "127.0.6.1")
        self.answers(["--timeout=1", SILENT, "127.0.9.1", "127.0.8.1"], "127.0.9.1", least=1)
