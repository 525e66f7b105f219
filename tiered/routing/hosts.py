"""The hosts file: names that the machine knows without asking anybody."""

from __future__ import annotations

import ipaddress
from typing import Final

from tiered.routing.addresses import is_ip_address

__all__ = ["HOSTS_FILE", "HOSTS_TTL", "listed_addresses"]

HOSTS_FILE: Final = "/etc/hosts"

HOSTS_TTL: Final = 60.0
"""Seconds for which an answer from the file is good; nothing in it says."""


def listed_addresses(name: str, path: str = HOSTS_FILE) -> tuple[str, ...]:
    """The IP addresses of *name*, which is in any case, in the file at *path*.

    Lines that are none are passed over, and a file that is missing or may not be read
    lists nothing, as for the system's own resolver.
    """
    wanted = name.removesuffix(".").lower()
    listed: dict[str, None] = {}
    try:
        with open(path, encoding="utf-8", errors="replace") as lines:
            for line in lines:
                address, *names = line.partition("#")[0].split() or [""]
                called = (other.removesuffix(".").lower() for other in names)
                if wanted in called and is_ip_address(address):
                    listed[str(ipaddress.ip_address(address))] = None
    except OSError:
        return ()
    return tuple(listed)
