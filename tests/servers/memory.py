"""The program under valgrind's memcheck: the one with the system's C library,
since memcheck must see the allocations.

Memory that is never freed is not an error: the process ends with the check and
leaves that to the system. But its use must not grow while the program waits.
"""

import re
import socket

import machine
from machine import Case, GLIBC_PROGRAM

MEMCHECK = ["valgrind", "-q", "--error-exitcode=99", "--leak-check=no"]
UP, DOWN, SILENT, CLOSING, RESETTING, BYTEWISE, SLOW = [f"127.0.{kind}.1" for kind in range(1, 8)]
ALL = f"{SILENT} {DOWN} {CLOSING} {RESETTING} {BYTEWISE} {SLOW} {UP} 127.0.8.1 127.0.9.1"
NAMES = " ".join(f"none{i}.test" for i in range(70))

# Arguments, and the status.
CASES = [
    ("", 2),
    ("--help", 0),
    ("--version", 0),
    ("--timeout=x a", 2),
    ("2001:db8::1", 2),
    (UP, 1),
    (f"{DOWN} {CLOSING} {RESETTING}", 0),
    (f"-v --timeout=2 {ALL}", 1),
    (f"-v --timeout=2 --jobs=1 {DOWN} {CLOSING} {UP}", 1),
    (f"-v --timeout=1 {SILENT} {SLOW} 127.0.8.1", 0),
    (f"-v --timeout=1 --stop {UP} 10:{DOWN} 10:{UP}", 0),
    ("-v --timeout=4 10:down.test 20:up.test", 1),
    (f"-v --timeout=4 --stop up.test 10:down.test 20:alias.test 30:{UP}", 0),
    ("-v --timeout=4 --stop none.test 10:down.test", 2),
    (f"-v --timeout=4 {NAMES} six.test many.test up.test", 1),
    (f"-v --timeout=4 --jobs=3 {NAMES} up.test", 1),
    ("-v -6 --timeout=4 six.test up.test", 0),
    ("-v --timeout=2 [::1] [fe80::1%lo] fe80::1%nowhere [::ffff:127.0.2.1] a..b 10:. 10:", 0),
]


class Memory(Case):
    def setUp(self):
        self.start_crowd()
        many = "".join(f"host-record=many.test,127.0.2.{i}\n" for i in range(2, 42))
        zone = f"host-record=up.test,{UP}\nhost-record=down.test,{DOWN}\nhost-record=six.test,::1\ncname=alias.test,up.test\n"
        self.start_dnsmasq(zone + many)

    def test_memcheck(self):
        for at in range(0, len(CASES), 2):
            pair = [(self.begin(words, under=MEMCHECK, program=GLIBC_PROGRAM), status) for words, status in CASES[at : at + 2]]
            for popen, status in pair:
                run = self.end(popen)
                self.assertEqual(run.status, status, run)
                self.assertNotIn("==", run.stderr, run)

    def test_memory_does_not_grow(self):
        """With endless greetings, one that comes byte by byte, and silent
        servers: as much is used after four seconds as after one."""

        def in_use(seconds):
            words = f"--timeout={seconds} {SILENT} {BYTEWISE} 127.0.9.1 127.0.9.2 {UP}"
            popen = self.begin(words, under=["valgrind", "--leak-check=no"], program=GLIBC_PROGRAM)
            report = popen.communicate(timeout=machine.LIMIT)[1].decode()
            self.assertEqual(popen.returncode, 1, report)
            return re.search(r"in use at exit: (.*) bytes", report)[1]

        self.assertEqual(in_use(1), in_use(4))

    def test_lookups_left_behind(self):
        """The name server is silent: the process ends while its threads
        wait."""
        machine.name_servers("nameserver 127.0.0.9\n")
        silent = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.addCleanup(silent.close)
        silent.bind(("127.0.0.9", 53))
        run = self.run_check(f"-v --timeout=2 {NAMES} {UP}", under=MEMCHECK, program=GLIBC_PROGRAM)
        self.judge(run, UP, least=2, most=20)
        self.assertNotIn("==", run.stderr, run)
