"""A process that takes part in a ZeroMQ bus, and the handle by which a test leads it.

The test writes one JSON command a line, and reads one JSON answer.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict
from multiprocessing.connection import wait
from typing import Any

from tiered.coherence import CurveKeys, ZmqBroker, ZmqBus
from tiered.coherence.messages import Event, Kind, Report
from tiered.coherence.zeromq.inquiry import Inquiry

TOPIC = b"a-topic."
PATIENCE = 15.0
"""Seconds after which a test that waits for something has failed."""
SELDOM = 16 * PATIENCE
"""A detection time that no machine stalls for: who has to wait until somebody has been silent for
so long has failed. Within the usual one, who stands still for a moment is out of step."""


class Listener:
    """A member of the bus that remembers what it was told."""

    topic = TOPIC

    def __init__(self) -> None:
        self.heard: list[str] = []
        self.distrusted: list[str] = []
        self.until = -float("inf")
        self.epoch = 0
        self.late = 0
        self.horizons: list[float] = []

    def hear(self, events: Sequence[Event]) -> None:
        self.heard += [event.name.decode() for event in events]

    def distrust(self, reason: str) -> None:
        self.distrusted.append(reason)

    def extend(self, epoch: int, until: float) -> None:
        self.epoch, self.until = epoch, until
        self.horizons.append(until)

    def accepted(self) -> None: ...

    def overdue(self) -> None:
        self.late += 1

    def told(self, node: bytes, payload: bytes) -> None:
        self.heard.append(f"{node.hex()}: {payload.decode()}")

    @property
    def verified(self) -> bool:
        return time.monotonic() < self.until


def wait_until(condition: Callable[[], Any], patience: float = PATIENCE) -> float:
    """Wait until *condition* holds; seconds that this took."""
    began = time.monotonic()
    while not condition():
        assert time.monotonic() - began < patience, "waited for too long"
        time.sleep(0.005)
    return time.monotonic() - began


def inquire(
    address: str,
    *,
    key: str | None = None,
    curve: CurveKeys | None = None,
    timeout: float = PATIENCE,
) -> Report | None:
    """What the broker at *address* says of itself; ``None`` if it does not answer."""
    answers = Inquiry([address], key=key, curve=curve, timeout=timeout).ask()
    return answers[0].report if answers else None


class BusProcess:
    """A process with one bus (or, with ``broker=True``, a broker of its own).

    Args:
        addresses: of the bus.
        options: of ``ZmqBus`` or ``ZmqBroker``; ``curve`` as a pair of texts.
    """

    def __init__(self, addresses: Sequence[str], *, broker: bool = False, **options: Any) -> None:
        settings = {"addresses": list(addresses), "broker": broker, "options": options}
        self.process = subprocess.Popen(
            [sys.executable, "-W", "error", "-m", __name__, json.dumps(settings)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            bufsize=1,
        )
        assert self._answer() == "ready"

    @property
    def pid(self) -> int:
        return self.process.pid

    def ask(self, command: str, *arguments: Any) -> Any:
        assert self.process.stdin is not None
        self.process.stdin.write(json.dumps([command, *arguments]) + "\n")
        return self._answer()

    def _answer(self) -> Any:
        assert self.process.stdout is not None
        assert wait([self.process.stdout.fileno()], PATIENCE), "the process does not answer"
        line = self.process.stdout.readline()
        assert line, f"the process has ended with {self.process.wait()}"
        return json.loads(line)

    @property
    def stats(self) -> dict[str, Any]:
        answer: dict[str, Any] = self.ask("stats")
        return answer

    @property
    def verified(self) -> bool:
        return bool(self.ask("verified"))

    def has_heard(self, names: list[str]) -> bool:
        return bool(self.ask("heard") == names)

    def signal(self, number: signal.Signals) -> None:
        os.kill(self.pid, number)

    def kill(self) -> None:
        self.process.kill()
        self.process.wait()

    def end(self) -> int:
        """Have it close its bus and exit; its exit code."""
        if self.process.poll() is None:
            assert self.process.stdin is not None
            self.process.stdin.close()
            try:
                self.process.wait(PATIENCE)
            except subprocess.TimeoutExpired:
                self.kill()
                raise
        if self.process.stdout is not None:
            self.process.stdout.close()
        return self.process.returncode

    def __enter__(self) -> BusProcess:
        return self

    def __exit__(self, *_: object) -> None:
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGCONT)
            self.kill()
        for pipe in (self.process.stdin, self.process.stdout):
            if pipe is not None:
                pipe.close()


# -- In the process ------------------------------------------------------------------


def _fork_a_sleeper() -> int:
    """A child that has copies of all that this process has open, and uses nothing."""
    pid = os.fork()
    if not pid:
        time.sleep(60.0)
        os._exit(0)
    return pid


def _serve_bus(bus: ZmqBus) -> None:
    member = Listener()
    bus.join(member)  # so that it hears of the first broker
    bus.start()
    receipts = []

    def publish(names: list[str], urgent: bool) -> bool:
        encoded = [name.encode() for name in names]
        receipts.append(bus.publish(Kind.DELETE, TOPIC, encoded, source=member, urgent=urgent))
        return True

    commands: dict[str, Callable[..., Any]] = {
        "stats": lambda: asdict(bus.stats),
        "heard": lambda: member.heard,
        "count": lambda: len(member.heard),
        "distrusted": lambda: member.distrusted,
        "verified": lambda: member.verified,
        "late": lambda: member.late,
        "publish": publish,
        "accepted": lambda seconds: receipts[-1].accepted(seconds),
        "settled": lambda seconds: receipts[-1].settled(seconds),
        "tell": lambda node, text: bus.tell(bytes.fromhex(node), TOPIC + text.encode()),
        "claim": lambda name: bus.claim(TOPIC, name.encode(), 5.0, 5.0),
        "release": lambda name, token: bus.release(TOPIC, name.encode(), token),
        "sleeper": _fork_a_sleeper,
        "close": bus.close,
        "start": bus.start,
    }
    _obey(commands)
    bus.close()


def _serve_broker(broker: ZmqBroker) -> None:
    thread = threading.Thread(target=broker.run, daemon=True)
    thread.start()
    wait_until(lambda: broker.stats.epoch)
    _obey({"stats": lambda: asdict(broker.stats), "sleeper": _fork_a_sleeper})
    broker.stop()
    thread.join(PATIENCE)


def _obey(commands: dict[str, Callable[..., Any]]) -> None:
    _answer("ready")
    for line in sys.stdin:
        command, *arguments = json.loads(line)
        _answer(commands[command](*arguments))


def _answer(answer: Any) -> None:
    sys.stdout.write(json.dumps(answer) + "\n")
    sys.stdout.flush()


def main() -> None:
    settings = json.loads(sys.argv[1])
    options = settings["options"]
    if options.get("curve"):
        options["curve"] = CurveKeys(*options["curve"])
    if settings["broker"]:
        _serve_broker(ZmqBroker(settings["addresses"], **options))
    else:
        _serve_bus(ZmqBus(settings["addresses"], **options))


if __name__ == "__main__":
    main()
