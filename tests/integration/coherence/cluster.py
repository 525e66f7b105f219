"""Starts nodes and brokers, does to them what a test wants, and asks the checker."""

from __future__ import annotations

import contextlib
import logging
import os
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final, Self

from tests.integration.coherence.checker import Bound, Verdict, counted, judged, last_deletes
from tests.integration.coherence.network import Network
from tests.integration.coherence.process import Child, Process, Worker, eventually
from tests.integration.coherence.reception import Reception
from tests.integration.coherence.settings import Load, Settings, State
from tests.integration.coherence.truth import Kind, Truth

LOG: Final = logging.getLogger(__name__)

__all__ = ["EXIT", "LONGER", "ROUNDS", "SLACK", "Cluster"]

LONGER: Final = float(os.environ.get("TIERED_FAULTS_LONGER", "1"))
"""The load before and after each fault lasts so many times as long."""
ROUNDS: Final = int(os.environ.get("TIERED_FAULTS_ROUNDS", "1"))
"""Each fault that passes comes so many times."""
SLACK: Final = float(os.environ.get("TIERED_FAULTS_SLACK", "0.3"))
"""Seconds for which a busy machine may keep a thread waiting."""
EXIT: Final = 10.0
"""Seconds in which a process has to have ended, also where a machine stalls."""
RECOVERY: Final = 20.0
"""Seconds in which all have to have recovered."""
LAST_WORDS: Final = 0.1
"""Seconds before a freeze in which an event may still lie in the process that was frozen."""


class Cluster:
    """Nodes, and brokers, with what they share; a context manager.

    Args:
        folder: for the logs and all else.
        servers: the addresses of the shared memcached.
        candidates: the addresses of the bus.
        plain, synchronous: how many keys have deletes that wait for nobody, and for everybody.
        network: where hosts have links that can be cut.
    """

    def __init__(
        self,
        folder: Path,
        servers: Sequence[str],
        candidates: Sequence[str],
        *,
        plain: int = 1000,
        synchronous: int = 20,
        network: Network | None = None,
        **settings: Any,
    ) -> None:
        self.folder = folder
        self.truth = Truth.made(folder / "truth", plain + synchronous)
        self.settings = Settings(
            folder=str(folder),
            servers=tuple(servers),
            candidates=tuple(candidates),
            prefix=f"{folder.name}-{os.getpid()}/",
            plain=range(plain),
            synchronous=range(plain, plain + synchronous),
            **settings,
        )
        self.bounds = [
            Bound(self.settings.detection + SLACK, self.settings.plain),
            Bound(0.0, self.settings.synchronous),
        ]
        self.all: dict[str, Worker] = {}
        self.children: dict[str, Child] = {}
        self.brokers: list[Process] = []
        self.told: list[str] = [f"{time.monotonic():.4f} starts"]
        self.states: dict[str, State] = {}
        self._network = network
        self._reception = Reception(folder / "orders")

    # -- Who takes part --------------------------------------------------------------

    def broker(self, *, host: int | None = None, bind: str | None = None) -> Process:
        """A broker in a process of its own, which listens."""
        address = bind or self.settings.candidates[0]
        name = f"broker{len(self.brokers)}"
        keys = self.folder / f"{name}.key"
        keys.write_bytes(self.settings.bus_key)
        keys.chmod(0o600)
        command = ["-m", "tiered", "coherence", "broker", "--bind", address]
        command += ["--key-file", str(keys)]
        process = Process(name, command, self.folder, self._inside(host))
        self.brokers.append(process)
        return process

    def start(self, *names: str, host: int | None = None, **changes: Any) -> list[Worker]:
        """Nodes with these names, whose settings have these *changes*.

        Each third one has no neighbours, unless *changes* say so: what is told ahead of the bus
        would hide what the bus itself does under a fault.
        """
        new: list[Worker] = []
        for name in names:
            path, inside = self._reception.path, self._inside(host)
            self.all[name] = worker = Worker(name, path, self.folder, inside)
            new.append(worker)
        first = len(self.all) - len(new)
        for place, worker in enumerate(new, first):
            settings = self.settings._replace(neighbours=place % 3 < 2)._replace(**changes)
            worker.connect(self._reception.accept(worker.name), settings)
        for worker in new:
            assert worker.hear() == "ready"
        return new

    def fork(self, parent: Worker, name: str) -> Child:
        """A child of *parent*, which goes on with the same settings."""
        parent.begin("fork", name)
        child = self.children[name] = Child(name, parent)
        child.connect(self._reception.accept(name), None)
        assert child.hear() == "ready"
        child.pid = parent.hear()
        return child

    def _inside(self, host: int | None) -> list[str]:
        if host is None:
            return []
        assert self._network is not None
        return self._network.inside(host)

    # -- What happens ----------------------------------------------------------------

    def begin(self, load: Load, *names: str) -> None:
        """Let nodes read and delete by themselves: those with *names*, or all."""
        for one in self._living():
            if not names or one.name in names:
                one.ask("begin", load)
        self.note(f"{names or 'all'} begin")

    @property
    def workers(self) -> dict[str, Worker]:
        """The nodes that were not killed."""
        return {name: worker for name, worker in self.all.items() if not worker.killed}

    def _living(self) -> list[Worker | Child]:
        return [*self.children.values(), *self.workers.values()]

    def lasting(self, seconds: float) -> None:
        """The load goes on for so long."""
        time.sleep(seconds * LONGER)

    def note(self, what: str) -> float:
        """Remember *what* happens, for who reads about a failure; the time."""
        now = time.monotonic()
        self.told.append(f"{now:.4f} {what}")
        return now

    @contextlib.contextmanager
    def frozen(self, process: Process) -> Any:
        """*process* stands still; what it has just done is not known to others."""
        since = self.note(f"{process.name} is frozen")
        process.freeze()
        try:
            yield
        finally:
            until = self.note(f"{process.name} goes on")
            process.thaw()
        excused = Bound(self.bounds[0].seconds, self.settings.plain, process.name)
        self.bounds.append(excused._replace(since=since - LAST_WORDS, until=until, at=until))

    @contextlib.contextmanager
    def cut(self, host: int, *networks: str, names: Sequence[str] = ()) -> Any:
        """*host* has no link to *networks*; the deletes of *names* take longer to be known."""
        assert self._network is not None
        since = self.note(f"host {host} is cut off from {networks}")
        for network in networks:
            self._network.cut(host, network)
        try:
            yield
        finally:
            until = self.note(f"host {host} is healed")
            for network in networks:
                self._network.heal(host, network)
        self.cut_off(names, since, until)

    def cut_off(self, names: Sequence[str], since: float, until: float) -> None:
        """What *names* deleted then, they could not tell."""
        settings = self.settings
        longer = 2 * settings.detection + settings.server_timeout + SLACK
        for name in names:
            bound = Bound(longer, settings.plain, name, since - LAST_WORDS)
            self.bounds.append(bound._replace(until=until + settings.detection))

    def enough(self, reads: int, deleted: int, served: int = 0) -> None:
        """The load goes on until so much was done: how fast is the machine's affair."""

        def is_done() -> bool:
            counts = counted(self.folder)
            done = counts[Kind.READ] >= reads and counts[Kind.DELETED] >= deleted
            return done and sum(one.state.served for one in self._living()) >= served

        eventually(is_done, RECOVERY, lambda: self._words("too little is done"))
        self.note("enough is done")

    def leading(self, but: Process | None = None) -> Worker:
        """The node that is the broker, once one is, and another than *but*."""
        found: list[Worker] = []

        def one_leads() -> bool:
            found[:] = [one for one in self.workers.values() if one.state.bus["role"] == "broker"]
            return len(found) == 1 and found[0] is not but

        eventually(one_leads, RECOVERY, lambda: self._words("no node is the broker"))
        return found[0]

    def recovered(self, timeout: float = RECOVERY) -> None:
        """All serve unasked again, on one bus, though the load goes on."""

        def one_bus() -> bool:
            states = [one.state for one in self._living()]
            together = len({state.bus["epoch"] for state in states}) == 1
            return together and all(state.verified for state in states)

        eventually(one_bus, timeout, lambda: self._words("not all serve unasked again"))
        self.note("all serve unasked again")

    # -- What came of it -------------------------------------------------------------

    def quiet(self) -> None:
        """The load ends."""
        for one in self._living():
            one.begin("quiet")
        stuck = {one.name: one.hear() for one in self._living()}
        assert not any(stuck.values()), self._words(f"threads that do not end: {stuck}")
        self.note("the load has ended")

    def converge(self, timeout: float = RECOVERY) -> None:
        """All nodes come to read the newest versions, and to serve them unasked."""

        old: dict[str, list[int]] = {}

        def newest() -> bool:
            for one in self._living():
                one.begin("sweep")
            old.update({one.name: one.hear() for one in self._living()})
            return not any(old.values())

        def words() -> str:
            some = {name: keys[:20] for name, keys in old.items() if keys}
            return self._words(f"not all read the newest versions, but of keys {some} older ones")

        self._redo()
        eventually(newest, timeout, words)
        self.note("all read the newest versions")
        self.recovered(timeout)

    def _redo(self) -> None:
        """Delete what somebody was killed at, who had raised its version already."""
        settings = self.settings
        deleted = last_deletes(self.folder, self.truth.keys)
        for key in (*settings.plain, *settings.synchronous):
            if self.truth.version(key) > deleted[key]:
                self._living()[0].ask("delete", key)

    @property
    def served(self) -> dict[str, int]:
        """How many reads the nearest tier of each has answered, at the end."""
        return {name: state.served for name, state in self.states.items()}

    def verdict(self) -> Verdict:
        """What the checker says; what the nodes themselves have noticed fails here."""
        settings = self.settings
        verdict = judged(self.folder, (settings.plain, settings.synchronous), self.bounds)
        faults = [fault for one in self._living() for fault in one.state.faults]
        assert not faults, self._words("\n".join(faults))
        return verdict

    def end(self) -> dict[str, int | None]:
        """``SIGTERM`` to all; how each ended, ``None`` for who has not in good time."""
        brokers = [one for one in self.brokers if not one.killed]
        deadline = time.monotonic() + EXIT
        statuses: dict[str, int | None] = {}
        # Children first, as their parents have to tell what becomes of them.
        for some in (self.children.values(), [*self.workers.values(), *brokers]):
            for process in some:
                process.terminate()
            statuses |= {process.name: process.status(deadline) for process in some}
        return statuses

    def finish(self) -> Verdict:
        """The load ends, all converge, nothing was stale, and all end: or it fails."""
        self.quiet()
        self.converge()
        self.states = {one.name: one.state for one in self._living()}
        verdict = self.verdict()
        self.note(f"{verdict}\nserved at once: {self.served}")
        assert not verdict.stale, self._words("stale reads")
        self.ended()
        return verdict

    def ended(self) -> None:
        """All end, in good time and as they should: or it fails."""
        statuses = self.end()
        self.note("all have ended")
        assert set(statuses.values()) == {0}, self._words(f"{statuses}")
        LOG.info("\n".join(self.told))

    def _words(self, what: str) -> str:
        states = []
        for one in self._living():
            with contextlib.suppress(Exception):
                states.append(f"{one.name}: {one.state}")
        said = [
            f"{process.name} said:\n{process.said}"
            for process in (*self.all.values(), *self.brokers)
            if process.said
        ]
        settings = self.settings
        verdict = judged(self.folder, (settings.plain, settings.synchronous), self.bounds)
        return "\n".join([what, *self.told, *states, str(verdict), *said])

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        for process in (*self.all.values(), *self.brokers):
            process.kill()
        for orders in (*self.all.values(), *self.children.values()):
            orders.close()
        self._reception.close()
        self.truth.close()
