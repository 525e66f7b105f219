"""A coherent client around a namespace, which is a namespace around a coherent client."""

from __future__ import annotations

from tiered.clients.base import CacheClient
from tiered.clients.namespace import NamespaceMirrorWrapper, NamespaceWrapper
from tiered.clients.wrapper import Wrapper
from tiered.coherence.client import CoherentWrapperClient
from tiered.coherence.manager import CoherenceManager

__all__ = ["CoherentNamespaceClient"]


class CoherentNamespaceClient(CoherentWrapperClient):
    """What ``CoherentWrapperClient(NamespaceWrapper(name, client), manager)`` makes.

    It is ``NamespaceWrapper(name, CoherentWrapperClient(client, manager))``: the revision is part
    of the names of all copies. Whoever tells of changes has to know which one it was when they
    were made, and who holds copies, when it has become another.

    Args:
        client: the namespace, whose own client is made coherent.

    Threads: safe.
    """

    def __init__(self, client: NamespaceWrapper, manager: CoherenceManager) -> None:
        inner = CoherentWrapperClient(client.client, manager)
        mirrors = isinstance(client, NamespaceMirrorWrapper)
        Wrapper.__init__(
            self,
            client.around(inner)
            if mirrors
            else NamespaceWrapper(client.namespace, inner, recheck=client.recheck),
        )
        self.manager = manager
        self.read_near(None, self.clock.monotonic, CacheClient.get)

    # All is done beneath the namespace.

    around = Wrapper.around
    entry = Wrapper.entry
    entries = Wrapper.entries
    find = Wrapper.find
    find_many = Wrapper.find_many
    near = Wrapper.near
    hot_path = Wrapper.hot_path
    store = Wrapper.store
    store_many = Wrapper.store_many
    fill = Wrapper.fill
    touch = Wrapper.touch
    outdate = Wrapper.outdate
    discard = Wrapper.discard
    discard_many = Wrapper.discard_many
    sweep = Wrapper.sweep
    clear = Wrapper.clear
    claim = Wrapper.claim
    revoke = Wrapper.revoke
    follow = Wrapper.follow
    authority = Wrapper.authority
    capabilities = Wrapper.capabilities
    explain = Wrapper.explain

    def __repr__(self) -> str:
        return f"<CoherentNamespaceClient {self.client!r}>"
