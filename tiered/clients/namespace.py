"""Namespaces: many users of one client who never meet, and a ``clear()`` that is one write.

A key becomes ``(prefix, key)``, where the prefix holds the namespace and its
*revision*, a random token. ``clear()`` writes a new token; whatever lies under
the old one can never be reached again and ages out.

Who sees a ``clear()``, and when:

- Everybody who uses the same client object in this process: at once. They share
  one :class:`~tiered.clients.namespacestate.NamespaceState`.
- Others, through a client that asks a server at each read anyway: at once. The
  revision is asked for together with the keys, in the same request.
- Others, through tiers with a near one: within ``recheck`` seconds, which is how
  long a revision is trusted, so that a hit in the near tier stays one lookup. Where
  the authority tells of changes, at once.

A delete asks for the revision first: under an old one it would miss its key.

Tokens are random and never used twice. If it is lost, the next reader makes up a new
one: that clears the namespace, but brings nothing back.
What happens while no server answers is told in :mod:`tiered.clients.namespacestate`.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable
from typing import Any, NamedTuple

from tiered.clients.base import ANY, CacheClient, Capabilities, Entry, Search, Versioned
from tiered.clients.claims import Claim
from tiered.clients.namespacestate import NamespaceState
from tiered.clients.wrapper import Wrapper
from tiered.typing import Following, Horizon, Key, KeyWatch, OnChange
from tiered.validation import check_number

__all__ = ["NamespaceMirrorWrapper", "NamespaceWrapper", "unwrapped"]


class NamespaceWrapper(Wrapper):
    """*client*, for the keys of one namespace only.

    Args:
        namespace: not empty.
        client: the client to share; closing the wrapper closes it.
        recheck: seconds for which the revision is trusted between two looks at the
            server, where a near tier answers most reads.

    Raises:
        TypeError, ValueError: an argument that cannot be right.

    Threads: safe.
    """

    def __init__(self, namespace: str, client: CacheClient, *, recheck: float = 1.0) -> None:
        super().__init__(client)
        if not isinstance(namespace, str):
            raise TypeError(f"namespace must be a str, not {namespace!r}")
        if not namespace:
            raise ValueError("namespace must not be empty, ''")
        self.namespace = namespace
        self.recheck = check_number("recheck", recheck, low=0.0, hint="seconds, 0 or more")
        self.state = NamespaceState.of(client, namespace, self.recheck)

    def inner_key(self, key: Key) -> Key:
        return (self.state.current(), key)

    def around(self, client: CacheClient) -> Wrapper:
        return NamespaceMirrorWrapper(self, client)

    def entry(self, key: Key) -> Entry | None:
        if self._asks_each_time:
            return self._with_revision((key,), ANY)[0].get(key)
        return super().entry(key)

    def entries(self, keys: Iterable[Key]) -> dict[Key, Entry]:
        if self._asks_each_time:
            return self._with_revision(keys, ANY)[0]
        return super().entries(keys)

    def find(self, key: Key, search: Search) -> Entry | None:
        if self._asks_each_time:
            return self._with_revision((key,), search)[0].get(key)
        return super().find(key, search)

    def find_many(self, keys: Iterable[Key], search: Search) -> dict[Key, Entry]:
        if self._asks_each_time:
            return self._with_revision(keys, search)[0]
        return super().find_many(keys, search)

    def versioned(self, key: Key) -> Versioned:
        return self._outer_versioned(self.client.versioned(self._true_key(key)))

    def version(self, key: Key) -> object | None:
        return self.client.version(self._true_key(key))

    def _true_key(self, key: Key) -> Key:
        """What a read would find *key* under: a copy of what was cleared is not as good."""
        state = self.state
        return (state.confirmed() if self._asks_each_time else state.current(), key)

    def find_beside(
        self, keys: Collection[Key], search: Search, beside: Collection[Key]
    ) -> tuple[dict[Key, Entry], dict[Key, Entry]]:
        if self._asks_each_time:
            return self._with_revision(keys, search, beside)
        inner = {key: self.inner_key(key) for key in keys}
        search = self._inner_search(inner, search)
        found, others = self.client.find_beside(inner.values(), search, beside)
        return self._outer_many(inner, found), others

    def near(self, key: Key) -> Entry | None:
        if not self.capabilities.blocking:
            return super().near(key)
        if not self.state.believed:
            return None  # the revision would have to be confirmed first
        return self._outer(self.client.near((self.state.prefix, key)))

    def claim(self, key: Key, ttl: float = 10.0) -> Claim | None:
        state = self.state
        prefix = state.current()
        inner = self.client.claim((prefix, key), ttl)
        if inner is None:
            return None
        # What was computed before a clear() is not kept under the name that the key has after it.
        return inner.provided(lambda: state.prefix == prefix).through(self, key)

    def watching(self, key: Key) -> KeyWatch:
        prefix = self.state.current()
        return _UnderOneName(self.client.watching((prefix, key)), self.state, prefix)

    def follow(self, key: Key, changed: OnChange) -> Following | None:
        following = super().follow(key, changed)
        if following is None:
            return None
        revision = self.state.follow(changed)
        return following if revision is None else _Both(following, revision)

    def drop_near(self, key: Key) -> None:
        # Without asking a server. Copies under a revision that is none any more reach nobody, and
        # what is read under a newer one is read after the change.
        self.client.drop_near((self.state.prefix, key))

    # What is to be gone must be gone under the name that it has for the others by now.

    def discard(self, key: Key) -> bool:
        return self.client.discard((self.state.deleting(), key))

    def discard_many(self, keys: Iterable[Key]) -> dict[Key, bool]:
        prefix = self.state.deleting()
        inner: dict[Key, Key] = {key: (prefix, key) for key in keys}
        found = self.client.discard_many(inner.values())
        return {key: found[inner_key] for key, inner_key in inner.items()}

    def revoke(self, key: Key) -> None:
        self.client.revoke((self.state.deleting(), key))

    def outdate(self, key: Key) -> bool:
        return self.client.outdate((self.state.deleting(), key))

    def _with_revision(
        self, keys: Iterable[Key], search: Search, beside: Collection[Key] = ()
    ) -> tuple[dict[Key, Entry], dict[Key, Entry]]:
        """Ask for *keys*, *beside* and the revision together; again if that is a new one."""
        wanted = list(keys)
        others: dict[Key, Entry] = {}
        state = self.state
        prefix = state.current()
        for _ in range(2):
            inner: dict[Key, Key] = {key: (prefix, key) for key in wanted}
            through = self._inner_search(inner, search)
            # Of the authority: nearer tiers may have copies of an old one.
            asked = [*((state.revision_key,) if wanted else ()), *beside]
            found, others = self.client.find_beside(inner.values(), through, asked)
            revision = others.pop(state.revision_key, None)
            if revision is None or not state.adopt(revision.value):
                return self._outer_many(inner, found), others
            prefix = state.prefix
        return {}, others  # cleared twice while we asked: a miss is the truth

    @property
    def _asks_each_time(self) -> bool:
        capabilities = self.client.capabilities
        return capabilities.blocking and not capabilities.near

    @property
    def capabilities(self) -> Capabilities:
        inner = self.client.capabilities
        return inner._replace(clearable=True, blocking=inner.blocking or self.state.blocking)

    def clear(self) -> None:
        """Forget the namespace: one write, whatever its size. See the module for who sees it."""
        self.state.renew()

    def sweep(self, before: float | None) -> int:
        if before is None:
            self.clear()
            return 0
        return super().sweep(before)

    def __repr__(self) -> str:
        return f"<NamespaceWrapper {self.namespace!r} of {self.client!r}>"


class _UnderOneName(NamedTuple):
    """A watch on a key that is called otherwise after a ``clear()``."""

    watch: KeyWatch
    state: NamespaceState
    prefix: str

    def __enter__(self) -> KeyWatch:
        self.watch.__enter__()
        return self

    def __exit__(self, *failure: Any) -> None:
        self.watch.__exit__(*failure)

    def publish(self, copy: Callable[[], object]) -> bool:
        return self.state.prefix == self.prefix and self.watch.publish(copy)


class _Both(NamedTuple):
    """Of a key and of the revision that it lies under. It is its own lease."""

    key: Following
    revision: Following

    @property
    def lease(self) -> Horizon:
        return self

    @property
    def horizon(self) -> float:
        return min(self.key.lease.horizon, self.revision.lease.horizon)

    def close(self) -> None:
        self.key.close()
        self.revision.close()


class NamespaceMirrorWrapper(NamespaceWrapper):
    """The namespace of another wrapper, over another client.

    Both follow one revision, so clearing either clears both: a private client can
    mirror the namespace of a shared one.

    Args:
        reference: the wrapper whose namespace and revision are followed.
        client: the client to put the mirrored namespace into.

    Threads: safe.
    """

    def __init__(self, reference: NamespaceWrapper, client: CacheClient) -> None:
        if not isinstance(reference, NamespaceWrapper):
            raise TypeError(f"reference must be a NamespaceWrapper, not {reference!r}")
        super().__init__(reference.namespace, client, recheck=reference.recheck)
        self.reference = reference
        self.state = reference.state

    @property
    def _asks_each_time(self) -> bool:
        # The revision lies with the reference's client, not with ours.
        return False

    def __repr__(self) -> str:
        return f"<NamespaceMirrorWrapper of {self.reference!r} over {self.client!r}>"


def unwrapped(client: CacheClient) -> tuple[CacheClient, list[NamespaceState]]:
    """What *client* is without the namespaces around it, and these, the outermost first.

    A key of *client* is ``(prefix, key)`` there, once for each of them.
    """
    states = []
    while type(client) in (NamespaceWrapper, NamespaceMirrorWrapper):
        assert isinstance(client, NamespaceWrapper)
        states.append(client.state)
        client = client.client
    return client, states
