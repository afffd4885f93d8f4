"""Makes bytes leave in the way that its first argument names: `ways.py WAY ADDRESS PORT`.

Each way is one that real programs use. Prints what it has sent, or why it cannot.
"""

import array
import ctypes
import fcntl
import mmap
import os
import socket
import struct
import sys

UDP_SEGMENT = 103
IPPROTO_DCCP, SOCK_DCCP = 33, 6
AF_XDP, SOL_XDP = 44, 283
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


class Uring:
    """A ring of io_uring that does one thing after the other."""

    SETUP, ENTER = 425, 426
    SENDMSG, CONNECT, SEND, SOCKET = 9, 16, 26, 45
    GET_EVENTS = 1

    def __init__(self):
        self.libc = ctypes.CDLL(None, use_errno=True)
        parameters = bytearray(120)
        place = (ctypes.c_char * 120).from_buffer(parameters)
        self.fd = self.call(self.SETUP, 4, place)
        entries = struct.unpack_from("I", parameters, 0)[0]
        self.tail, self.array = (struct.unpack_from("I", parameters, 40 + at)[0] for at in (4, 24))
        self.completions = struct.unpack_from("I", parameters, 80 + 20)[0]
        both = mmap.PROT_READ | mmap.PROT_WRITE
        self.rings = mmap.mmap(self.fd, 4096, mmap.MAP_SHARED, both, offset=0)
        self.requests = mmap.mmap(self.fd, 64 * entries, mmap.MAP_SHARED, both, offset=0x10000000)
        self.entries, self.done = entries, 0

    def call(self, number, *arguments):
        result = self.libc.syscall(number, *arguments)
        if result < 0:
            raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
        return result

    def ask(self, operation, fd, offset, at, length, more=0):
        """One request, as `struct io_uring_sqe` has its first fields. Returns what came of it."""
        slot = self.done % self.entries
        request = struct.pack("=BBHiQQIIQHHI", operation, 0, 0, fd, offset, at, length, 0, 0, 0, 0, more)
        self.requests[64 * slot : 64 * slot + 64] = request.ljust(64, b"\0")
        struct.pack_into("I", self.rings, self.array + 4 * slot, slot)
        struct.pack_into("I", self.rings, self.tail, self.done + 1)
        self.call(self.ENTER, self.fd, 1, 1, self.GET_EVENTS, None, 0)
        where = self.completions + 16 * (self.done % (2 * self.entries))
        self.done += 1
        result = struct.unpack_from("=Qi", self.rings, where)[1]
        if result < 0:
            raise OSError(-result, os.strerror(-result))
        return result

    def connect(self, fd, to):
        self.ask(self.CONNECT, fd, len(to), ctypes.addressof(to), 0)

    def send(self, fd, text):
        self.ask(self.SEND, fd, 0, ctypes.addressof(text), len(TEXT))


def sockaddr(address, port):
    head = struct.pack("=HH", socket.AF_INET, socket.htons(port))
    return ctypes.create_string_buffer(head + socket.inet_aton(address) + bytes(8), 16)


def uring(address, port):
    """A socket that io_uring makes, connects and sends on."""
    ring, text = Uring(), ctypes.create_string_buffer(TEXT)
    fd = ring.ask(Uring.SOCKET, socket.AF_INET, socket.SOCK_STREAM, 0, 0)
    ring.connect(fd, sockaddr(address, port))
    ring.send(fd, text)


def uring_send(address, port):
    """A connected UDP socket on which io_uring sends."""
    ring, text = Uring(), ctypes.create_string_buffer(TEXT)
    fd = ring.ask(Uring.SOCKET, socket.AF_INET, socket.SOCK_DGRAM, 0, 0)
    ring.connect(fd, sockaddr(address, port))
    ring.send(fd, text)


def uring_sendmsg(address, port):
    ring, text, to = Uring(), ctypes.create_string_buffer(TEXT), sockaddr(address, port)
    vector = ctypes.create_string_buffer(struct.pack("=QQ", ctypes.addressof(text), len(TEXT)))
    head = struct.pack("=QQQQQQQ", ctypes.addressof(to), 16, ctypes.addressof(vector), 1, 0, 0, 0)
    head = ctypes.create_string_buffer(head)
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as s:
        ring.ask(Uring.SENDMSG, s.fileno(), 0, ctypes.addressof(head), 1)


def sctp(address, port):
    with socket.socket(family(address), socket.SOCK_STREAM, socket.IPPROTO_SCTP) as s:
        s.connect_ex((address, port))


def dccp(address, port):
    with socket.socket(family(address), SOCK_DCCP, IPPROTO_DCCP) as s:
        s.connect_ex((address, port))


def interface():
    return next(name for _, name in socket.if_nameindex() if name != "lo")


def link_local(address, port):
    with socket.socket(socket.AF_INET6, socket.SOCK_DGRAM) as s:
        s.sendto(TEXT, (address, port, 0, socket.if_nametoindex(interface())))


def link_local_to_the_end(address, port):
    link_local(address, port)
    sys.stdin.read()


def vsock(_address, port):
    """To this machine itself: to the host, where there is one, something might listen."""
    with socket.socket(socket.AF_VSOCK, socket.SOCK_STREAM) as listener:
        listener.bind((1, port))
        listener.listen()
        with socket.socket(socket.AF_VSOCK, socket.SOCK_STREAM) as s:
            s.connect((1, port))
            s.send(TEXT)


def xdp(_address, _port):
    """One frame by AF_XDP's ring, copied, and the call that tells the kernel of it."""
    register, fill, completion, sends = 4, 5, 6, 3
    size, frames = 2048, 16
    room = mmap.mmap(-1, size * frames)
    room[:54] = bytes(12) + b"\x08\x00" + bytes(40)
    at = ctypes.addressof(ctypes.c_char.from_buffer(room))
    with socket.socket(AF_XDP, socket.SOCK_RAW, 0) as s:
        s.setsockopt(SOL_XDP, register, struct.pack("=QQIII4x", at, len(room), size, 0, 0))
        for ring in (fill, completion, sends):
            s.setsockopt(SOL_XDP, ring, frames)
        where = s.getsockopt(SOL_XDP, 1, 128)
        producer, _, descriptors = struct.unpack_from("=QQQ", where, 32)
        both = mmap.PROT_READ | mmap.PROT_WRITE
        length = descriptors + 16 * frames
        ring = mmap.mmap(s.fileno(), length, mmap.MAP_SHARED, both, offset=0x80000000)
        copied, wakeup = 1 << 1, 1 << 3
        to = struct.pack("=HHIII", AF_XDP, copied | wakeup, socket.if_nametoindex("lo"), 0, 0)
        libc = ctypes.CDLL(None, use_errno=True)
        if libc.bind(s.fileno(), to, len(to)) != 0:
            raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
        struct.pack_into("=QII", ring, descriptors, 0, 54, 0)
        struct.pack_into("I", ring, producer, 1)
        libc.sendto(s.fileno(), None, 0, socket.MSG_DONTWAIT, None, 0)


def unix_name(name):
    return "\0" + name[1:] if name.startswith("@") else name


def unix(name, _port):
    """Two calls that send, and then a service of the workload's own."""
    with socket.socket(socket.AF_UNIX) as s:
        s.connect(unix_name(name))
        s.send(TEXT)
        s.send(TEXT)
    ours, theirs = socket.socketpair()
    ours.send(TEXT)
    theirs.send(TEXT)
    with socket.socket(socket.AF_UNIX) as listener, socket.socket(socket.AF_UNIX) as s:
        listener.bind(f"\0ways-own-{os.getpid()}")
        listener.listen()
        s.connect(listener.getsockname())
        s.send(TEXT)
        listener.accept()[0].send(TEXT)


def unix_datagram(name, _port):
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as s:
        s.connect(unix_name(name))
        s.send(TEXT)


def unix_serve(name, port):
    """Hears so many clients as `port` says, up to their end."""
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(unix_name(name))
        listener.listen()
        for _ in range(port):
            with listener.accept()[0] as client:
                while client.recv(100):
                    pass


def unix_many(name, port):
    """A service that has so many other names as `port` says, each called once."""
    for n in range(port):
        with socket.socket(socket.AF_UNIX) as s:
            s.connect(unix_name(f"{name}-{n}"))
            s.send(TEXT)


def inherited(address, port):
    """A socket made in one cgroup and used in another: `inherited ADDRESS PORT MAKER USER`."""
    def join(cgroup):
        with open(f"{cgroup}/cgroup.procs", "w") as processes:
            processes.write("0")

    join(sys.argv[4])
    with socket.socket(family(address), socket.SOCK_DGRAM) as s:
        if os.fork() == 0:
            join(sys.argv[5])
            s.sendto(TEXT, (address, port))
            os._exit(0)
        os.wait()


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


def ask(address, port):
    with socket.socket(family(address), socket.SOCK_DGRAM) as s:
        s.sendto(TEXT, (address, port))
        s.recv(100)


def ask_connected(address, port):
    with socket.socket(family(address), socket.SOCK_DGRAM) as s:
        s.connect((address, port))
        s.send(TEXT)
        s.recv(100)


def ask_by_ping(address, _port):
    with open("/proc/sys/net/ipv4/ping_group_range", "w") as groups:
        groups.write("0 0")
    with socket.socket(family(address), socket.SOCK_DGRAM, icmp(address)) as s:
        s.sendto(echo_request(address), (address, 0))
        s.recv(100)


def tell(address, port):
    """Says something to the first port and waits for no answer; asks at the one after it."""
    with socket.socket(family(address), socket.SOCK_DGRAM) as s:
        for _ in range(3):
            s.sendto(TEXT, (address, port))
    with socket.socket(family(address), socket.SOCK_DGRAM) as s:
        s.connect((address, port))
        s.send(TEXT)
    ask(address, port + 1)


def one_set(address, port):
    """More connections at a time than a set of those that are followed has room for: sockets of which
    the kernel's cookies differ by the number of sets. `one_set ADDRESS PORT SETS N`."""
    so_cookie, sets, wanted = 57, int(sys.argv[4]), int(sys.argv[5])
    kept = []
    while len(kept) < wanted:
        s = socket.socket()
        cookie = struct.unpack("=Q", s.getsockopt(socket.SOL_SOCKET, so_cookie, 8))[0]
        if kept and cookie % sets != kept[0][1]:
            s.close()
            continue
        s.connect((address, port))
        s.send(TEXT)
        s.recv(100)
        kept.append((s, cookie % sets))
    for s, _ in kept:
        s.close()


def ask_again(address, port):
    """Asks, and once more when a line comes."""
    with socket.socket(family(address), socket.SOCK_DGRAM) as s:
        s.sendto(TEXT, (address, port))
        s.recv(100)
        print("ready", flush=True)
        sys.stdin.readline()
        s.sendto(TEXT, (address, port))
        s.recv(100)


def talk(address, port):
    """Says something for each line that comes, on one connection."""
    with socket.socket(family(address)) as s:
        s.connect((address, port))
        for _ in sys.stdin:
            s.send(TEXT)
            s.recv(100)
            print("said", flush=True)


def scan(address, port):
    """As many peers as ports are asked for, each from a socket of its own: `scan ADDRESS PORT N`."""
    for _ in range(int(sys.argv[4])):
        with socket.socket(family(address), socket.SOCK_DGRAM) as s:
            s.sendto(b"?", (address, port))
            s.settimeout(10)
            s.recv(100)
    with socket.socket(family(address), socket.SOCK_DGRAM) as s:
        s.sendto(b"bye", (address, port))


def far(address, count):
    """A datagram to each of so many places: 250 addresses, and as many ports of each as it takes."""
    net = address.rsplit(".", 1)[0]
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as s:
        for n in range(count):
            s.sendto(TEXT, (f"{net}.{n % 250 + 1}", n // 250 + 1))


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
