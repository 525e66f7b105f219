"""Callers that send by themselves, while the bus's thread sleeps."""

from __future__ import annotations

import logging
import sys
import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import closing
from functools import partial
from pathlib import Path
from types import FrameType
from typing import Any

import pytest

from tests.integration.busnode import PATIENCE, SELDOM, TOPIC, Listener, wait_until
from tests.integration.test_forked_children import in_child
from tests.integration.test_zmq_bus import new_address
from tiered.coherence import ZmqBus
from tiered.coherence.bus import Receipt
from tiered.coherence.messages import Kind, NodeMessage, Publish
from tiered.coherence.wire import MAX_FRAME
from tiered.coherence.zeromq import bus as zeromq_bus
from tiered.coherence.zeromq import driver, turns
from tiered.coherence.zeromq.foreign import LOGGER


class Watched(ZmqBus):
    """Notes which thread sends; ``before`` is called first, in that thread."""

    def __init__(self, address: str, **options: Any) -> None:
        self.senders: list[threading.Thread] = []
        self.before: Callable[[], object] = bool
        super().__init__([address], detection=SELDOM, **options)

    def _send(self, message: NodeMessage) -> None:
        if isinstance(message, Publish):
            self.before()
            self.senders.append(threading.current_thread())
        super()._send(message)

    def directly(self, name: bytes) -> Receipt | None:
        """Publish *name*; ``None``: not sent by this thread, as the other one was awake."""
        count = self.senders.count(threading.current_thread())
        receipt = self.publish(Kind.DELETE, TOPIC, [name])
        sent = self.senders.count(threading.current_thread()) > count
        return receipt if sent else None


class Pair:
    """A bus that sends, another one in the same process, and who listens there."""

    def __init__(self, sender: Watched, other: ZmqBus) -> None:
        self.sender, self.other = sender, other
        self.listener = Listener()
        other.join(self.listener)  # before it is started, so that it hears of the first broker
        for bus in (sender, other):
            bus.start()
        wait_until(lambda: self.listener.verified and sender.in_step)

    def has_settled(self, name: bytes, distrusts: int) -> bool:
        """Whether *name* was heard of, or made up for by more than so many *distrusts*."""
        heard, distrusted = self.listener.heard, self.listener.distrusted
        return name.decode() in heard or len(distrusted) > distrusts

    def have_heard(self, names: Iterable[bytes]) -> bool:
        """Whether all of *names* were heard of."""
        return {name.decode() for name in names} <= set(self.listener.heard)

    def hears(self, name: bytes) -> bool:
        """Publish *name*; whether it has been heard of by now."""
        self.sender.publish(Kind.DELETE, TOPIC, [name])
        return name.decode() in self.listener.heard

    def in_another_thread(self, before: Callable[[], object]) -> threading.Thread:
        """Have a thread publish, with *before* called in the midst of its direct sending."""
        within = threading.Event()

        def once() -> None:
            if threading.current_thread() is thread and not within.is_set():
                within.set()
                before()

        def publish() -> None:
            # Until it finds the bus's thread asleep.
            wait_until(lambda: self.sender.directly(b"of a thread"))

        thread = threading.Thread(target=publish)
        self.sender.before = once
        thread.start()
        assert within.wait(PATIENCE)
        return thread


@pytest.fixture(params=["node", "broker"])
def pair(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Pair]:
    """The one that sends is a node of the other one, or its broker."""
    address = new_address("ipc", tmp_path)
    sender = Watched(address, candidate=request.param == "broker")
    other = ZmqBus([address], detection=SELDOM, candidate=request.param == "node")
    with closing(sender), closing(other):
        yield Pair(sender, other)


def test_a_caller_sends_by_himself_while_the_thread_sleeps(pair: Pair) -> None:
    wait_until(lambda: pair.sender.directly(b"a"))
    receipt = pair.sender.publish(Kind.DELETE, TOPIC, [b"b"])
    assert receipt.accepted(PATIENCE)
    wait_until(lambda: pair.listener.heard[-1:] == ["b"])


def test_a_flood_is_sent_by_the_thread(pair: Pair, monkeypatch: pytest.MonkeyPatch) -> None:
    wait_until(lambda: pair.sender.directly(b"a"))
    monkeypatch.setattr(turns, "_PACE", 1000.0)
    for _ in range(100):
        assert pair.sender.directly(b"a") is None
    assert pair.sender.publish(Kind.DELETE, TOPIC, [b"b"]).accepted(PATIENCE)


def test_many_nodes_are_sent_to_by_the_brokers_thread(
    pair: Pair, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(driver, "_FEW", 1)
    sends_itself = pair.sender.stats.role == "node"
    for _ in range(20):
        receipt = pair.sender.publish(Kind.DELETE, TOPIC, [b"a"])
        assert receipt.accepted(PATIENCE)
    if sends_itself:
        wait_until(lambda: pair.sender.directly(b"a"))
    else:
        assert threading.current_thread() not in pair.sender.senders


def test_nobody_waits_for_a_thread_that_is_awake(pair: Pair) -> None:
    called, go_on = threading.Event(), threading.Event()

    class Slow(Listener):
        def extend(self, epoch: int, until: float) -> None:
            called.set()
            assert go_on.wait(PATIENCE)

    slow = Slow()
    pair.sender.join(slow)
    assert called.wait(PATIENCE)
    receipt = pair.sender.publish(Kind.DELETE, TOPIC, [b"a"], source=slow)
    assert not receipt.accepted(0.0)
    go_on.set()
    assert receipt.accepted(PATIENCE)


def test_nobody_waits_for_another_caller_who_sends(
    pair: Pair, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(turns, "_PACE", -1.0)
    go_on = threading.Event()
    thread = pair.in_another_thread(lambda: go_on.wait(PATIENCE))
    receipts = [pair.sender.directly(b"meanwhile") for _ in range(3)]
    assert receipts == [None] * 3
    last = pair.sender.publish(Kind.DELETE, TOPIC, [b"last"])
    go_on.set()
    assert last.accepted(PATIENCE)
    thread.join(PATIENCE)
    wait_until(lambda: "last" in pair.listener.heard)
    assert pair.listener.heard.count("meanwhile") == 3


def test_who_publishes_while_he_sends_does_not_wait_for_himself(
    pair: Pair, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(turns, "_PACE", -1.0)
    receipts: list[Receipt] = []

    def publish() -> None:
        pair.sender.before = bool
        receipts.append(pair.sender.publish(Kind.DELETE, TOPIC, [b"of a handler"]))

    pair.in_another_thread(publish).join(PATIENCE)
    assert receipts[0].accepted(PATIENCE)
    wait_until(lambda: "of a handler" in pair.listener.heard)


@pytest.fixture
def _patient_close(monkeypatch: pytest.MonkeyPatch) -> None:
    """A bus that closes waits until all is accepted, also where a machine stalls."""
    monkeypatch.setattr(zeromq_bus, "_PATIENCE", PATIENCE)


@pytest.mark.usefixtures("_patient_close")
def test_a_bus_is_closed_while_a_caller_sends(pair: Pair) -> None:
    go_on, distrusts = threading.Event(), len(pair.listener.distrusted)
    thread = pair.in_another_thread(lambda: go_on.wait(PATIENCE))
    closing = threading.Thread(target=pair.sender.close)
    closing.start()
    wait_until(lambda: pair.sender.closed)
    assert closing.is_alive()
    go_on.set()
    closing.join(PATIENCE)
    assert not closing.is_alive()
    thread.join(PATIENCE)
    assert pair.sender.carrier is None
    pair.sender.publish(Kind.DELETE, TOPIC, [b"too late"])
    assert pair.sender.owed == 1
    # A broker that goes at once may be gone before it is read; who finds another one distrusts.
    pair.sender.start()
    wait_until(lambda: pair.has_settled(b"of a thread", distrusts))


@pytest.mark.usefixtures("_patient_close")
def test_who_closes_the_bus_while_he_sends_does_not_wait_for_himself(pair: Pair) -> None:
    distrusts, goes_on = len(pair.listener.distrusted), []

    def close() -> None:  # as a signal's handler
        pair.sender.before = bool
        pair.sender.close()
        pair.sender.start()  # not yet: it has still to leave
        goes_on.append(pair.sender.closed and pair.sender.carrier is not None)

    pair.in_another_thread(close).join(PATIENCE)
    assert goes_on == [True]
    pair.sender.close()  # waits for what the other one could not wait for
    assert pair.sender.carrier is None
    assert pair.sender.owed == 0
    pair.sender.start()
    wait_until(lambda: pair.sender.in_step)
    wait_until(lambda: pair.has_settled(b"of a thread", distrusts))
    wait_until(lambda: pair.hears(b"again"))


@pytest.mark.parametrize("again", [False, True], ids=["close", "close and start"])
def test_a_handler_may_close_the_bus_that_its_thread_closes(pair: Pair, again: bool) -> None:
    thread = pair.sender._thread
    assert thread is not None
    join, calls = thread.join, []

    def interrupted(timeout: float) -> None:
        join(timeout)
        calls.append(timeout)
        if len(calls) == 1:
            pair.sender.close()
            if again:
                pair.sender.start()

    thread.join = interrupted  # type: ignore[method-assign, assignment]
    closing = threading.Thread(target=pair.sender.close, daemon=True)
    closing.start()
    closing.join(PATIENCE)
    assert not closing.is_alive()
    assert pair.sender.closed is not again
    assert (pair.sender.carrier is None) is not again
    pair.sender.start()
    wait_until(lambda: pair.sender.in_step)


def test_who_waits_for_what_he_keeps_from_happening_is_told_at_once(
    pair: Pair, monkeypatch: pytest.MonkeyPatch
) -> None:
    receipts: list[Receipt] = []
    answers: list[bool] = []

    def settle() -> None:  # as a signal's handler
        pair.sender.before = bool
        receipt = pair.sender.publish(Kind.DELETE, TOPIC, [b"of a handler"], urgent=True)
        with monkeypatch.context() as patch:
            patch.setattr(pair.sender._progress, "_changed", None)  # that it would wait for
            answers.append(receipt.settled(PATIENCE) or receipt.accepted(PATIENCE))
        answers.append(pair.sender.claim(TOPIC, b"a name", 1.0, 2 * PATIENCE).asked)
        receipts.append(receipt)

    pair.in_another_thread(settle).join(PATIENCE)
    assert answers == [False, False]
    assert receipts[0].accepted(PATIENCE)
    wait_until(lambda: "of a handler" in pair.listener.heard)


class Handler:
    """As that of a signal: called before the *number*-th line of :class:`turns.Turns` by this
    thread, while it publishes."""

    def __init__(self, number: int, call: Callable[[], object]) -> None:
        self.number = number
        self._call = call

    def __enter__(self) -> Handler:
        self._former = sys.gettrace()
        sys.settrace(self._enter)
        return self

    def __exit__(self, *_: object) -> None:
        sys.settrace(self._former)

    def _enter(self, frame: FrameType, event: str, argument: Any) -> Any:
        return self._run if frame.f_code.co_filename == turns.__file__ else None

    def _run(self, frame: FrameType, event: str, argument: Any) -> Any:
        if event == "line":
            self.number -= 1
            if self.number == 0:
                self._call()
        return self._run


def test_a_handler_may_publish_wherever_it_interrupts(
    pair: Pair, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(turns, "_PACE", -1.0)
    for number in range(1, 100):
        names = [b"%d" % number, b"of the handler at %d" % number]
        publish = partial(pair.sender.publish, Kind.DELETE, TOPIC, names[1:])
        sent = None
        while sent is None:
            with Handler(number, publish) as handler:
                sent = pair.sender.directly(names[0])
            if handler.number <= 0:
                break
        interrupted = handler.number <= 0
        wait_until(partial(pair.have_heard, names[: 1 + interrupted]))
        if not interrupted:
            break
    else:
        pytest.fail("there are more lines than were tried")
    assert number > 10
    assert len(pair.listener.distrusted) == 1  # the first broker


def test_a_child_that_was_forked_while_a_thread_sends_takes_part(pair: Pair) -> None:
    go_on = threading.Event()
    thread = pair.in_another_thread(lambda: go_on.wait(PATIENCE))
    pair.sender.before = bool
    if pair.sender.stats.role == "node":
        in_child(lambda: pair.sender.publish(Kind.DELETE, TOPIC, [b"child"]).accepted(PATIENCE))
        go_on.set()
    else:
        # Its broker is what the child needs, and that one waits for the thread.
        timer = threading.Timer(0.5, go_on.set)
        timer.start()
        in_child(lambda: pair.sender.publish(Kind.DELETE, TOPIC, [b"child"]).accepted(PATIENCE))
        timer.join()
    thread.join(PATIENCE)
    wait_until(lambda: {"child", "of a thread"} <= set(pair.listener.heard))


def test_what_sending_has_brought_to_light_wakes_the_thread(
    pair: Pair, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert pair.sender.carrier is not None
    readiness = pair.sender.carrier._readiness
    ready, caller, woken = readiness.ready, threading.current_thread(), threading.Event()
    looked: list[bool] = []

    def pretend() -> list[Any]:
        if threading.current_thread() is not caller:
            woken.set()
            return ready()
        looked.append(True)
        woken.clear()
        return ["a message"]

    monkeypatch.setattr(readiness, "ready", pretend)

    def say_directly() -> bool:
        pair.sender.release(TOPIC, b"a name", 1)  # nobody answers that
        return bool(looked)

    wait_until(say_directly)
    assert woken.wait(PATIENCE)


# -- What is cut short ---------------------------------------------------------------


class Stop(BaseException):
    """As ``KeyboardInterrupt``."""


def fail(error: BaseException) -> None:
    raise error


@pytest.mark.parametrize("error", [OSError("no"), Stop()], ids=["error", "interrupt"])
def test_a_direct_sending_that_fails_makes_everybody_confirm(
    pair: Pair, error: BaseException
) -> None:
    seen: list[BaseException] = []

    def publish_and_fail() -> bool:
        main = threading.current_thread()
        failed: list[bool] = []

        def once() -> None:
            if threading.current_thread() is main:
                pair.sender.before = bool
                failed.append(True)
                fail(error)

        pair.sender.before = once
        try:
            pair.sender.publish(Kind.DELETE, TOPIC, [b"lost"])
        except Stop as stop:
            seen.append(stop)
        return bool(failed)

    wait_until(publish_and_fail)
    assert seen == ([error] if isinstance(error, Stop) else [])
    wait_until(lambda: len(pair.listener.distrusted) > 1)
    wait_until(lambda: pair.sender.owed == 0)
    wait_until(lambda: pair.sender.directly(b"again"))
    wait_until(lambda: "again" in pair.listener.heard)


class WaitingLog(logging.Handler):
    """Holds up whoever logs an error of a direct sending until nothing is owed any more."""

    def __init__(self, bus: ZmqBus) -> None:
        super().__init__()
        self.bus = bus
        self.waited: list[bool] = []

    def createLock(self) -> None:
        self.lock = None  # others log meanwhile

    def emit(self, record: logging.LogRecord) -> None:
        if "could not be sent" in record.getMessage():
            try:
                wait_until(lambda: self.bus.owed == 0)
            except AssertionError:
                self.waited.append(False)
            else:
                self.waited.append(True)


def test_what_a_log_calls_may_wait_for_the_bus(pair: Pair) -> None:
    log = WaitingLog(pair.sender)
    logger = logging.getLogger(LOGGER)
    logger.addHandler(log)
    try:
        pair.in_another_thread(lambda: fail(OSError("no"))).join(PATIENCE)
    finally:
        logger.removeHandler(log)
    assert log.waited == [True]


def test_what_could_not_be_packed_is_told_by_the_thread(
    pair: Pair, monkeypatch: pytest.MonkeyPatch
) -> None:
    carrier = pair.sender.carrier
    assert carrier is not None
    directly: list[bool] = []
    said: list[threading.Thread] = []
    send = carrier._turns._send

    def watched(now: float) -> bool:
        directly.append(True)
        return send(now)

    def warn(subject: str, *_: object) -> None:
        assert subject == "too long"
        said.append(threading.current_thread())

    monkeypatch.setattr(carrier._turns, "_send", watched)
    monkeypatch.setattr(carrier._reports, "warn", warn)
    while not directly:
        said.clear()
        pair.sender.tell(pair.other.node, bytes(MAX_FRAME))
        wait_until(lambda: said)
    assert said == [pair.sender._thread]


class Interrupt:
    """Raises :class:`Stop` at the *number*-th line that this thread runs while it sends directly.

    What surrounds the sending is left out: there nothing is in hand, and a line is not where a
    signal's handler could come between.
    """

    def __init__(self, number: int) -> None:
        self.number = number
        self.lines = 0

    def __enter__(self) -> Interrupt:
        self._former = sys.gettrace()
        sys.settrace(self._enter)
        return self

    def __exit__(self, *_: object) -> None:
        sys.settrace(self._former)

    def _enter(self, frame: FrameType, event: str, argument: Any) -> Any:
        one: FrameType | None = frame
        while one is not None:
            if one.f_code.co_name == "publish_left":
                return self._run
            one = one.f_back
        return None

    def _run(self, frame: FrameType, event: str, argument: Any) -> Any:
        if event == "line":
            self.lines += 1
            if self.lines == self.number:
                raise Stop
        return self._run


@pytest.mark.parametrize("start", range(8))
def test_wherever_a_caller_is_stopped_nothing_is_lost_in_silence(pair: Pair, start: int) -> None:
    """An event that was not heard of is made up for, by another one or by distrust."""
    for number in range(start + 1, 200, 8):
        name = b"%d" % number
        settled = partial(pair.has_settled, name, len(pair.listener.distrusted))
        stopped = reached = False
        while not reached:
            wait_until(lambda: not pair.sender.owed)
            try:
                with Interrupt(number) as interrupt:
                    pair.sender.publish(Kind.DELETE, TOPIC, [name])
            except Stop:
                stopped = True
            reached = interrupt.lines > 0  # else the thread was awake, and sent it
        wait_until(settled)
        wait_until(lambda: not pair.sender.owed)
        # Again and again: who finds a new broker hears of nothing that was before.
        wait_until(partial(pair.hears, b"after " + name))
        if not stopped:
            return
    pytest.fail("there are more lines than were tried")
