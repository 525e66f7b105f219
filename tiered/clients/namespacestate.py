"""The revision of a namespace, as one process knows it.

While no server answers, the last revision that one has told goes on, unless it is known to be
another by now, or none was ever told: then each process makes one up for itself. What others
delete has another name than its copies then, so it drops them all whenever they change anything.
What was deleted under such names may be there under the true one: who did so clears the
namespace when he learns that.
"""

from __future__ import annotations

import math
import secrets
from typing import Final

from tiered.clients.base import CacheClient
from tiered.clients.belief import Belief
from tiered.clients.revision import Revision
from tiered.stats.reports import Reports
from tiered.typing import Clock, Following, Key, OnChange

__all__ = ["NamespaceState"]

_MARK: Final = "tiered.namespace"
"""First part of the keys under which revisions are stored."""


class NamespaceState(Revision):
    """The revision of one namespace, as the users of one client in this process know it.

    Attributes:
        prefix: the namespace and its revision, the first part of every key.
        horizon: until when (monotonic) the revision is taken for true.
        shared: whether other processes may change the revision.
        blocking: whether to confirm it may take waiting for another process.

    Threads: ``prefix`` and ``horizon`` are read without a lock by the hot path; one thread
    asks the server for all.
    """

    def __init__(
        self, namespace: str, authority: CacheClient, clock: Clock, recheck: float
    ) -> None:
        self.namespace = namespace
        self.revision_key: Key = (_MARK, namespace)
        self._authority = authority
        self.shared = authority.capabilities.shared
        self.blocking = self.shared and authority.capabilities.blocking
        # In a private client nobody else can change the revision, and no server keeps
        # it: it lives here, out of reach of the client's eviction.
        self.horizon = -math.inf if self.shared else math.inf
        self.prefix = self._prefix(_new_revision())
        # The prefix is the true one, which a server has told when it was asked last; or the last
        # true one, while no server answers and nobody has told of another; or *made up*, which
        # nobody else knows.
        self._answered = False
        self._made_up = True
        self._untold = ""  # a true one that others may not have been told of
        self._owed = False  # a clear, when the true one turns out to be another than ours
        self._reports = Reports("tiered.clients", clock)
        self._belief = Belief(self, (self.revision_key,), authority, clock, recheck)

    @classmethod
    def of(cls, client: CacheClient, namespace: str, recheck: float) -> NamespaceState:
        """The one state of *namespace* for everybody who uses *client*'s authority here."""
        authority = client.authority
        fresh = cls(namespace, authority, client.clock, recheck)
        state: NamespaceState = authority.attachments.setdefault((_MARK, namespace), fresh)
        return state

    @property
    def believed(self) -> bool:
        """Whether the prefix may be used without asking anybody."""
        return self._belief.holds()

    def current(self) -> str:
        """The prefix, confirmed with the server if that is due."""
        self._belief.renew(self._confirm)
        return self.prefix

    def confirmed(self) -> str:
        """The prefix, confirmed with the server now: for what must not miss its key."""
        if self.shared:
            self._belief.renew(self._confirm, anew=True)
        return self.prefix

    def deleting(self) -> str:
        """The same for what is to be gone under it, once others know of it as well."""
        prefix, belief = self.confirmed(), self._belief
        if self.shared and not self._answered:
            with belief.asking:
                prefix = self.prefix
                self._owed |= self._guesses
        if self._untold == prefix:
            # Whoever made it may not have told yet. A delete under it means nothing to those who
            # still go by the one before, so they have to hear of this one first.
            self._authority.announce(self.revision_key)
            with belief.asking:
                if self._untold == prefix:
                    self._untold = ""
        return prefix

    @property
    def _guesses(self) -> bool:
        """Whether nobody has answered, and others may have told of another revision."""
        belief = self._belief
        sure = belief.is_told and belief.holds() and not self._made_up
        return not (self._answered or sure)

    def follow(self, changed: OnChange) -> Following | None:
        """As of a client: hear of it when others make it a new one."""
        return self._authority.follow(self.revision_key, changed)

    def adopt(self, revision: object) -> bool:
        """Take *revision*, just read from the server, for true; whether it is a new one."""
        prefix = self._prefix(str(revision))
        with self._belief.asking:
            changed = prefix != self.prefix
            if changed:
                self.prefix = self._untold = prefix
                if self._owed:
                    self.renew()
        return changed

    def renew(self) -> None:
        """A new revision, for everybody: what is under the old one is forgotten."""
        with self._belief.asking:
            self._owed = False
            revision = _new_revision()
            try:
                if self.shared:
                    self._made_up = True  # until it is seen that a server has heard it
                    revision = str(self._authority.decree(self.revision_key, revision))
            finally:
                # It is true here, also if nobody could be told; then it is owed to the others.
                self.prefix = self._prefix(revision)
                if self.shared:
                    self._confirm()
                    self._owed |= not self._answered

    def _confirm(self) -> None:
        ticket, owed = self._belief.ticket(), self._owed
        proposal = _new_revision()
        try:
            known = self._authority.agree(self.revision_key, proposal)
        except Exception as error:
            # A client that raises where it should miss: nobody has answered, as behind tiers.
            self._reports.warn("agree", "the revision of a namespace cannot be read: %r", error)
            known = None
        self._answered = known is not None
        if known is None:
            self._go_on_alone(ticket)
            return
        if known.value == proposal:  # nobody has anything under it; and who makes it tells of it
            self.prefix = self._prefix(proposal)
            self._untold = ""
        elif self.adopt(known.value) and owed:
            return  # it was renewed, and that confirmed
        self._made_up = self._owed = False
        self._belief.hear_of_keys()
        self._belief.confirmed(ticket)

    def _go_on_alone(self, ticket: int) -> None:
        """Nobody answers. The next chance is after the interval."""
        belief = self._belief
        cut_off = belief.is_cut_off  # others may have made another, and we would not know
        self._made_up |= belief.outdated or cut_off
        if self._made_up and belief.is_told:
            heard_all = belief.hears_all
            if cut_off or not (heard_all or belief.hear_of_all()):
                # Of changes of other keys nobody would be told: no copy is as good as a new value.
                self.prefix = self._prefix(_new_revision())
                return
            if belief.outdated or not heard_all:
                ticket = belief.serial()  # what is told from here on is about what is made now
                self.prefix = self._prefix(_new_revision())
        belief.confirmed(ticket)
        belief.shorten()

    def _prefix(self, revision: str) -> str:
        return f"{self.namespace}@{revision}"


def _new_revision() -> str:
    return secrets.token_hex(8)
