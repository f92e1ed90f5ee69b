"""Who is at the other end of a Unix socket, as the kernel tells it."""

from __future__ import annotations

import socket
import struct
import sys

# <sys/un.h> of macOS; Python's socket module has no names for them.
_SOL_LOCAL = 0
_LOCAL_PEERCRED = 0x001
_LOCAL_PEERPID = 0x002
_XUCRED_HEAD = "=II"  # cr_version, cr_uid: the start of `struct xucred`
_UCRED = "=iII"  # pid, uid, gid: Linux's `struct ucred`


def peer_uid(connection: socket.socket) -> int:
    """The other side's user id. Raises OSError when the kernel does not say."""
    if sys.platform == "darwin":
        raw = connection.getsockopt(_SOL_LOCAL, _LOCAL_PEERCRED, 128)
        return int(struct.unpack_from(_XUCRED_HEAD, raw)[1])
    raw = connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, struct.calcsize(_UCRED))
    return int(struct.unpack(_UCRED, raw)[1])


def peer_pid(connection: socket.socket) -> int:
    """The process that listens (seen from a client) or that connected (seen from a server). Raises OSError."""
    if sys.platform == "darwin":
        return int(struct.unpack("=i", connection.getsockopt(_SOL_LOCAL, _LOCAL_PEERPID, 4))[0])
    raw = connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, struct.calcsize(_UCRED))
    return int(struct.unpack(_UCRED, raw)[0])
