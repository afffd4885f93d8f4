"""Makes bytes leave in the way that its first argument names: `ways.py WAY ADDRESS PORT`.

Each way is one that real programs use. Prints what it has sent, or why it cannot.
"""

import array
import ctypes
import fcntl
import os
import socket
import struct
import sys

UDP_SEGMENT = 103
IPPROTO_MPTCP = 262
IPPROTO_UDPLITE = 136
TEXT = b"hello"


def family(address):
    return socket.AF_INET6 if ":" in address else socket.AF_INET


def checksum(data):
    words = sum(struct.unpack(f"!{len(data) // 2}H", data))
    return ~((words >> 16) + (words & 0xFFFF)) & 0xFFFF


def echo_request(address):
    if ":" in address:
        # The kernel fills the checksum in.
        return struct.pack("!BBHHH", 128, 0, 0, 7, 1) + b"datadata"
    head = struct.pack("!BBHHH", 8, 0, 0, 7, 1) + b"datadata"
    return head[:2] + struct.pack("!H", checksum(head)) + head[4:]


def icmp(address):
    return socket.IPPROTO_ICMPV6 if ":" in address else socket.IPPROTO_ICMP


def ping(address, _port):
    with open("/proc/sys/net/ipv4/ping_group_range", "w") as groups:
        groups.write("0 0")
    with socket.socket(family(address), socket.SOCK_DGRAM, icmp(address)) as s:
        s.sendto(echo_request(address), (address, 0))


def ping_connected(address, _port):
    with open("/proc/sys/net/ipv4/ping_group_range", "w") as groups:
        groups.write("0 0")
    with socket.socket(family(address), socket.SOCK_DGRAM, icmp(address)) as s:
        s.connect((address, 0))
        s.send(echo_request(address))


def raw(address, _port):
    with socket.socket(family(address), socket.SOCK_RAW, icmp(address)) as s:
        s.sendto(echo_request(address), (address, 0))


def raw_gre(address, _port):
    with socket.socket(family(address), socket.SOCK_RAW, socket.IPPROTO_GRE) as s:
        s.sendto(b"\0\0\x08\0" + bytes(20), (address, 0))


def raw_own_header(address, port):
    udp = struct.pack("!HHHH", 4000, port, 8 + len(TEXT), 0) + TEXT
    head = struct.pack(
        "!BBHHHBBH4s4s", 0x45, 0, 20 + len(udp), 7, 0, 64, 17, 0, bytes(4), socket.inet_aton(address)
    )
    with socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_RAW) as s:
        s.sendto(head + udp, (address, 0))


def udp_lite(address, port):
    with socket.socket(family(address), socket.SOCK_DGRAM, IPPROTO_UDPLITE) as s:
        s.sendto(TEXT, (address, port))


def udp_lite_connected(address, port):
    with socket.socket(family(address), socket.SOCK_DGRAM, IPPROTO_UDPLITE) as s:
        s.connect((address, port))
        s.send(TEXT)
        s.send(TEXT)


def udp_gso(address, port):
    with socket.socket(family(address), socket.SOCK_DGRAM) as s:
        s.setsockopt(socket.IPPROTO_UDP, UDP_SEGMENT, 100)
        s.sendto(bytes(1000), (address, port))


def mapped(address, port):
    with socket.socket(socket.AF_INET6, socket.SOCK_DGRAM) as s:
        s.sendto(TEXT, (f"::ffff:{address}", port))


def mapped_tcp(address, port):
    with socket.socket(socket.AF_INET6) as s:
        s.connect((f"::ffff:{address}", port))


def fast_open(address, port):
    with socket.socket(family(address)) as s:
        s.sendto(TEXT, socket.MSG_FASTOPEN, (address, port))
        s.recv(100)


def mptcp(address, port):
    with socket.socket(family(address), socket.SOCK_STREAM, IPPROTO_MPTCP) as s:
        s.connect((address, port))
        s.send(TEXT)
        s.recv(100)


def nonblocking(address, port):
    with socket.socket(family(address)) as s:
        s.setblocking(False)
        s.connect_ex((address, port))
        s.settimeout(5)
        s.send(TEXT)
        s.recv(100)


def multicast(address, port):
    with socket.socket(family(address), socket.SOCK_DGRAM) as s:
        s.sendto(TEXT, (address, port))


def broadcast(address, port):
    with socket.socket(family(address), socket.SOCK_DGRAM) as s:
        s.setsockopt(socket.SOL_SOCKET, socket.SO_BROADCAST, 1)
        s.sendto(TEXT, (address, port))


def packet(_address, _port):
    with socket.socket(socket.AF_PACKET, socket.SOCK_RAW, 0) as s:
        s.bind(("lo", 0))
        s.send(bytes(12) + b"\x08\x00" + bytes(40))


def tun(_address, _port):
    with open("/dev/net/tun", "r+b", buffering=0) as device:
        name = b"ways%d" % (os.getpid() % 10000)
        fcntl.ioctl(device, 0x400454CA, struct.pack("16sH22x", name, 0x1001))


def passed(address, port):
    """A socket made here, used by a child that got it over a Unix socket."""
    ours, theirs = socket.socketpair(socket.AF_UNIX)
    if os.fork() == 0:
        _, ancillary, _, _ = theirs.recvmsg(1, socket.CMSG_SPACE(4))
        fds = array.array("i", ancillary[0][2])
        with socket.socket(fileno=fds[0]) as s:
            s.sendto(TEXT, (address, port))
        os._exit(0)
    with socket.socket(family(address), socket.SOCK_DGRAM) as s:
        fds = array.array("i", [s.fileno()])
        ours.sendmsg([b"x"], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, fds)])
        os.wait()


def other_namespace(address, port):
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.unshare(0x40000000) != 0:
        sys.exit(os.strerror(ctypes.get_errno()))
    os.system("ip link set lo up")
    with socket.socket(family(address), socket.SOCK_DGRAM) as s:
        s.sendto(TEXT, (address, port))


def netlink(_address, _port):
    with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, socket.NETLINK_ROUTE) as s:
        s.sendto(struct.pack("=IHHII", 16, 3, 0, 1, 0), (0, 0))


def serve(address, port):
    """Answers datagrams, one for each that comes, until `bye`."""
    with socket.socket(family(address), socket.SOCK_DGRAM) as s:
        s.bind((address, port))
        print("ready", flush=True)
        text = b""
        while text != b"bye":
            text, peer = s.recvfrom(100)
            s.sendto(TEXT, peer)


def serve_connected(address, port):
    """Answers one datagram from a socket that is then connected to the peer."""
    with socket.socket(family(address), socket.SOCK_DGRAM) as s:
        s.bind((address, port))
        print("ready", flush=True)
        _, peer = s.recvfrom(100)
        s.connect(peer)
        s.send(TEXT)


def serve_late(address, port):
    """Answers nobody but the first who came, once `bye` has come."""
    with socket.socket(family(address), socket.SOCK_DGRAM) as s:
        s.bind((address, port))
        print("ready", flush=True)
        text, first = s.recvfrom(100)
        while text != b"bye":
            text, _ = s.recvfrom(100)
        s.sendto(TEXT, first)


def crowd(address, port):
    """One who waits for an answer, while so many others come: `crowd ADDRESS PORT N`."""
    with socket.socket(family(address), socket.SOCK_DGRAM) as patient:
        patient.sendto(b"?", (address, port))
        for n in range(int(sys.argv[4])):
            with socket.socket(family(address), socket.SOCK_DGRAM) as s:
                # One address has fewer ports than that.
                s.bind((f"198.51.100.{100 + n % 100}", 0))
                s.sendto(b"?", (address, port))
        patient.settimeout(1)
        for _ in range(20):
            # Somebody else says so: who speaks again is known again.
            with socket.socket(family(address), socket.SOCK_DGRAM) as s:
                s.sendto(b"bye", (address, port))
            try:
                patient.recv(100)
                break
            except TimeoutError:
                pass


def bound_client(address, port):
    """A client that is bound, and sends more than once, answered or not."""
    with socket.socket(family(address), socket.SOCK_DGRAM) as s:
        s.bind(("", 0))
        for _ in range(3):
            s.sendto(TEXT, (address, port))
            s.recv(100)


def scan(address, port):
    """As many peers as ports are asked for, each from a socket of its own: `scan ADDRESS PORT N`."""
    for _ in range(int(sys.argv[4])):
        with socket.socket(family(address), socket.SOCK_DGRAM) as s:
            s.sendto(b"?", (address, port))
            s.settimeout(10)
            s.recv(100)
    with socket.socket(family(address), socket.SOCK_DGRAM) as s:
        s.sendto(b"bye", (address, port))


def wrong(address, port):
    """What the kernel refuses, or takes for something else: none of it may harm the tracer."""
    libc = ctypes.CDLL(None, use_errno=True)
    tcp = socket.socket()
    short = struct.pack("=HH", socket.AF_INET, socket.htons(port))
    odd = struct.pack("=H", 99) + bytes(30)
    for address_bytes in (short[:1], short, odd, b""):
        libc.connect(tcp.fileno(), address_bytes, len(address_bytes))
    udp = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    libc.sendto(udp.fileno(), TEXT, len(TEXT), 0, short, 4)
    for to in ((address, 0), ("0.0.0.0", port)):
        try:
            udp.sendto(TEXT, to)
        except OSError as error:
            print(to, error)
    tcp.connect((address, port))
    print("again", tcp.connect_ex((address, port)))
    # AF_UNSPEC takes the connection back; after that another one may be made.
    libc.connect(tcp.fileno(), bytes(16), 16)
    tcp.connect((address, port))


way, address, port = sys.argv[1], sys.argv[2], int(sys.argv[3])
try:
    globals()[way](address, port)
    print(f"{way}: done")
except OSError as error:
    print(f"{way}: not here: {error}")
