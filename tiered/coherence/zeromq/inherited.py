"""What a forked child does with the sockets of its parent: nothing, but for what does harm.

The child has copies of all descriptors, and none of libzmq's threads. As long as it keeps a copy
of what the parent had bound, the address stays taken when the parent is dead, by somebody who
answers nobody, and those who were connected do not hear that it is dead.
"""

from __future__ import annotations

import ipaddress
import os
import socket
import stat
from collections.abc import Iterable
from typing import Any, Final

from tiered.coherence.zeromq.addresses import BusAddress

__all__ = ["close_copies", "keep_for_ever"]

_kept: Final[list[object]] = []
_MAPPED: Final = "::ffff:"


def keep_for_ever(inherited: object) -> None:
    """Never delete *inherited*: libzmq would be called to close what the parent uses."""
    _kept.append(inherited)


def close_copies(bound: Iterable[tuple[BusAddress, str, bool]]) -> None:
    """Close the descriptors of this process that belong to sockets bound to one of *bound*.

    Args:
        bound: addresses, each with the endpoint that was bound for it, and whether that is
            of IPv6.
    """
    names = {_name(address, endpoint) for address, endpoint, _ in bound}
    if not names:
        return
    for entry in os.listdir("/proc/self/fd"):
        descriptor = int(entry)
        if _is_bound_to(descriptor, names):
            os.close(descriptor)


def _name(address: BusAddress, endpoint: str) -> tuple[str, int]:
    if address.path:
        return address.path, 0
    host = endpoint.removeprefix("tcp://").rpartition(":")[0].strip("[]")
    return ("" if address.is_wildcard else ipaddress.ip_address(host).compressed), address.port


def _is_bound_to(descriptor: int, names: set[tuple[str, int]]) -> bool:
    try:
        if not stat.S_ISSOCK(os.fstat(descriptor).st_mode):
            return False
        copy = socket.socket(fileno=descriptor)
    except OSError:
        return False  # the one that listed the folder; or none that can be asked
    try:
        if copy.type != socket.SOCK_STREAM:
            return False
        name: Any = copy.getsockname()
    except OSError:
        return False
    finally:
        copy.detach()
    if isinstance(name, bytes):  # an abstract name
        return (os.fsdecode(name.replace(b"\0", b"@", 1)), 0) in names
    if isinstance(name, str):
        return (name, 0) in names
    if isinstance(name, tuple) and len(name) >= 2 and isinstance(name[1], int):
        return (str(name[0]).removeprefix(_MAPPED), name[1]) in names or ("", name[1]) in names
    return False
