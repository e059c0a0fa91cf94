"""A bad network on the way to a server: the answer is right, or comes at the
deadline.

The network is a pair of tunnel devices, one here and one in the servers'
namespace, and a thread that carries packets between them: it delays, drops,
duplicates and reorders them, and sends the errors of routers. tc's netem does
some of that, but not every kernel has it.
"""

import fcntl
import heapq
import os
import random
import select
import signal
import socket
import struct
import threading
import time

import machine
from machine import Case, sh

# How often each check is made in each kind of weather.
TIMES = 50

UP, DOWN, SILENT, CLOSING, RESETTING, BYTEWISE, SLOW = [f"198.51.{kind}.1" for kind in range(1, 8)]
NOWHERE = "198.51.99.1"
HERE, HERE6, NOWHERE6 = "192.0.2.1", "2001:db8:1::1", "2001:db8:2::1"
TUNSETIFF, IFF_TUN, IFF_NO_PI = 0x400454CA, 1, 0x1000


def tunnel(name):
    fd = os.open("/dev/net/tun", os.O_RDWR | os.O_NONBLOCK)
    fcntl.ioctl(fd, TUNSETIFF, struct.pack("16sH22x", name.encode(), IFF_TUN | IFF_NO_PI))
    return fd


def checksum(data):
    total = sum(struct.unpack(f"!{len(data) // 2}H", data))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return ~total & 0xFFFF


def unreachable(packet, kind, code):
    """The ICMP error with which a router answers a packet, to the packet's source
    and from its destination."""
    if packet[0] >> 4 == 4:
        body = struct.pack("!BBHI", kind, code, 0, 1400 if (kind, code) == (3, 4) else 0) + packet[:28]
        body = body[:2] + struct.pack("!H", checksum(body)) + body[4:]
        header = struct.pack("!BBHHHBBH4s4s", 0x45, 0, 20 + len(body), 0, 0, 64, 1, 0, packet[16:20], packet[12:16])
        header = header[:10] + struct.pack("!H", checksum(header)) + header[12:]
        return header + body
    body = struct.pack("!BBHI", kind, code, 0, 1400 if kind == 2 else 0) + packet
    source, destination = packet[24:40], packet[8:24]
    pseudo = source + destination + struct.pack("!II", len(body), 58)
    body = body[:2] + struct.pack("!H", checksum(pseudo + body + b"\0" * (len(body) % 2))) + body[4:]
    return struct.pack("!IHBB", 6 << 28, len(body), 58, 64) + source + destination + body


def payload(packet):
    """How many bytes of data an IPv4 packet of TCP carries."""
    header = (packet[0] & 15) * 4
    return struct.unpack("!H", packet[2:4])[0] - header - (packet[header + 12] >> 4) * 4


class Way(threading.Thread):
    """Carries packets. `weather` is called with a packet and whether it goes to
    the servers. It returns a list of what to deliver: in how many seconds,
    which packet, and whether that goes to the servers."""

    def __init__(self, here, there):
        super().__init__(daemon=True)
        self.here, self.there = here, there
        self.clear()
        self.ended = False

    def clear(self):
        self.weather = lambda packet, outward: [(0, packet, outward)]

    def run(self):
        late, number = [], 0
        while not self.ended:
            wait = max(0, late[0][0] - time.monotonic()) if late else 0.1
            ready = select.select([self.here, self.there], [], [], min(wait, 0.1))[0]
            for fd in ready:
                packet = os.read(fd, 65536)
                for seconds, packet, outward in self.weather(packet, fd == self.here):
                    number += 1
                    heapq.heappush(late, (time.monotonic() + seconds, number, packet, outward))
            while late and late[0][0] <= time.monotonic():
                _, _, packet, outward = heapq.heappop(late)
                try:
                    os.write(self.there if outward else self.here, packet)
                except OSError:
                    pass  # The device is down, or does not accept the packet.

    def stop(self):
        self.ended = True
        self.join()
        os.close(self.here)
        os.close(self.there)


class Weather(Case):
    def setUp(self):
        here, there = tunnel("here"), tunnel("there")
        sh(f"""
            ip netns add far
            ip link set there netns far
            ip link set here up
            ip address add {HERE}/32 dev here
            ip address add {HERE6}/128 dev here nodad
            ip route add 198.51.0.0/16 dev here src {HERE}
            ip route add 2001:db8:2::/64 dev here src {HERE6}
            ip -n far link set lo up
            ip -n far link set there up
            ip -n far route add local 198.51.0.0/16 dev lo
            ip -n far route add {HERE}/32 dev there
            ip netns exec far sysctl -qw net.ipv4.conf.all.rp_filter=0 net.ipv4.conf.there.rp_filter=0 net.core.somaxconn=8192
        """)
        self.way = Way(here, there)
        self.way.start()
        self.addCleanup(sh, "ip netns del far")
        self.addCleanup(self.way.stop)
        self.crowd = self.start_crowd("ip netns exec far")

    def right_or_late(self, run, answer, timeout):
        """The answer is right, or none is up because the deadline passed."""
        self.assertLess(run.seconds, timeout + machine.SLACK, run)
        if run.status == 0 and answer:
            self.assertGreaterEqual(run.seconds, timeout, run)
            return False
        self.judge(run, answer, most=timeout + machine.SLACK)
        return True

    def in_weather(self, name, weather):
        self.way.weather = weather
        timeout = 6
        cases = [
            ([UP], UP),
            ([BYTEWISE], BYTEWISE),
            ([DOWN, CLOSING, RESETTING, "10:" + UP], UP),
            ([DOWN], ""),
            ([CLOSING, RESETTING, DOWN], ""),
            (["--port=26", UP], ""),
        ]
        running = [(self.begin([f"--timeout={timeout}", *words]), answer) for words, answer in cases for _ in range(TIMES)]
        right = [self.right_or_late(self.end(popen), answer, timeout) for popen, answer in running]
        print(f"\n{name}: {sum(right)} of {len(right)} right, the others at the deadline", end=" ")
        self.way.clear()
        self.assertGreater(sum(right), len(right) / 2)

    def test_delay(self):
        self.in_weather("200 ms each way", lambda packet, outward: [(0.2, packet, outward)])

    def test_loss(self):
        chance = random.Random(1)
        self.in_weather("15 % lost", lambda packet, outward: [(0, packet, outward)] if chance.random() > 0.15 else [])

    def test_duplication(self):
        chance = random.Random(2)
        self.in_weather("half doubled", lambda packet, outward: [(0, packet, outward)] * chance.randint(1, 2))

    def test_reordering(self):
        chance = random.Random(3)
        self.in_weather("up to 100 ms late", lambda packet, outward: [(chance.random() * 0.1, packet, outward)])

    def test_all_at_once(self):
        chance = random.Random(4)
        self.in_weather(
            "all of it",
            lambda packet, outward: [(chance.random() * 0.3, packet, outward)] * chance.choice([0, 1, 1, 1, 1, 1, 1, 2]),
        )

    def test_one_byte_segments(self):
        sizes = []

        def weather(packet, outward):
            if not outward:
                sizes.append(payload(packet))
            return [(0, packet, outward)]

        self.way.weather = weather
        for _ in range(TIMES):
            self.answers([BYTEWISE], BYTEWISE)
        # On a busy machine several bytes may go as one segment.
        self.assertGreater(sizes.count(1), 0.9 * sum(size > 0 for size in sizes))

    def test_vanishes_in_mid_greeting(self):
        """The server disappears after this many bytes, silently, or is killed and
        started again. A reply code and a space are four bytes."""

        def dark_after(count):
            first = {}  # A connection's first byte, by the port here.
            dark = set()

            def weather(packet, outward):
                if packet[9] != socket.IPPROTO_TCP:
                    return []
                header = (packet[0] & 15) * 4
                source, destination, number = struct.unpack("!HHI", packet[header : header + 8])
                port = source if outward else destination
                if not outward and packet[header + 13] & 2:
                    first[port] = number + 1
                # Retransmissions count once, and the rest of an earlier connection does not count.
                elif not outward and (number + payload(packet) - first.get(port, 0)) % 2**32 > count:
                    dark.add(port)
                return [] if port in dark else [(0, packet, outward)]

            return weather

        for count in range(0, 8):
            self.way.weather = dark_after(count)
            up = count >= 4
            self.answers(["--timeout=1", BYTEWISE], BYTEWISE if up else "", least=0 if up else 1)
        self.way.clear()
        for _ in range(5):
            popen = self.begin(["--timeout=8", SLOW])
            time.sleep(0.3)
            self.crowd.signal(signal.SIGKILL)
            self.crowd.stop()
            self.judge(self.end(popen), "")
            self.crowd = self.start_crowd("ip netns exec far")
            self.answers([SLOW], SLOW, least=1)

    def test_routes_vanish(self):
        def without_route(words, *times):
            """The route is removed and restored in turns, this many seconds after
            the beginning."""
            popen = self.begin(words)
            for i, at in enumerate(times):
                time.sleep(max(0, popen.began + at - time.monotonic()))
                sh(f"ip route {'add' if i % 2 else 'del'} 198.51.0.0/16 dev here src {HERE}")
            run = self.end(popen)
            if len(times) % 2:
                sh(f"ip route add 198.51.0.0/16 dev here src {HERE}")
            return run

        for _ in range(5):
            self.right_or_late(without_route(["--timeout=5", SLOW], 0.3, 0.6), SLOW, 5)
            self.right_or_late(without_route(["--timeout=2", SLOW], 0.3), SLOW, 2)
            self.right_or_late(without_route(["--timeout=2", BYTEWISE, SLOW], 0.05, 0.1, 0.15, 0.2), BYTEWISE, 2)
        sh("ip route del 198.51.0.0/16 dev here")
        for _ in range(TIMES):
            self.answers([UP], "")
        sh(f"ip route add 198.51.0.0/16 dev here src {HERE}; ip link set here down")
        self.answers([UP], "")

    def test_icmp(self):
        """Every kind of ICMP error, in answer to the first packet: the server is
        down, and another one up."""
        kinds = [(3, code) for code in range(16)] + [(11, 0), (11, 1), (12, 0), (4, 0), (5, 1)]
        kinds6 = [(1, code) for code in range(9)] + [(2, 0), (3, 0), (3, 1), (4, 0), (4, 1)]
        at_once = []
        for kinds, nowhere in [(kinds, NOWHERE), (kinds6, f"[{NOWHERE6}]")]:
            for kind, code in kinds:

                def weather(packet, outward):
                    if outward and socket.inet_pton(*self.family(nowhere)) in (packet[16:20], packet[24:40]):
                        return [(0, unreachable(packet, kind, code), False)]
                    return [(0, packet, outward)]

                self.way.weather = weather
                with self.subTest(f"type {kind} code {code} for {nowhere}"):
                    run = self.answers(["-v", "--timeout=0.7", nowhere], "", most=0.7 + machine.SLACK)
                    if run.seconds < 0.7:
                        at_once.append((kind, code))
                    self.answers(["--timeout=0.7", nowhere, "10:" + UP], UP, most=0.7 + machine.SLACK)
        print(f"\nat once, not at the deadline: {at_once}", end=" ")
        self.assertIn((3, 1), at_once)
        self.assertIn((1, 0), at_once)

    def family(self, address):
        text = address.strip("[]")
        return (socket.AF_INET6 if ":" in text else socket.AF_INET), text

    def test_icmp_on_a_connection(self):
        """Once made, a connection survives the ICMP errors of routers."""
        for kind, code in [(3, 0), (3, 1), (3, 2), (3, 3), (3, 9), (3, 13), (11, 0)]:
            replies = []

            def weather(packet, outward):
                # Acknowledgements, but not the first packet of the handshake.
                if outward and not packet[33] & 2:
                    replies.append(packet)
                    return [(0, packet, outward), (0.05, unreachable(packet, kind, code), False)]
                return [(0, packet, outward)]

            self.way.weather = weather
            self.answers([SLOW], SLOW, least=1)
            self.assertTrue(replies)

    def test_silent_middlebox(self):
        """It accepts connections for the server behind it, and does nothing else."""
        for _ in range(5):
            self.answers(["--timeout=1", SILENT], "", least=1)
        self.answers(["--timeout=1", SILENT, "10:" + UP], UP, least=1)


class NextHop(Case):
    """A router so near that its answer comes while connect(2) is still at work."""

    def test_icmp_while_connecting(self):
        sh("""
            ip netns add router
            ip link add near type veth peer name eth0 netns router
            ip address add 198.18.0.1/30 dev near
            ip link set near up
            ip -n router address add 198.18.0.2/30 dev eth0
            ip -n router link set eth0 up
            ip netns exec router sysctl -qw net.ipv4.ip_forward=1 net.ipv4.icmp_ratelimit=0
            ip route add 203.0.113.0/24 via 198.18.0.2
        """)
        self.addCleanup(sh, "ip link del near; ip netns del router")
        # The router sends five errors at once, and then one a second.
        for _ in range(5):
            run = self.answers("-v --timeout 0.5 203.0.113.1", "", most=0.5)
            self.assertRegex(run.stderr, r"203.0.113.1: unreachable \(<?\d+ ms\)")
