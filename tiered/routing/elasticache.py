"""The configuration endpoint of Amazon ElastiCache: the nodes of a cluster.

The reply to ``config get cluster``, and, but for its first line, to the older
``get AmazonElastiCache:cluster``::

    CONFIG cluster 0 <length>\\r\\n
    <version>\\n
    <host>|<ip>|<port> <host>|<ip>|<port> ...\\n
    \\r\\n
    END\\r\\n
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Final, NamedTuple

from tiered.errors import DiscoveryError
from tiered.routing.addresses import Address, is_ip_address
from tiered.routing.discovery import Found
from tiered.validation import check_number

__all__ = ["MAX_REPLY", "ElastiCacheDiscovery", "Node", "expected_length", "parse_configuration"]

MAX_REPLY: Final = 1 << 20
"""Bytes of a reply that may be worth reading; a thousand nodes with long names have a fifth."""

_MAX_NODES: Final = 4096
_HEAD: Final = re.compile(
    rb"(?:CONFIG cluster|VALUE AmazonElastiCache:cluster) [0-9]{1,10} ([0-9]{1,7})"
)
_LONGEST_HEAD: Final = 80
_END: Final = b"\r\nEND\r\n"
_VERSION: Final = re.compile(rb"[0-9]{1,18}")
_NODE: Final = re.compile(r"([A-Za-z0-9._-]{1,255})\|([0-9A-Fa-f.:]{0,45})\|([0-9]{1,5})")
_SHOWN: Final = 80
_PATIENCE: Final = 5
"""Replies in a row that may be older than one before them."""


class Node(NamedTuple):
    """A node of the cluster.

    Attributes:
        host: its name, which it keeps when it is replaced.
        ip: its address inside the cloud at that time; may be empty.
        port: 1 to 65535.
    """

    host: str
    ip: str
    port: int


def expected_length(start: bytes) -> int | None:
    """How many bytes the reply that begins with *start* has; ``None`` if more must be read first.

    Raises:
        DiscoveryError: it is no configuration, or a larger one than may be.
    """
    first, newline, _ = start.partition(b"\r\n")
    if not newline and len(first) <= _LONGEST_HEAD:
        return None
    length = len(first) + 2 + _data_length(first, start) + len(_END)
    if length > MAX_REPLY:
        raise DiscoveryError(f"the configuration has {length} bytes; {MAX_REPLY} may be")
    return length


def _data_length(first: bytes, reply: bytes) -> int:
    head = _HEAD.fullmatch(first)
    if head is None:
        raise DiscoveryError(f"no configuration of a cluster: {_shown(reply)}")
    return int(head[1])


def parse_configuration(reply: bytes) -> tuple[int, tuple[Node, ...]]:
    """The version of the configuration, which grows with each change, and the nodes.

    Raises:
        DiscoveryError: it is anything but one whole reply with at least one node.
    """
    if len(reply) > MAX_REPLY:
        raise DiscoveryError(f"the configuration has {len(reply)} bytes; {MAX_REPLY} may be")
    first, _, rest = reply.partition(b"\r\n")
    length = _data_length(first, reply)
    if rest[length:] != _END:
        raise DiscoveryError(f"the configuration does not have the {length} bytes that it says")
    version, newline, nodes = rest[:length].partition(b"\n")
    if not newline or not _VERSION.fullmatch(version):
        raise DiscoveryError(f"the configuration has the version {_shown(version)}")
    return int(version), _parse_nodes(nodes.removesuffix(b"\n"))


def _parse_nodes(line: bytes) -> tuple[Node, ...]:
    # latin-1 decodes anything; what is not ASCII does not match a node.
    words = line.decode("latin-1").split(" ", _MAX_NODES)
    if len(words) > _MAX_NODES:
        raise DiscoveryError(f"the configuration has more than {_MAX_NODES} nodes")
    nodes = tuple(_parse_node(word) for word in words)
    if len({(node.host.lower(), node.port) for node in nodes}) < len(nodes):
        raise DiscoveryError("the configuration has a node twice")
    return nodes


def _parse_node(text: str) -> Node:
    match = _NODE.fullmatch(text)
    if match is None:
        raise DiscoveryError(f"the configuration has the node {text[:_SHOWN]!r}")
    host, ip, port = match[1], match[2], int(match[3])
    if not 0 < port < 65536 or (ip and not is_ip_address(ip)):
        raise DiscoveryError(f"the configuration has the node {text[:_SHOWN]!r}")
    return Node(host, ip, port)


def _shown(data: bytes) -> str:
    return repr(data[:_SHOWN]) + ("..." if len(data) > _SHOWN else "")


class ElastiCacheDiscovery:
    """The nodes that a configuration endpoint names, called by their host names.

    Any node may answer for the endpoint, one that has not heard of the latest change too. So
    a version older than one that was seen before is passed over, a few times in a row; after
    that it is the truth of a cluster that was made anew.

    Args:
        ask: gives the endpoint's reply. It may raise whatever an exchange raises.
        every: seconds for which a reply is good.
    """

    def __init__(self, ask: Callable[[], bytes], every: float = 60.0) -> None:
        self._ask = ask
        self._every = check_number("every", every, low=0, hint="0 seconds or more")
        self._newest: tuple[int, tuple[Node, ...]] = (0, ())
        self._passed_over = 0

    def find(self) -> Found:
        """The nodes of now.

        Raises:
            DiscoveryError: the exchange failed, or its reply is no configuration.
        """
        try:
            reply = self._ask()
        except Exception as error:  # a socket's, a client's, or a bug: no answer, in any case
            raise DiscoveryError(
                f"the configuration endpoint failed: {type(error).__name__}: {error}"
            ) from error
        nodes = self._latest(*parse_configuration(reply))
        servers = (Address(node.host.lower(), node.port) for node in nodes)
        return Found(tuple(sorted(servers, key=str)), self._every)

    def _latest(self, version: int, nodes: tuple[Node, ...]) -> tuple[Node, ...]:
        if version < self._newest[0] and self._passed_over < _PATIENCE:
            self._passed_over += 1
        else:
            self._newest = version, nodes
            self._passed_over = 0
        return self._newest[1]

    def __repr__(self) -> str:
        return f"ElastiCacheDiscovery(every={self._every:g})"
