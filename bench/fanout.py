"""Invalidations for 10,000 nodes, simulated: one broker, or trees of brokers.

    python bench/fanout.py [--json | --markdown] [--picture FILE] [--seed N] [--detection S]
                           [--rate N ...] [--events N] [--hop US] [--hop99 US] [--send US] ...

No sockets, no threads, no clock: the same options give the same figures. What a hop, a frame, an
event and a ping cost are options, in microseconds; what they are by default was measured by
bench/coherence.py and by profiling it. The tables tell, for each tree:

- how much it carries, and what that asks of the busiest broker and of its link;
- how long an event takes to one node, and to the last of all nodes;
- for how long nodes that are cut off go on, where leases are added from level to level, and where
  they are nested;
- what the death of a broker costs.
"""

from __future__ import annotations

import argparse
import json
import math
import sys
from collections.abc import Sequence
from dataclasses import asdict, fields
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import numpy as np

from bench.fanout_leases import Outlasting, outlast
from bench.fanout_loads import BEATS, Death, Load, best_fan_out, deaths, interval_for, load
from bench.fanout_tree import Costs, Tree, simulate
from bench.sections import shown
from bench.tables import Table

TREES = (
    Tree((10_000,)),
    Tree((1_000, 10)),
    Tree((313, 32)),
    Tree((100, 100)),
    Tree((22, 22, 21)),
    Tree((10, 10, 10, 10)),
)
CONFIRMED = 100_000
"""Confirmations a second that one memcached answers."""
TIMES = ("hop", "hop99", "send", "receive", "stamp", "apply", "ping")
"""Costs that are options in microseconds."""


# -- Tables ----------------------------------------------------------------------------


def load_table(loads: Sequence[Load], rate: float) -> Table:
    """What is asked of the broker with the most children."""
    each = shown(loads[0].into / 1e6)
    return Table(
        f"{rate:,.0f} events/s to all nodes, {each} Mbit/s to each: the widest broker",
        (
            "tree",
            "nodes",
            "brokers",
            "sends Mbit/s",
            "carries at most, events/s",
            "with a frame for each",
            "pings/s",
            "their Mbit/s",
            "its thread is busy",
        ),
        [
            (
                one.tree,
                f"{one.nodes:,}",
                f"{one.brokers:,}",
                shown(one.out / 1e6),
                f"{_rounded(one.most):,.0f} ({one.by})",
                f"{_rounded(one.alone):,.0f}",
                f"{one.pings:,.0f}",
                shown(one.beats / 1e6),
                "too much" if one.thread is None else f"{one.thread:.0%}",
            )
            for one in loads
        ],
    )


def latency_table(loads: Sequence[Load], rate: float) -> Table:
    """From publishing until it is applied."""
    return Table(
        f"{rate:,.0f} events/s to all nodes: ms from publishing to applying",
        ("tree", "p50", "p99", "last node, p50", "last node, p99"),
        [
            (one.tree, *(_ms(value) for value in (one.p50, one.p99, one.last50, one.last99)))
            for one in loads
        ],
    )


def _rounded(value: float) -> float:
    """Two digits that mean something."""
    scale: float = 10 ** (math.floor(math.log10(value)) - 1)
    return round(value / scale) * scale


def _ms(seconds: float) -> str:
    return "" if math.isnan(seconds) else shown(seconds * 1e3)


def lease_table(
    found: Sequence[tuple[int, float, Outlasting, Outlasting]], detection: float
) -> Table:
    """How long nodes go on after the root is gone."""
    return Table(
        f"The root dies: how long nodes go on, detection time {detection:g} s",
        (
            "levels",
            "a ping every, s",
            "added: mean s",
            "most s",
            "nested: mean s",
            "most s",
            "left at the least, s",
        ),
        [
            (
                str(levels),
                f"{interval:.3g}",
                f"{added.mean:.2f}",
                f"{added.most:.2f}",
                f"{nested.mean:.2f}",
                f"{nested.most:.2f}",
                f"{nested.margin:.2f}",
            )
            for levels, interval, added, nested in found
        ],
    )


def death_table(found: Sequence[Death], takeover: float) -> Table:
    """What the end of a broker costs."""
    return Table(
        f"A broker dies, and its children have another after {takeover:g} s",
        (
            "tree",
            "level",
            "nodes cut off",
            "events missed",
            "replayed, KB",
            "to be confirmed in 1 s",
            "that is of one memcached, s",
        ),
        [
            (
                one.tree,
                "root" if one.level == 0 else str(one.level),
                f"{one.nodes:,}",
                f"{one.missed:,.0f}",
                shown(one.replayed / 1e3),
                f"{one.confirmed:,.0f}",
                shown(one.confirmed / CONFIRMED),
            )
            for one in found
        ],
    )


# -- All -------------------------------------------------------------------------------


def main() -> int:
    """Simulate, print, draw."""
    options = _options()
    given = {name: getattr(options, name) / 1e6 for name in TIMES}
    costs = Costs(**given, event=options.event, link=options.link * 1e9)
    detection = options.detection
    loads = [
        load(tree, costs, rate, options.events, BEATS / detection, options.seed)
        for rate in options.rate
        for tree in TREES
    ]
    leases = []
    for levels in sorted({len(tree.fan_outs) for tree in TREES}):
        interval = interval_for(levels, detection)
        added, nested = (
            outlast(
                levels,
                costs,
                detection=detection,
                interval=interval,
                nested=nested,
                paths=options.paths,
                seed=options.seed,
            )
            for nested in (False, True)
        )
        leases.append((levels, interval, added, nested))
    ends = [
        death for tree in TREES for death in deaths(tree, costs, options.rate[0], options.takeover)
    ]
    if options.json:
        data = {
            "costs": asdict(costs),
            "best": best_fan_out(costs),
            "loads": [asdict(one) for one in loads],
            "leases": [(n, every, asdict(a), asdict(b)) for n, every, a, b in leases],
            "deaths": [asdict(one) for one in ends],
        }
        print(json.dumps(data, indent=2))
    else:
        each = len(TREES)
        tables = [
            table(loads[place * each : (place + 1) * each], rate)
            for place, rate in enumerate(options.rate)
            for table in (load_table, latency_table)
        ]
        tables += [lease_table(leases, detection), death_table(ends, options.takeover)]
        best = best_fan_out(costs)
        texts = [one.markdown() if options.markdown else one.text() for one in tables]
        print("\n\n".join(texts))
        print(f"\nthe fan-out with the least latency: {best:.0f}")
    if options.picture:
        from bench.plots import draw_fan_out

        draw_fan_out(_curves(costs, options), options.picture)
    return 0


def _curves(costs: Costs, options: argparse.Namespace) -> dict[str, Sequence[float]]:
    """By tree, the latencies (s) that shares of 0, 1/200, 2/200 ... 1 do not exceed."""
    curves: dict[str, Sequence[float]] = {}
    for tree in TREES:
        done = simulate(
            tree,
            costs,
            rate=options.rate[0],
            events=options.events,
            pings=BEATS / options.detection,
            seed=options.seed,
        )
        curves[tree.name] = np.quantile(done.each, np.linspace(0, 1, 201)).tolist()
    return curves


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--json", action="store_true", help="print data instead of tables")
    parser.add_argument("--markdown", action="store_true", help="print tables for documentation")
    parser.add_argument(
        "--rate", type=float, nargs="+", default=[1_000.0, 10_000.0], help="events a second"
    )
    parser.add_argument("--events", type=int, default=400, help="so many are simulated")
    parser.add_argument("--paths", type=int, default=2_000, help="ways to a node, for leases")
    parser.add_argument("--detection", type=float, default=1.0, help="seconds")
    parser.add_argument("--takeover", type=float, default=0.1, help="seconds")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--picture", type=Path, help="draw the latencies into this file")
    parser.add_argument("--event", type=int, default=Costs.event, help="bytes of an event")
    parser.add_argument("--link", type=float, default=Costs.link / 1e9, help="Gbit/s")
    for field in fields(Costs):
        if field.name in TIMES:
            usual = float(field.default) * 1e6  # type: ignore[arg-type]
            parser.add_argument(f"--{field.name}", type=float, default=usual, help="microseconds")
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
