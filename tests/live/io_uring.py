"""Connects by way of io_uring, on a worker thread of the kernel's: `io_uring.py ADDRESS PORT`."""

import ctypes
import mmap
import os
import socket
import struct
import sys

IO_URING_SETUP, IO_URING_ENTER = 425, 426
SQ_RING, SQES = 0, 0x10000000
OP_CONNECT = 16
# IOSQE_ASYNC: a worker does it, whether or not it would block.
ASYNC = 1 << 4
GET_EVENTS = 1

libc = ctypes.CDLL(None, use_errno=True)


def call(number, *arguments):
    result = libc.syscall(number, *arguments)
    if result < 0:
        sys.exit(f"system call {number}: {os.strerror(ctypes.get_errno())}")
    return result


# struct io_uring_params: offsets of the two rings' fields at 40 and 80.
parameters = bytearray(120)
ring = call(IO_URING_SETUP, 4, (ctypes.c_char * 120).from_buffer(parameters))
entries = struct.unpack_from("I", parameters, 0)[0]
tail, array = (struct.unpack_from("I", parameters, 40 + at)[0] for at in (4, 24))
completions = struct.unpack_from("I", parameters, 80 + 20)[0]
both = mmap.PROT_READ | mmap.PROT_WRITE
rings = mmap.mmap(ring, 4096, mmap.MAP_SHARED, both, offset=SQ_RING)
requests = mmap.mmap(ring, 64 * entries, mmap.MAP_SHARED, both, offset=SQES)

family = struct.pack("=HH", socket.AF_INET, socket.htons(int(sys.argv[2])))
to = ctypes.create_string_buffer(family + socket.inet_aton(sys.argv[1]) + bytes(8), 16)
client = socket.socket()
request = (OP_CONNECT, ASYNC, 0, client.fileno(), 16, ctypes.addressof(to), 0, 0, 7)
struct.pack_into("=BBHiQQIIQ", requests, 0, *request)
struct.pack_into("I", rings, array, 0)
struct.pack_into("I", rings, tail, 1)
call(IO_URING_ENTER, ring, 1, 1, GET_EVENTS, None, 0)
print(os.getpid(), *struct.unpack_from("=Qi", rings, completions))
