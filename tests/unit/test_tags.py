"""Tags, and what is known of them: names, trust, news, decrees, and what is forgotten."""

from __future__ import annotations

import gc
import math
import threading
import weakref
from collections.abc import Callable, Iterable
from typing import Any

import pytest

from tests.fakes import Held, RecordingClient, RemoteFake, TellingFake, inproc, together
from tiered.clients.base import ANY, CacheClient, Entry
from tiered.clients.decorating import DecoratedWrapper
from tiered.clients.inproc import InprocCacheClient
from tiered.clients.namespace import NamespaceWrapper
from tiered.clients.tags import tag_name, tag_names
from tiered.clients.tagtable import TagTable
from tiered.clients.tiered import TieredInclusiveClient
from tiered.clients.wrapper import Wrapper
from tiered.errors import KeyEncodingError
from tiered.testing import ManualClock
from tiered.typing import Key

T = tag_name("t")


class Counted(RemoteFake):
    """Counts the requests, and does something while one is under way."""

    def __init__(self, client: CacheClient) -> None:
        super().__init__(client)
        self.requests: list[tuple[Key, ...]] = []
        self.meanwhile: Callable[[], object] = lambda: None

    def entries(self, keys: Iterable[Key]) -> dict[Key, Entry]:
        asked = tuple(keys)
        self.requests.append(asked)
        found = super().entries(asked)
        self.meanwhile()
        return found


class CountedTelling(Counted, TellingFake):
    pass


class Silent(RemoteFake):
    """A server that does not answer, while it is told not to."""

    silent = False

    def entries(self, keys: Iterable[Key]) -> dict[Key, Entry]:
        return {} if self.silent else super().entries(keys)

    def agree(self, key: Key, proposal: Any) -> Entry | None:
        return None if self.silent else super().agree(key, proposal)


def stamp(table: TagTable, *tags: Key) -> tuple[str, ...]:
    return table.stamp(tag_names(tags))


# -- Names -------------------------------------------------------------------------------


def test_equal_tags_have_one_name_and_others_another() -> None:
    assert tag_name(1) == tag_name(1.0) == tag_name(True)
    names = [tag_name(tag) for tag in (1, "1", b"1", (1,), ("user", 1), "user:1", None, "x" * 500)]
    assert len(set(names)) == len(names)
    assert all(name.isprintable() and len(name) <= 120 for name in names)
    assert tag_names(["b", "a", "b"]) == (tag_name("b"), tag_name("a"))
    assert tag_names(iter(())) == ()


@pytest.mark.parametrize("tags", ["user:1", b"user:1"])
def test_a_text_is_one_tag_and_no_list_of_letters(tags: Any) -> None:
    with pytest.raises(TypeError, match=r"tags must be a list of tags such as \[b?'user:1'\]"):
        tag_names(tags)


@pytest.mark.parametrize("tags", [None, 3, object()])
def test_what_is_no_list_of_tags_is_refused(tags: Any) -> None:
    with pytest.raises(TypeError, match="tags must be a list of tags, not"):
        tag_names(tags)


@pytest.mark.parametrize("tag", [object(), ["a", "list"], float("nan")])
def test_a_tag_that_others_cannot_recognise_is_refused(clock: ManualClock, tag: Any) -> None:
    with pytest.raises(KeyEncodingError):
        tag_names([tag])
    for client in (inproc(clock), RemoteFake(inproc(clock))):
        with pytest.raises(KeyEncodingError):
            client.invalidate_tag(tag)


# -- Who shares a table ------------------------------------------------------------------


def test_all_users_of_an_authority_share_one_table(clock: ManualClock) -> None:
    far = RemoteFake(inproc(clock))
    tiers = TieredInclusiveClient(inproc(clock), far)
    users = [tiers, NamespaceWrapper("ns", tiers), DecoratedWrapper(far), far]
    assert {id(TagTable.of(user)) for user in users} == {id(TagTable.of(far))}
    assert TagTable.of(RemoteFake(inproc(clock))) is not TagTable.of(far)


def test_threads_that_are_first_get_one_table(clock: ManualClock) -> None:
    client = inproc(clock)
    tables = together(lambda _: TagTable.of(client), 8)
    assert len({id(table) for table in tables}) == 1


def test_a_table_does_not_keep_its_client_alive() -> None:
    client: CacheClient = InprocCacheClient(1)
    client.invalidate_tag("t")
    gone = weakref.ref(client)
    del client
    gc.collect()
    assert gone() is None


# -- In one process ----------------------------------------------------------------------


def test_an_invalidation_changes_the_version_of_its_tag_only(clock: ManualClock) -> None:
    for client in (inproc(clock), RemoteFake(inproc(clock))):
        table = TagTable.of(client)
        both, other = stamp(table, "t", "other"), stamp(table, "other")
        assert table.holds(both)
        assert table.matches(both)
        client.invalidate_tag("t")
        assert not table.holds(both)
        assert not table.matches(both)
        assert table.holds(other)
        assert stamp(table, "t") != both[:2]


def test_a_private_table_asks_nobody(clock: ManualClock) -> None:
    client = RecordingClient(inproc(clock))
    table = TagTable(client)
    held = stamp(table, "t", "u")
    assert table.doubtful(("nobody knows it", "v")) == []
    clock.advance(1e9)
    assert table.holds(held)
    table.invalidate("t")
    assert not table.holds(held)
    assert client.calls == []


def test_what_has_no_tags_is_always_good(clock: ManualClock) -> None:
    table = TagTable.of(RemoteFake(inproc(clock)))
    assert table.stamp(()) == table.stamp_at_once(()) == ()
    assert table.holds(())
    assert table.doubtful(()) == []


# -- In several processes ------------------------------------------------------------------


def test_a_version_is_agreed_on_and_asked_for_again_after_a_second(clock: ManualClock) -> None:
    server = inproc(clock)
    one, other = Counted(server), Counted(server)
    tables = TagTable.of(one), TagTable.of(other)
    held = stamp(tables[0], "t")
    assert held == stamp(tables[1], "t")
    one.invalidate_tag("t")
    clock.advance(0.9)
    other.requests.clear()
    assert tables[1].holds(held)
    assert tables[1].due([T]) == []
    clock.advance(0.2)
    assert tables[1].due([T]) == tables[1].doubtful(held) == [T]
    assert not tables[1].holds(held)
    assert stamp(tables[1], "t") == stamp(tables[0], "t") != held
    assert len(other.requests) == 1


def test_all_due_tags_are_asked_for_in_one_request(clock: ManualClock) -> None:
    client = Counted(inproc(clock))
    table = TagTable.of(client)
    stamp(table, "t", "u", "v")
    clock.advance(2)
    client.requests.clear()
    stamp(table, "t", "u", "v")
    stamp(table, "u")
    assert [len(keys) for keys in client.requests] == [3]


def test_another_version_than_ours_is_asked_about_before_it_is_called_old(
    clock: ManualClock,
) -> None:
    server = inproc(clock)
    one, other = Counted(server), Counted(server)
    tables = TagTable.of(one), TagTable.of(other)
    stamp(tables[0], "t")
    old = stamp(tables[1], "t")
    one.invalidate_tag("t")
    newer = stamp(tables[0], "t")
    assert tables[1].due([T]) == []
    assert tables[1].doubtful(newer) == [T]
    tables[1].confirm([T])
    assert tables[1].holds(newer)
    assert not tables[1].matches(old)


def test_a_lost_version_invalidates_and_brings_nothing_back(clock: ManualClock) -> None:
    server = inproc(clock)
    client = RemoteFake(server)
    table = TagTable.of(client)
    first = stamp(table, "t")
    client.invalidate_tag("t")
    second = stamp(table, "t")
    server.clear()
    clock.advance(2)
    third = stamp(table, "t")
    assert len({first, second, third}) == 3


@pytest.mark.parametrize("strange", [None, 7, ["v"]])
def test_a_version_that_is_none_is_not_taken_over(clock: ManualClock, strange: Any) -> None:
    server = inproc(clock)
    client = RemoteFake(server)
    table = TagTable.of(client)
    server.put(table.tag(T).key, strange, 1000)
    assert table.holds(stamp(table, "t"))


def test_while_nobody_answers_what_was_known_is_believed(clock: ManualClock) -> None:
    client = Silent(inproc(clock))
    table = TagTable.of(client)
    client.silent = True
    made_up = stamp(table, "t")
    assert table.holds(made_up)
    client.silent = False
    clock.advance(2)
    agreed = stamp(table, "t")
    assert agreed != made_up
    client.silent = True
    clock.advance(2)
    assert stamp(table, "t") == agreed
    client.invalidate_tag("t")
    assert not table.matches(agreed)


# -- Races ---------------------------------------------------------------------------------


def test_an_answer_from_before_an_invalidation_is_not_believed_after_it(
    clock: ManualClock,
) -> None:
    client = Counted(inproc(clock))
    table = TagTable.of(client)
    old = stamp(table, "t")
    clock.advance(2)
    client.meanwhile = lambda: client.invalidate_tag("t")
    table.confirm([T])  # and is told the version from before
    assert not table.matches(old)
    client.meanwhile = lambda: None
    clock.advance(2)
    assert stamp(table, "t") != old


def test_an_answer_from_before_a_decree_was_sent_is_not_believed_after_it(
    clock: ManualClock,
) -> None:
    deciding = Held()

    class Slow(RemoteFake):
        def decree(self, key: Key, value: Any) -> None:
            deciding()
            super().decree(key, value)

    client = Slow(inproc(clock))
    table = TagTable.of(client)
    old = stamp(table, "t")
    clock.advance(2)
    thread = threading.Thread(target=lambda: client.invalidate_tag("t"))
    thread.start()
    assert deciding.started.wait(20)
    table.confirm([T])
    assert table.holds(old)  # it has not returned yet
    deciding.go.set()
    thread.join(20)
    assert not table.matches(old)
    assert table.holds(stamp(table, "t"))


def test_an_answer_from_before_a_decree_was_done_is_not_believed_after_it(
    clock: ManualClock,
) -> None:
    asked: list[Any] = []

    class Asked(RemoteFake):
        """While a decree is on its way, somebody asks, and is told what is still there."""

        def decree(self, key: Key, value: Any) -> None:
            ticket = table.ticket([T])
            asked.append((ticket, self.entries(ticket.keys)))
            super().decree(key, value)

    client = Asked(inproc(clock))
    table = TagTable.of(client)
    old = stamp(table, "t")
    client.invalidate_tag("t")
    table.settle(*asked[0])
    assert not table.matches(old)
    assert table.holds(stamp(table, "t"))


def test_of_two_invalidations_at_a_time_the_last_one_is_asked_for(clock: ManualClock) -> None:
    server = inproc(clock)

    class Second(RemoteFake):
        """While one decree is on its way, another overtakes it."""

        overtakes = True

        def decree(self, key: Key, value: Any) -> None:
            if self.overtakes:
                self.overtakes = False
                self.invalidate_tag("t")
            super().decree(key, value)

    client = Second(server)
    table = TagTable.of(client)
    client.invalidate_tag("t")
    assert table.due([T]) == [T]
    table.confirm([T])
    found = server.entry(table.tag(T).key)
    assert found is not None
    assert table.tag(T).version == found.value
    assert table.due([T]) == []


def test_a_decree_that_fails_is_true_here_and_raises(clock: ManualClock) -> None:
    class Failing(RemoteFake):
        def decree(self, key: Key, value: Any) -> None:
            raise OSError("no server")

    client = Failing(inproc(clock))
    table = TagTable.of(client)
    old = stamp(table, "t")
    with pytest.raises(OSError, match="no server"):
        client.invalidate_tag("t")
    assert not table.matches(old)


# -- Who is told of changes ----------------------------------------------------------------


def test_who_is_told_believes_until_then_and_asks_nobody(clock: ManualClock) -> None:
    server = inproc(clock)
    one, other = TellingFake(server), CountedTelling(server)
    table = TagTable.of(other)
    held = stamp(table, "t")
    other.requests.clear()
    clock.advance(9)
    assert table.holds(held)
    assert table.doubtful((T, "another")) == []  # one would have told us
    one.invalidate_tag("t")
    assert not table.holds(held)
    assert not table.holds(stamp(table, "t")[:1] + held[1:])
    assert table.holds(stamp(table, "t"))
    assert len(other.requests) == 1


def test_our_own_invalidations_are_believed_as_long(clock: ManualClock) -> None:
    client = CountedTelling(inproc(clock))
    table = TagTable.of(client)
    client.invalidate_tag("t")
    held = table.stamp_at_once([T])
    clock.advance(9)
    assert held is not None
    assert table.holds(held)
    assert client.requests == []


def test_who_is_told_asks_now_and_then_all_the_same(clock: ManualClock) -> None:
    client = CountedTelling(inproc(clock))
    table = TagTable.of(client)
    for _ in range(2):
        held = stamp(table, "t")
        clock.advance(10)
        assert table.due([T]) == [T]
    client.requests.clear()
    assert stamp(table, "t") == held
    assert len(client.requests) == 1
    client.invalidate_tag("t")
    clock.advance(10)
    assert table.due([T]) == [T]


def test_while_the_lease_is_over_each_reader_asks(clock: ManualClock) -> None:
    client = CountedTelling(inproc(clock))
    table = TagTable.of(client)
    held = stamp(table, "t")
    client.lease.horizon = clock.monotonic() + 5
    assert table.holds(held)
    clock.advance(6)
    client.requests.clear()
    for number in range(1, 4):
        assert not table.holds(held)
        assert stamp(table, "t") == held
        assert len(client.requests) == number
    client.lease.horizon = clock.monotonic() + 5
    assert table.holds(held)


def test_news_that_come_while_we_ask_are_not_lost(clock: ManualClock) -> None:
    server = inproc(clock)
    one, other = TellingFake(server), CountedTelling(server)
    table = TagTable.of(other)
    old = stamp(table, "t")
    one.invalidate_tag("t")
    again = [one]
    other.meanwhile = lambda: again.pop().invalidate_tag("t") if again else None
    between = stamp(table, "t")
    assert between != old
    assert not table.holds(between)
    assert table.due([T]) == [T]
    assert stamp(table, "t") not in (old, between)
    assert table.due([T]) == []


def test_others_decrees_while_ours_is_on_its_way_make_us_ask(clock: ManualClock) -> None:
    server = inproc(clock)
    one = TellingFake(server)

    class Overtaken(TellingFake):
        def decree(self, key: Key, value: Any) -> None:
            super().decree(key, value)
            one.invalidate_tag("t")

    client = Overtaken(server)
    table = TagTable.of(client)
    client.invalidate_tag("t")
    assert table.due([T]) == [T]
    assert stamp(table, "t") == stamp(TagTable.of(one), "t")


def test_the_end_of_a_claim_is_no_news(clock: ManualClock) -> None:
    server = inproc(clock)
    one, other = TellingFake(server), TellingFake(server)
    table = TagTable.of(other)
    held = stamp(table, "t")
    one.tell(table.tag(T).key, "done")
    assert table.holds(held)
    one.tell(table.tag(T).key)
    assert not table.holds(held)


def test_one_follows_once(clock: ManualClock) -> None:
    client = TellingFake(inproc(clock))
    table = TagTable.of(client)
    together(lambda _: stamp(table, "t"), 8)
    client.invalidate_tag("t")
    clock.advance(100)
    stamp(table, "t")
    assert len(client.followers) == 1


# -- Where nothing can be agreed on ----------------------------------------------------------


class Placeless(TellingFake):
    """It has no place for what is decreed: whoever decrees has the others forget everything."""

    def agree(self, key: Key, proposal: Any) -> Entry:
        return Entry("0", math.inf)

    def decree(self, key: Key, value: Any) -> Any:
        for fake, _, changed in list(self.followers):
            if fake is not self:
                changed("changed")
        return "0"


def test_without_a_place_versions_are_each_process_own(clock: ManualClock) -> None:
    server = inproc(clock)
    one, other = Placeless(server), Placeless(server)
    tables = TagTable.of(one), TagTable.of(other)
    held = stamp(tables[0], "t"), stamp(tables[1], "t")
    clock.advance(20)
    assert (stamp(tables[0], "t"), stamp(tables[1], "t")) == held
    assert tables[0].holds(held[0])
    one.invalidate_tag("t")
    for table, old in zip(tables, held, strict=True):
        # Also for what was being computed.
        assert not table.matches(old)
        assert stamp(table, "t") != old
        assert table.holds(stamp(table, "t"))


def test_without_a_place_the_first_to_come_may_be_an_invalidation(clock: ManualClock) -> None:
    server = inproc(clock)
    one, other = Placeless(server), Placeless(server)
    one.invalidate_tag("t")
    table = TagTable.of(one)
    held = stamp(table, "t")
    stamp(TagTable.of(other), "t")
    other.invalidate_tag("t")
    assert not table.matches(held)


# -- Flights -------------------------------------------------------------------------------


def test_what_changed_since_a_moment_is_known(clock: ManualClock) -> None:
    server = inproc(clock)
    one, other = RemoteFake(server), RemoteFake(server)
    table = TagTable.of(other)
    stamp(table, "t", "u")
    moment = table.moment()
    names = tag_names(["t", "u"])
    assert not table.changed_since(names, moment)
    other.invalidate_tag("v")
    assert not table.changed_since(names, moment)
    one.invalidate_tag("u")
    clock.advance(2)
    assert not table.changed_since(names, moment)
    table.confirm(names)
    assert table.changed_since(names, moment)
    assert not table.changed_since(names[:1], moment)
    assert not table.changed_since(names, table.moment())


def test_to_hear_of_a_tag_for_the_first_time_is_no_change(clock: ManualClock) -> None:
    for client in (inproc(clock), RemoteFake(inproc(clock)), TellingFake(inproc(clock))):
        table = TagTable.of(client)
        table.tag(T)
        moment = table.moment()
        stamp(table, "t")
        assert not table.changed_since([T], moment)


def test_who_looked_a_moment_ago_is_as_good_as_what_is_believed(clock: ManualClock) -> None:
    table = TagTable.of(RemoteFake(inproc(clock)))
    stamp(table, "t")
    clock.advance(0.9)
    moment = table.moment()
    clock.advance(0.9)
    assert table.due([T]) == [T]
    assert table.due([T], moment) == []
    clock.advance(0.2)
    assert table.due([T], moment) == [T]


def test_who_is_told_of_changes_is_as_good_while_the_lease_lasts(clock: ManualClock) -> None:
    client = TellingFake(inproc(clock))
    table = TagTable.of(client)
    stamp(table, "t")
    moment = table.moment()
    assert table.due([T], moment) == []
    client.lease.horizon = clock.monotonic()
    assert table.due([T], moment) == [T]


# -- What is forgotten ---------------------------------------------------------------------


def test_the_oldest_are_forgotten_and_asked_for_again(clock: ManualClock) -> None:
    client = CountedTelling(inproc(clock))
    table = TagTable(client, limit=3)
    held = stamp(table, "t")
    stamp(table, "a", "b", "c")
    assert list(table.tags) == [tag_name(tag) for tag in "abc"]
    assert not table.holds(held)
    assert [key for _, key, _ in client.followers] == [table.tag(tag_name(t)).key for t in "abc"]
    assert stamp(table, "t") == held
    assert len(table.tags) == 3


def test_what_was_forgotten_may_have_changed(clock: ManualClock) -> None:
    table = TagTable(RemoteFake(inproc(clock)), limit=1)
    stamp(table, "t")
    moment = table.moment()
    stamp(table, "u")
    assert table.changed_since([T], moment)


def test_a_private_tag_that_was_never_invalidated_is_forgotten_without_loss(
    clock: ManualClock,
) -> None:
    table = TagTable(inproc(clock), limit=2)
    held, moment = stamp(table, "t"), table.moment()
    stamp(table, "a", "b")
    assert T not in table.tags
    assert table.matches(held)
    assert not table.changed_since([T], moment)


def test_a_private_tag_that_was_invalidated_does_not_come_back(clock: ManualClock) -> None:
    table = TagTable(inproc(clock), limit=2)
    first = stamp(table, "t")
    table.invalidate("t")
    second, moment = stamp(table, "t"), table.moment()
    stamp(table, "a", "b")
    assert T not in table.tags
    assert not table.matches(first)
    assert not table.matches(second)
    assert table.changed_since([T], moment)
    assert table.holds(stamp(table, "t"))


def test_who_follows_what_was_forgotten_meanwhile_stops(clock: ManualClock) -> None:
    class Forgetful(TellingFake):
        def follow(self, key: Key, changed: Any) -> Any:
            following = super().follow(key, changed)
            if key == first:
                table.tag("another")
            return following

    client = Forgetful(inproc(clock))
    table = TagTable(client, limit=1)
    first = table.tag(T).key
    stamp(table, "t")
    assert client.followers == []


# -- Forks ---------------------------------------------------------------------------------


def test_a_forked_child_has_a_free_lock_and_follows_by_itself(clock: ManualClock) -> None:
    client = TellingFake(inproc(clock))
    table = TagTable.of(client)
    held = stamp(table, "t")
    lock = table._lock
    lock.acquire()
    table.after_fork()
    assert table._lock is not lock
    assert not table.holds(held)
    assert stamp(table, "t") == held
    assert table.holds(held)
    assert len(client.followers) == 2
    private = TagTable.of(inproc(clock))
    held = stamp(private, "t")
    private.after_fork()
    assert private.holds(held)


def test_what_is_asked_beside_is_one_request_where_it_can_be(clock: ManualClock) -> None:
    server = Counted(inproc(clock))
    server.put("k", "v", 100)
    server.put("beside", "b", 100)
    for client in (server, Wrapper(server), DecoratedWrapper(server)):
        server.requests.clear()
        found, beside = client.find_beside(["k", "none"], ANY, ["beside", "nothing"])
        assert [entry.value for entry in found.values()] == ["v"]
        assert [entry.value for entry in beside.values()] == ["b"]
        assert server.requests == [("k", "none", "beside", "nothing")]
