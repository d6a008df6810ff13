"""The messages of sock_diag(7): how to ask, and how to read the answers.

Everything here is open to an ordinary user; only socket marks and cgroups would need CAP_NET_ADMIN.
Layouts: <linux/netlink.h>, <linux/inet_diag.h>, <linux/sock_diag.h>, <linux/tcp.h>, <linux/filter.h>.
"""

from __future__ import annotations

import os
import struct
import sys
from array import array
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from enum import Enum
from functools import lru_cache
from socket import AF_INET, AF_INET6, inet_ntop, inet_pton

from zdd_agent.model.kernel import Connection

NETLINK_SOCK_DIAG = 4
# The multicast groups on which the kernel reports each TCP socket that ends (<linux/sock_diag.h>, since Linux 4.2).
DESTROYED_GROUPS = (1, 3)  # SKNLGRP_INET_TCP_DESTROY, SKNLGRP_INET6_TCP_DESTROY
# Ports of one filter program, whose jumps have 8 bits; far more than a host has.
MAX_PORTS = 200

_LISTEN = 10
# TCP_ESTABLISHED, SYN_RECV, FIN_WAIT1, FIN_WAIT2, CLOSE_WAIT, LAST_ACK, LISTEN, CLOSING: all except TIME_WAIT,
# in which nothing is left to do, and SYN_SENT, since those connections are our own.
_STATES = sum(1 << state for state in (1, 3, 4, 5, 8, 9, _LISTEN, 11))
_FIN_WAIT2 = 5
_WILDCARDS = (bytes(4), bytes(16))
_LOOPBACK_NET, _LOOPBACK = 127, bytes(15) + b"\1"  # 127.0.0.0/8, ::1

_NLMSG_ERROR, _NLMSG_DONE = 2, 3
_DUMP = 0x301  # NLM_F_REQUEST | NLM_F_ROOT | NLM_F_MATCH
# Not SOCK_DIAG_BY_FAMILY (20): that walks the kernel's whole table of sockets once for each family, and takes twice
# the time. This older form of the same request answers for both at once; ss(8) uses it, too.
_TCPDIAG_GETSOCK = 18
_INET_DIAG_INFO = 2
_REQ_BYTECODE = 1
_S_GE, _S_LE, _JMP = 2, 3, 1

_HEADER = struct.Struct("=IHHII")  # length, type, flags, sequence, port
_REQUEST = struct.Struct("=BBBB4s44xII")  # family, lengths, ext, ports, rest of the socket id, states, tables
_BODY = struct.Struct("=BBxx4s16s16s4xQ4xII8x")  # family, state, ports, addresses, cookie, rqueue, wqueue
_PORTS = struct.Struct("!HH")
_ATTRIBUTE = struct.Struct("=HH")
# last_data_sent, last_data_recv (ms); bytes_acked, bytes_received; segs_out; data_segs_in, data_segs_out. Linux 4.6.
_TCP_INFO = struct.Struct("=44xI4xI64xQQI12xII")
_MAPPED = bytes(10) + b"\xff\xff"
_WORD = 0xFFFF_FFFF


class EndOfDump(Enum):
    """What comes after the last socket of a dump."""

    END = "end"


@dataclass(frozen=True, slots=True)
class Listener:
    """A port that takes connections at an address of this host, or at every one."""

    port: int


def packed(address: str) -> bytes:
    """The 4 or 16 bytes of an address, an IPv4-mapped one as IPv4. Raises OSError when it is none."""
    raw = inet_pton(AF_INET6 if ":" in address else AF_INET, address)
    return raw[12:] if raw[:12] == _MAPPED else raw


def dump_request(sequence: int, ports: Sequence[int]) -> bytes:
    """Ask for every TCP socket of these local ports, with its TCP_INFO."""
    program = _bytecode(ports)
    attribute = _ATTRIBUTE.pack(_ATTRIBUTE.size + len(program), _REQ_BYTECODE) + program
    # The kernel compares a single port before it looks at more of a socket: a fifth less time.
    single = _PORTS.pack(ports[0] if len(ports) == 1 else 0, 0)
    request = _REQUEST.pack(AF_INET, 0, 0, 1 << (_INET_DIAG_INFO - 1), single, _STATES, 0)
    length = _HEADER.size + len(request) + len(attribute)
    return _HEADER.pack(length, _TCPDIAG_GETSOCK, _DUMP, sequence, 0) + request + attribute


def port_filter(ports: Sequence[int]) -> tuple[bytes, array[int]]:
    """A `struct sock_fprog` that lets only messages of these local ports through, and the memory that it points to.

    Classic BPF: load the 16 bits of `idiag_sport`, compare with each port, take the message or drop it.
    """
    load, equal, give = 0x28, 0x15, 0x06  # BPF_LD|BPF_H|BPF_ABS, BPF_JMP|BPF_JEQ|BPF_K, BPF_RET|BPF_K
    code = [(load, 0, 0, _HEADER.size + 4)]
    code += [(equal, len(ports) - n, 0, port) for n, port in enumerate(ports)]
    code += [(give, 0, 0, 0), (give, 0, 0, _WORD)]
    memory = array("B", b"".join(struct.pack("=HBBI", *line) for line in code))
    return struct.pack("@HP", len(code), memory.buffer_info()[0]), memory


def read(
    message: bytes, sequence: int | None, own: frozenset[bytes] | None
) -> Iterator[Listener | Connection | EndOfDump]:
    """What one datagram from the kernel holds.

    Args:
        message: what recv(2) gave.
        sequence: of the dump to read, other messages are skipped; None to read messages that nobody asked for.
        own: the addresses of this host, packed; a connection counts when its local address is one and its peer's none.
            None: all count, except listeners that only the namespace itself reaches.

    Raises:
        OSError: the kernel refused.
        struct.error: the kernel is older than Linux 4.6.
    """
    offset = 0
    while offset + _HEADER.size <= len(message):
        length, kind, _, about, _ = _HEADER.unpack_from(message, offset)
        if length < _HEADER.size:
            raise OSError(f"netlink message of {length} bytes")
        if sequence in (None, about):
            if kind in (_NLMSG_ERROR, _NLMSG_DONE):
                _raise_for(message, offset + _HEADER.size)
                yield EndOfDump.END
            elif (seen := _socket(message, offset + _HEADER.size, offset + length, own)) is not None:
                yield seen
        offset += length + 3 & ~3


def _raise_for(message: bytes, offset: int) -> None:
    code = int.from_bytes(message[offset : offset + 4], sys.byteorder, signed=True)
    if code:
        raise OSError(-code, os.strerror(-code))


def _socket(message: bytes, offset: int, end: int, own: frozenset[bytes] | None) -> Listener | Connection | None:
    family, state, ports, source, peer, cookie, unread, unsent = _BODY.unpack_from(message, offset)
    port, peer_port = _PORTS.unpack(ports)
    source = _plain(family, source)
    if state == _LISTEN:
        if own is None:
            return Listener(port) if source[0] != _LOOPBACK_NET and source != _LOOPBACK else None
        return Listener(port) if source in own or source in _WILDCARDS else None
    peer = _plain(family, peer)
    if not peer_port or (own is not None and (source not in own or peer in own)):  # a listener that ended has no peer
        return None
    where = (cookie, port, _text(source), _text(peer), peer_port)
    found = _info(message, offset + _BODY.size, end)
    if found is None:
        # A handshake under way; or what the kernel keeps of a connection that the app has closed and the peer has
        # acknowledged, until the peer closes too: nothing is left to do on that.
        return None if state == _FIN_WAIT2 else Connection(*where)
    sent_ms, received_ms, acked, received, segments, data_in, data_out = _TCP_INFO.unpack_from(message, found)
    return Connection(
        *where,
        unread,
        unsent,
        received,
        acked,
        data_in,
        data_out,
        segments - data_out & _WORD,
        received_ms / 1000,
        sent_ms / 1000,
    )


def _info(message: bytes, offset: int, end: int) -> int | None:
    """Where the TCP_INFO of a socket begins."""
    while offset + _ATTRIBUTE.size <= end:
        length, kind = _ATTRIBUTE.unpack_from(message, offset)
        if kind == _INET_DIAG_INFO:
            return offset + _ATTRIBUTE.size
        offset += max(length, _ATTRIBUTE.size) + 3 & ~3
    return None


def _plain(family: int, raw: bytes) -> bytes:
    if family == AF_INET:
        return raw[:4]
    return raw[12:] if raw[:12] == _MAPPED else raw


@lru_cache(maxsize=256)
def _text(raw: bytes) -> str:
    return inet_ntop(AF_INET if len(raw) == 4 else AF_INET6, raw)


def _bytecode(ports: Sequence[int]) -> bytes:
    """A program for `inet_diag_bc_run` that accepts these local ports.

    20 bytes for each port; a jump to the very end accepts a socket, a jump 4 bytes beyond it rejects it. It compares
    with greater-or-equal and less-or-equal, since older kernels that are still in use have no "equal".
    """
    left = 20 * len(ports)
    program = b""
    for port in ports:
        last = left == 20
        program += struct.pack("=BBHBBH", _S_GE, 8, 24 if last else 20, 0, 0, port)
        program += struct.pack("=BBHBBH", _S_LE, 8, 16 if last else 12, 0, 0, port)
        program += struct.pack("=BBH", _JMP, 4, left - 16)
        left -= 20
    return program
