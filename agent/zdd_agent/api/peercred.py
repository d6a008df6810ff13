"""Who is at the other end of a Unix socket, from the kernel.

Source: unix(7), SO_PEERCRED; SO_PEERGROUPS since Linux 4.13.
"""

from __future__ import annotations

import socket
import struct

from zdd_agent.api.access import Peer

_SO_PEERGROUPS = 59  # <asm-generic/socket.h>; Python does not name it
_PEERGROUPS_BYTES = 1024  # 256 groups; Python takes no larger buffer
_UCRED = struct.Struct("iII")  # pid, uid, gid; as unsigned, since (uid_t) -1 is a number too


def peer_of(connection: socket.socket) -> Peer:
    """Who connected, as of the connect(2). Raises OSError when the kernel does not say."""
    pid, uid, gid = _UCRED.unpack(connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _UCRED.size))
    try:
        raw = connection.getsockopt(socket.SOL_SOCKET, _SO_PEERGROUPS, _PEERGROUPS_BYTES)
    except OSError:  # ERANGE: more groups than fit; then only the primary one counts, which grants less
        raw = b""
    groups = struct.unpack(f"{len(raw) // 4}I", raw)
    return Peer(pid, uid, frozenset({gid, *groups}))
