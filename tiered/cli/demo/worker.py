"""One worker process of the demo: serves requests and says how it went."""

from __future__ import annotations

import signal
import sys
import time
from dataclasses import dataclass, field
from multiprocessing.connection import Connection
from typing import Final

from tiered.cli.demo.coherent import Coherence, Figures, Participant
from tiered.cli.demo.shared import SharedTier
from tiered.cli.demo.workload import ModuleMetrics, module_metrics, zipf_requests
from tiered.clients.base import CacheClient
from tiered.clients.inproc import InprocCacheClient
from tiered.clients.tiered import TieredInclusiveClient
from tiered.decorators import CachedFunction, cached
from tiered.stats.histogram import TimingHistogram

__all__ = ["SOURCES", "Job", "Progress", "serve"]

SOURCES: Final = ("L1", "confirmed", "L2", "waited", "computed")
"""Where an answer may come from: the near tier, at once or once the shared one has confirmed that
it is right; the shared tier; a computation that another process was making just then; or the
function itself."""

_REPORT_EVERY: Final = 0.2
_SWITCH_INTERVAL: Final = 0.0005


@dataclass(frozen=True)
class Job:
    """What a worker is told.

    Attributes:
        number: from 0; seeds its choice of requests.
        modules: the keys, the most popular first.
        shared: the tier that all workers share, if any.
        secret: signs the values there; also keeps runs apart.
        seconds: how long to serve.
        coherence: the bus that keeps the workers in step, if any.
    """

    number: int
    modules: list[str]
    shared: SharedTier
    secret: str
    seconds: float
    coherence: Coherence | None = None


@dataclass
class Progress:
    """What a worker says of itself, as often as it likes: the counts since it started."""

    number: int
    done: bool = False
    errors: int = 0
    saved: float = 0.0
    timings: dict[str, tuple[dict[int, int], float]] = field(default_factory=dict)
    computed: list[str] = field(default_factory=list)
    """The keys computed since the last report."""
    figures: Figures | None = None


def serve(job: Job, pipe: Connection) -> None:
    """Serve until the time is over, or until the other end of *pipe* says or is gone."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches us through the pipe
    # We never pause: without this, a message to us waits for 5 ms until it has its turn.
    sys.setswitchinterval(_SWITCH_INTERVAL)
    near, far = _clients(job)
    participant: Participant | None = None
    if job.coherence is not None:
        participant = Participant(job.coherence, job.number, job.secret, far)
    # Without a shared tier, each worker has its own cache of what never changes.
    if participant is None or far is None:
        client = near if far is None else TieredInclusiveClient(near, far)
        # A worker that is killed while it computes holds up the others, and the end, so long.
        decorate = cached(client, ttl=3600, namespace=f"demo/{job.secret}", claim_ttl=2.0)
        metrics = decorate(module_metrics)
    else:
        metrics = participant.cached(module_metrics, near)
    try:
        if participant is not None:
            participant.start()
        _serve(job, metrics, participant, pipe)
    except (BrokenPipeError, EOFError):
        pass  # whoever asked for this is gone
    finally:
        if participant is not None:
            participant.close()
        metrics.client.close()


def _clients(job: Job) -> tuple[InprocCacheClient, CacheClient | None]:
    return InprocCacheClient(max(len(job.modules) // 4, 1)), job.shared.client(job.secret)


def _serve(
    job: Job,
    metrics: CachedFunction[[str], ModuleMetrics],
    participant: Participant | None,
    pipe: Connection,
) -> None:
    timings = {source: TimingHistogram() for source in SOURCES}
    saved = 0.0
    computed: list[str] = []
    started = reported = time.perf_counter()
    before, confirmed = metrics.stats, _confirmed(metrics)
    for path in zipf_requests(job.modules, seed=job.number):
        asked = time.perf_counter()
        answer = metrics(path)
        answered = time.perf_counter()
        after = metrics.stats
        if after.near_hits > before.near_hits:
            source = "L1"
        elif after.computations > before.computations:
            source = "computed"
            computed.append(path)
        elif after.shared > before.shared:
            source = "waited"
        elif confirmed < (confirmed := _confirmed(metrics)):
            source = "confirmed"
        else:
            source = "L2"
        before = after
        timings[source].record(answered - asked)
        if participant is not None:
            participant.check()
        saved += answer["seconds"] - (answered - asked)
        done = answered - started >= job.seconds
        if done or answered - reported >= _REPORT_EVERY:
            reported = answered
            pipe.send(
                Progress(
                    number=job.number,
                    done=done,
                    errors=after.errors,
                    saved=saved,
                    timings={name: (t.counts(), t.total) for name, t in timings.items()},
                    computed=computed,
                    figures=None if participant is None else participant.figures(),
                )
            )
            computed = []
            if done or pipe.poll():
                return


def _confirmed(metrics: CachedFunction[[str], ModuleMetrics]) -> int:
    """How many reads had what is held here confirmed."""
    known = metrics.client.coherence
    return 0 if known is None else known.confirmed
