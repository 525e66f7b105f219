"""What the benchmarks printed as JSON, as a page of the documentation."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from bench.sections import shown

__all__ = ["HIT_COSTS", "HIT_RATIOS", "render"]

HIT_COSTS = "hit_cost.svg"
HIT_RATIOS = "hit_ratio.png"
"""The plots beside the page."""

Data = Mapping[str, Any]

_HEAD = """# Performance

This page shows what the operations of `tiered` cost beside those of other caches, and which of its
goals it reached, in one run on one machine.

<!-- Written by bench/report.py: changes made here are lost. -->

`make bench` measures and writes it anew; `TRACES=folder` names the traces for the hit ratios. In
each round every contender runs once, in an order that rotates, and each section has a process of
its own. Figures are medians of the rounds. Compare the ratios, which are medians of those within
each round; the figures themselves depend on the machine and on who else uses it.
"""

_SECTIONS = {
    "hit_path": (
        "A hit",
        "What a hit costs, and why, is told in [What a hit costs](hit-path.md). The last column is "
        "the same without the compiled core (`TIERED_PURE=1`), in units of the same baseline.",
    ),
    "stores": (
        "Stores",
        "Clients take a ttl with each write and check their arguments; a bare store does not "
        "check, and that is what corresponds to the caches of other packages. Memory is what the "
        "process grows by for each of a million entries, whose keys exist before and which share "
        "one value.",
    ),
    "memcached": (
        "memcached",
        "Over loopback, the servers and their clients on one core. What our client reads was "
        "signed, unless it says otherwise; what the others read never is. A bare socket sends "
        "requests that were written beforehand, receives each answer to its end, and looks at "
        "nothing in it. It asks for many values with one `get`, and with pipelined `mg`, which "
        "costs the server more: it serves 20 requests of a connection at a time, and a `get` is "
        "one. Clients that compress say so; they do from a kilobyte on. `meta-memcache` has no "
        "call that writes many values. `pylibmc` is a C library, and finds each key on the same "
        "server as `tiered` does. Who a key belongs to is asked without a server.",
    ),
    "tiers": (
        "Tiers",
        "Memory in front of memcached. The pairs made by hand pickle values and sign nothing.",
    ),
    "files": (
        "Files",
        "Beside `diskcache`, which keeps small values in SQLite, and `dogpile.cache` with its dbm "
        "backend; the conditions above tell which dbm module of Python that is. Keys are texts, "
        "values 1,000 bytes that cannot be compressed, and all caches have their usual options. "
        "They have room for 2 GB, and for 20 MB where they are to be full. `tiered` verifies all "
        "that it reads, an array once in each process: that is what the first get of one takes. "
        "With several processes, the figures are calls of all of them together; `dbm.dumb` is left "
        "out there, and where there are many threads.",
    ),
    "region": (
        "Regions",
        "Beside `dogpile.cache` with its backend in memory: what a hit costs. The tiers are memory "
        "in front of what stands for a server.",
    ),
    "coherence": (
        "Coherence",
        "Between processes of this machine. The first tables tell how long after a delete began in "
        "one process the value was gone from the private tier of another, with one delete every "
        "4 ms. Values note when they end, so nobody has to look for that. One line is over a real "
        "memcached, whose round trip is part of the time; else a stand-in in each process's memory "
        "takes the place of the shared tier. Processes of one host tell each other ahead of the "
        "broker; lines by the bus alone are without that, as between hosts. The next tables tell "
        "how many deletes a second reach four nodes, sent one by one through the client, with some "
        "thousand under way at a time; lost unnoticed is what a node did not hear of without "
        "reporting that something was missing. Then the broker is killed, while a node deletes "
        "every 5 ms; by the bus alone, as neighbours hear even then. `chorde` is left out where it "
        "is not installed; over ipc nothing of it arrives. A read that is not verified asks "
        "memcached for the version of what "
        "the private tier holds.",
    ),
}


def render(found: Mapping[str, Data], date: str) -> str:
    """The page, from data by the name of the benchmark; ``hit_path_pure`` joins ``hit_path``."""
    parts = [_HEAD, _conditions(found, date), _goals(found)]
    for name, (title, words) in _SECTIONS.items():
        if name in found:
            pure = found.get("hit_path_pure", {}).get("sections", {}) if name == "hit_path" else {}
            parts.append(f"## {title}\n\n{words}\n")
            if name == "hit_path":
                parts.append(f"![Costs of hits]({HIT_COSTS})\n")
            parts += _tables(found[name].get("tables", ()))
            parts += _measured(found[name]["sections"], pure)
        if name == "stores" and "hit_ratio" in found:
            parts += _hit_ratios(found["hit_ratio"])
        if name == "region" and name in found:
            parts += _crowds(found[name], "The processes use `distributed_lock`.")
        if name == "files" and name in found:
            parts += _crowds(found[name], "The processes share the files.")
        if name == "tiers" and "stampede" in found:
            parts.append("## Stampede\n")
            parts += _crowds(found["stampede"])
    return "\n".join(parts)


def _table(head: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    """A table, the first column aligned to the left and the others to the right."""
    lines = [head, ["---", *("---:" for _ in head[1:])], *rows]
    return "\n".join(f"| {' | '.join(map(str, line))} |" for line in lines) + "\n"


def _conditions(found: Mapping[str, Data], date: str) -> str:
    facts: dict[str, str] = {"date": date}
    for name, data in found.items():
        if name != "hit_path_pure":
            facts.update(data["environment"])
    return "## Conditions\n\n" + _table(["what", "which"], facts.items())


def _goals(found: Mapping[str, Data]) -> str:
    rows = []
    for name, data in found.items():
        suffix = " (pure Python)" if name == "hit_path_pure" else ""
        for goal in data["goals"]:
            met = "yes" if goal["met"] else "**no**"
            rows.append((_plain(goal["goal"]) + suffix, f"{goal['measured']:.3g}", met))
    return "## Goals\n\n" + _table(["goal", "measured", "reached"], rows)


def _tables(tables: Iterable[Data]) -> list[str]:
    parts = []
    for one in tables:
        rows = [[_plain(row[0]), *row[1:]] for row in one["rows"]]
        parts.append(f"### {_plain(one['title'])}\n\n{_table(one['head'], rows)}")
    return parts


def _measured(sections: Data, pure: Data) -> list[str]:
    parts = []
    for title, section in sections.items():
        without = {one["name"]: one for one in pure.get(title, {}).get("results", ())}
        head = ["contender", section["unit"], _plain(f"x {section['baseline']}")]
        if without:
            head.append("x, pure Python")
        rows = []
        for one in section["results"]:
            row = [_plain(one["name"]), shown(one["value"]), f"{one['ratio']:.2f}"]
            if without:
                same = without.get(one["name"]) if one["name"].startswith("tiered") else None
                row.append(f"{same['ratio']:.2f}" if same else "")
            rows.append(row)
        parts.append(f"### {_plain(title)}\n\n{_table(head, rows)}")
    return parts


def _plain(words: str) -> str:
    """*words* so that markdown leaves them as they are."""
    return words.replace("|", "\\|").replace("*", "\\*").replace("_", "\\_")


def _hit_ratios(data: Data) -> list[str]:
    real = all(trace["real"] for trace in data["traces"])
    kind = "recorded" if real else "made-up"
    parts = [
        f"## Hit ratios\n\nOn {kind} traces, with room for some percent of their keys. Belady's "
        "optimum evicts what is asked for last, which takes knowing the future.\n",
        f"![Hit ratio against size]({HIT_RATIOS})\n",
        "### Mean share of the optimum\n",
        _table(
            ["policy", "share"],
            [
                (name, f"{share:.3f}")
                for name, share in sorted(data["shares"].items(), key=lambda one: -float(one[1]))
            ],
        ),
    ]
    for trace in data["traces"]:
        sizes = trace["sizes"]
        parts += [
            f"### {trace['name']}\n",
            f"{trace['accesses']:,} accesses of {trace['unique']:,} keys.\n",
            _table(
                ["policy", *(f"{size['percent']:g} % ({size['entries']:,})" for size in sizes)],
                [
                    (name, *(f"{size['ratios'][name]:.3f}" for size in sizes))
                    for name in sizes[0]["ratios"]
                ],
            ),
        ]
    return parts


def _crowds(data: Data, words: str = "") -> list[str]:
    creator = data["creator"]
    parts = [
        f"One cold key, asked for by many at a time, and a creator of {creator * 1000:.0f} ms: how "
        f"often it runs, and how long its callers wait. {words}".rstrip()
        + "\n"
    ]
    crowds: dict[str, list[Data]] = {}
    for line in data["lines"]:
        crowds.setdefault(line["crowd"], []).append(line)
    for crowd, lines in crowds.items():
        rows = [
            (
                _plain(line["name"]),
                line["calls"],
                f"{line['p50'] * 1000:.1f}",
                f"{line['p99'] * 1000:.1f}",
            )
            for line in lines
        ]
        head = ["contender", "computations", "p50 ms", "p99 ms"]
        parts.append(f"### {crowd}\n\n{_table(head, rows)}")
    return parts
