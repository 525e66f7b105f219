"""The time that deadlines in files are told in.

It is the wall clock's as of when the directory was first used since the machine started, and
goes on with the monotonic clock, which all processes of a host share. So an administrator or a
time server that sets the clock neither revives what has expired nor ends what has not.
"""

from __future__ import annotations

import os
from hashlib import blake2b
from typing import Final

from tiered.clock import SystemClock
from tiered.typing import Clock

__all__ = ["run_of"]

_BOOT: Final = "/proc/sys/kernel/random/boot_id"
_NAMESPACE: Final = "/proc/self/ns/time"


def run_of(clock: Clock) -> int:
    """A number for the run of *clock*: equal where its monotonic times can be compared.

    0 if that is not known.
    """
    if not isinstance(clock, SystemClock):
        return _digest(f"{os.getpid()} {id(clock)}".encode())
    try:
        with open(_BOOT, "rb") as file:
            boot = file.read()
        # Containers may have monotonic clocks of their own.
        namespace = os.stat(_NAMESPACE).st_ino
    except OSError:
        return 0
    return _digest(b"%b %d" % (boot.strip(), namespace))


def _digest(data: bytes) -> int:
    return int.from_bytes(blake2b(data, digest_size=7).digest(), "big") or 1
