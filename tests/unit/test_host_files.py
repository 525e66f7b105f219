"""A process that hears of changes keeps the files of its host in step."""

from __future__ import annotations

import logging
import os
from pathlib import Path

import pytest

from tiered import FilesCacheClient
from tiered.coherence import hostfiles as module
from tiered.coherence.hostfiles import HostFiles
from tiered.coherence.messages import ALL_TOPICS, Event, Kind
from tiered.coherence.names import name_of, topic_of
from tiered.testing.buses import LocalBus, LocalHub

NAMESPACE = "users"
LONG = "x" * 1000


class Host:
    """Files, a listener, and a process elsewhere that publishes."""

    def __init__(self, path: Path) -> None:
        self.hub = LocalHub()
        self.clock = self.hub.clock
        self.files = FilesCacheClient(10_000_000, path, clock=self.clock)
        self.bus = LocalBus(self.hub)
        self.listener = HostFiles(self.files, self.bus, [NAMESPACE, "groups"])
        self.other = LocalBus(self.hub)
        self.other.start()

    def listen(self) -> None:
        self.listener.attend()
        self.bus.start()
        self.pass_time(2.0)

    def pass_time(self, seconds: float) -> None:
        """Let time pass, and the listener work."""
        self.listener.work()
        while seconds > 0:
            self.hub.advance(0.25)
            seconds -= 0.25
            self.listener.work()

    def tell(self, kind: Kind, key: str = "", namespace: str = NAMESPACE) -> None:
        name = name_of(key) if key else b""
        self.other.publish(kind, topic_of(namespace), [name])
        self.listener.work()

    def put(self, *keys: str) -> None:
        for key in keys:
            self.files.put(key, "value", 1000)

    def fresh(self, key: str) -> bool:
        self.clock.advance(0.001)  # dates of files are rounded
        return self.files.get(key, None) is not None

    def kept(self, key: str) -> bool:
        return self.files.entry(key) is not None


@pytest.fixture
def host(tmp_path: Path) -> Host:
    return Host(tmp_path / "cache")


@pytest.fixture
def listening(host: Host) -> Host:
    host.listen()
    return host


def test_namespaces_must_be_given(host: Host) -> None:
    with pytest.raises(ValueError, match="namespaces must name at least one"):
        HostFiles(host.files, host.bus, [])


@pytest.mark.parametrize("key", ["k", LONG])
@pytest.mark.parametrize(
    ("kind", "fresh", "kept"),
    [
        (Kind.DELETE, False, False),
        (Kind.STORED, False, False),
        (Kind.EXPIRE, False, True),
        (Kind.CLEAR, False, False),
        (Kind.DONE, True, True),
        (Kind.ABORT, True, True),
        (Kind.CHANGED, True, True),
        (Kind.PROBE, True, True),
    ],
)
def test_what_happens_elsewhere_happens_to_the_files(
    listening: Host, key: str, kind: Kind, fresh: bool, kept: bool
) -> None:
    listening.put(key)
    listening.tell(kind, "" if kind is Kind.CLEAR else key)
    assert listening.fresh(key) is fresh
    assert listening.kept(key) is kept


def test_only_what_is_named_in_the_namespaces_is_touched(listening: Host) -> None:
    listening.put("k", "other", "third")
    listening.tell(Kind.DELETE, "k")
    listening.tell(Kind.DELETE, "other", namespace="orders")
    listening.tell(Kind.DELETE, "third", namespace="groups")
    assert [listening.fresh(key) for key in ("k", "other", "third")] == [False, True, False]
    assert listening.listener.stats.heard == 2
    assert listening.listener.stats.discarded == 2


@pytest.mark.parametrize("kind", [Kind.DELETE, Kind.EXPIRE, Kind.CLEAR])
def test_what_was_read_before_and_is_written_after_a_change_goes_a_second_later(
    listening: Host, kind: Kind
) -> None:
    listening.put("k", "other")
    listening.tell(kind, "" if kind is Kind.CLEAR else "k")
    listening.put("k")  # by a process that had read it before the change
    listening.pass_time(0.75)
    assert listening.fresh("k")
    listening.pass_time(0.5)
    assert not listening.fresh("k")
    assert listening.fresh("other") is (kind is not Kind.CLEAR)
    listening.put("k")
    listening.pass_time(3)
    assert listening.fresh("k")


def test_a_change_that_comes_again_is_done_a_second_after_the_last(listening: Host) -> None:
    listening.tell(Kind.DELETE, "k")
    listening.pass_time(0.75)
    listening.tell(Kind.DELETE, "k")
    listening.put("k")
    listening.pass_time(0.75)
    assert listening.fresh("k")
    listening.pass_time(0.5)
    assert not listening.fresh("k")


def test_what_comes_again_holds_up_nothing_else(listening: Host) -> None:
    listening.tell(Kind.DELETE, "k")
    listening.pass_time(0.25)
    listening.tell(Kind.DELETE, "other")
    listening.pass_time(0.5)
    listening.tell(Kind.DELETE, "k")
    listening.put("other")
    listening.pass_time(0.75)
    assert not listening.fresh("other")


def test_of_several_changes_of_a_key_the_strongest_counts(listening: Host) -> None:
    for kinds in ([Kind.EXPIRE, Kind.DELETE], [Kind.STORED, Kind.EXPIRE]):
        listening.put("k")
        for kind in kinds:
            listening.other.publish(kind, topic_of(NAMESPACE), [name_of("k")])
        listening.listener.work()
        assert not listening.kept("k")


def test_at_the_beginning_nothing_is_believed(host: Host) -> None:
    host.put("k")
    host.listen()
    assert not host.fresh("k")
    assert host.kept("k")
    assert host.listener.stats.doubted == 1
    host.put("k")
    host.pass_time(5)
    assert host.fresh("k")


def test_after_events_were_lost_nothing_is_believed(listening: Host) -> None:
    listening.put("k", "other")
    listening.other.publish(Kind.DISTRUST, ALL_TOPICS, [b""])
    listening.put("late")
    listening.pass_time(0.25)
    assert not any(listening.fresh(key) for key in ("k", "other", "late"))
    listening.put("later", "k")  # perhaps read before
    listening.pass_time(0.5)
    assert listening.fresh("k")
    listening.pass_time(1)
    assert not listening.fresh("k")
    listening.put("k")
    listening.pass_time(3)
    assert listening.fresh("k")


def test_another_broker_is_a_reason_to_doubt(listening: Host) -> None:
    listening.put("k")
    listening.hub.kill()
    listening.hub.begin()
    listening.pass_time(0.25)
    assert not listening.fresh("k")


def test_without_a_broker_nothing_is_believed_for_long(listening: Host) -> None:
    listening.put("k")
    listening.bus.cut = True
    listening.pass_time(1)
    assert listening.fresh("k")  # it may come back, and tell what we missed
    listening.pass_time(1.25)
    assert not listening.fresh("k")
    for _ in range(3):
        listening.put("k")
        listening.pass_time(1.25)
        assert not listening.fresh("k")
    listening.bus.cut = False
    listening.pass_time(3)
    listening.put("k")
    listening.pass_time(10)
    assert listening.fresh("k")


def test_without_a_broker_from_the_beginning_nothing_is_believed(host: Host) -> None:
    host.hub.kill()
    host.put("k")
    host.listen()
    host.pass_time(0.5)
    assert not host.fresh("k")


def test_a_flood_is_a_reason_to_doubt(listening: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_MOST", 10)
    listening.put("k")
    event = Event(Kind.DELETE, topic_of(NAMESPACE), name_of("another"))
    listening.listener.hear([event] * 11)
    listening.pass_time(0.25)
    assert not listening.fresh("k")
    assert listening.listener.stats.doubts == 2


def test_what_is_to_be_done_again_is_bounded(
    listening: Host, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "_MOST", 10)
    for number in range(50):
        listening.tell(Kind.DELETE, f"k{number}")
    listening.put("k0", "k49")
    assert len(listening.listener._again) == 10
    listening.pass_time(1.25)
    assert listening.fresh("k0")  # that was done again at once
    assert not listening.fresh("k49")


def test_the_thread_works_until_it_is_closed(host: Host) -> None:
    host.bus.start()
    host.put("k")
    host.listener.start()
    host.other.publish(Kind.DELETE, topic_of(NAMESPACE), [name_of("k")])
    host.listener.close()
    assert not host.kept("k")
    host.put("k")
    host.other.publish(Kind.DELETE, topic_of(NAMESPACE), [name_of("k")])
    host.listener.close()
    assert host.kept("k")


def test_a_failure_of_ours_is_a_reason_to_doubt(
    host: Host, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    failures = [OSError("a flaw")]
    work = HostFiles.work

    def flawed(listener: HostFiles) -> float:
        if failures:
            raise failures.pop()
        return work(listener)

    monkeypatch.setattr(HostFiles, "work", flawed)
    monkeypatch.setattr(module, "_AGAIN", 0.0)
    host.put("k")
    with caplog.at_level(logging.ERROR):
        host.listener.start()
        while failures:
            os.sched_yield()  # else it may be closed before its thread has begun: that tries once
        host.listener.close()
    assert "files are not in step" in caplog.text
    assert not host.fresh("k")


def test_what_fails_at_the_end_is_tried_once_more(
    host: Host, monkeypatch: pytest.MonkeyPatch
) -> None:
    failures = [OSError("a flaw")]
    work = HostFiles.work

    def flawed(listener: HostFiles) -> float:
        if listener._stopped and failures:
            raise failures.pop()
        return work(listener)

    monkeypatch.setattr(HostFiles, "work", flawed)
    host.put("k")
    host.listener.start()
    host.listener.close()
    assert not failures
    assert not host.fresh("k")


def test_repr(host: Host) -> None:
    assert repr(host.listener) == f"<HostFiles of {host.files!r}>"


def test_a_namespace_by_itself_is_no_list_of_them(tmp_path: Path) -> None:
    files = FilesCacheClient(10_000_000, tmp_path)
    with pytest.raises(TypeError, match=r"^namespaces must be a list such as"):
        HostFiles(files, LocalBus(LocalHub()), NAMESPACE)


def test_files_that_cannot_be_used_are_told_in_a_line_to_the_end(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "no directory"
    path.write_text("")
    listener = HostFiles(FilesCacheClient(10_000_000, path), LocalBus(LocalHub()), [NAMESPACE])
    with caplog.at_level(logging.ERROR, "tiered.coherence"):
        listener.start()
        listener.distrust()
        listener.close()  # an error in its thread would be reported, and fail this test
    told = [record for record in caplog.records if record.name.startswith("tiered.coherence")]
    assert told
    assert all(record.exc_info is None for record in told)
    assert all("cannot be used" in record.getMessage() for record in told)
