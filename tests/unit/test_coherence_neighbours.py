"""The nodes of one host that tell each other straight: who is there, and what is left behind."""

from __future__ import annotations

import os
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, closing
from pathlib import Path

import pytest

pytest.importorskip("zmq")

from tiered.clock import SYSTEM_CLOCK
from tiered.coherence.messages import Event, Kind, Publish, packed
from tiered.coherence.wire import Wire
from tiered.coherence.zeromq import neighbours
from tiered.coherence.zeromq.foreign import ForeignCount
from tiered.coherence.zeromq.neighbours import Neighbours, folder_of

ADDRESS = "tcp://127.0.0.1:1"
EVENT = packed([Event(Kind.DELETE, b"a topic.", b"a")])


@pytest.fixture(autouse=True)
def base(monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Where all folders are; a short path, as sockets' are."""
    import tempfile

    with tempfile.TemporaryDirectory(dir="/tmp") as folder:
        monkeypatch.setattr(neighbours.tempfile, "gettempdir", lambda: folder)
        yield folder_of([ADDRESS]).parent


def made(node: bytes, address: str = ADDRESS) -> Neighbours:
    wire, foreign = Wire(()), ForeignCount(SYSTEM_CLOCK)
    return Neighbours(folder_of([address]), node, wire=wire, foreign=foreign)


def notice(node: bytes, serial: int = 1) -> Publish:
    return Publish(node, 7, serial, 1, EVENT, False)


def test_what_one_tells_the_others_hear() -> None:
    one, other = made(b"node one"), made(b"node two")
    with closing(one), closing(other):
        assert one.look()
        one.tell(notice(b"node one"))
        assert list(other.receive()) == [notice(b"node one")]
        assert not list(one.receive())


def test_the_last_one_takes_the_folder_away(base: Path) -> None:
    with closing(made(b"node one")):
        assert list(base.iterdir())
    assert not list(base.iterdir())


def test_what_the_killed_have_left_is_removed_and_nothing_else(base: Path, tmp_path: Path) -> None:
    (base / "files").mkdir(parents=True, mode=0o700)
    base.chmod(0o700)
    (base / "files" / "kept").write_text("a value")
    (tmp_path / "kept").write_text("a letter")
    with ExitStack() as stack:
        for folder in ("files", str(tmp_path)):
            dead = stack.enter_context(socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM))
            dead.bind(str(base / folder / "dead"))
    (base / "link").symlink_to(tmp_path)
    made(b"node one").close()
    assert sorted(path.name for path in (base / "files").iterdir()) == ["kept"]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["dead", "kept"]


def test_who_comes_back_is_not_taken_for_who_was_killed(base: Path) -> None:
    one, other = made(b"node one"), made(b"node two")
    with closing(other):
        assert other.look()
        os.unlink(folder_of([ADDRESS]) / b"node one".hex())  # somebody has tidied up
        other.tell(notice(b"node two"))
        assert not one.look()
        one.close()
        with closing(made(b"node one")) as again:
            other.look()
            assert again.look()
            other.tell(notice(b"node two", 2))
            assert list(again.receive()) == [notice(b"node two", 2)]


def test_those_who_come_and_go_do_not_keep_each_other_out() -> None:
    failed: list[OSError] = []
    ends = time.monotonic() + 1.0

    def come_and_go(number: int) -> None:
        while time.monotonic() < ends:
            try:
                made(b"node %03d" % number, f"tcp://127.0.0.1:{number % 2}").close()
            except OSError as error:
                failed.append(error)

    threads = [threading.Thread(target=come_and_go, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failed
