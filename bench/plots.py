"""Plots of what the benchmarks printed as JSON."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import cycle
from pathlib import Path
from typing import Any

__all__ = ["draw_costs", "draw_fan_out", "draw_hit_ratios"]

_OURS = ("#0b6e4f", "#d1495b")
_OTHERS = "#8d99ae"
_OPTIMUM = "black"
_STYLES = (
    {"color": "#457b9d", "linestyle": "--", "marker": "s"},
    {"color": "#8d99ae", "linestyle": ":", "marker": "^"},
    {"color": "#2a9d8f", "linestyle": "-.", "marker": "x"},
    {"color": "#bc6c25", "linestyle": ":", "marker": "v"},
    {"color": "#6a4c93", "linestyle": "--", "marker": "d"},
)


def _pyplot() -> Any:
    import matplotlib as mpl

    mpl.use("agg")
    # The same data give the same file, and its text stays text.
    mpl.rcParams.update({"svg.hashsalt": "tiered", "svg.fonttype": "none"})
    from matplotlib import pyplot

    return pyplot


def draw_hit_ratios(traces: Sequence[dict[str, Any]], file: Path) -> None:
    """Hit ratio against size, a panel for each trace."""
    pyplot = _pyplot()
    columns = min(2, len(traces))
    rows = -(-len(traces) // columns)
    figure, panels = pyplot.subplots(
        rows, columns, figsize=(5 * columns, 3.4 * rows), squeeze=False, layout="constrained"
    )
    for panel in panels.flat[len(traces) :]:
        panel.set_visible(False)
    for panel, trace in zip(panels.flat, traces, strict=False):
        percents = [size["percent"] for size in trace["sizes"]]
        for name, style in _styles(list(trace["sizes"][0]["ratios"])).items():
            ratios = [size["ratios"][name] for size in trace["sizes"]]
            panel.plot(percents, ratios, label=name, markersize=4, **style)
        panel.set_title(trace["name"])
        panel.set_xscale("log")
        panel.set_xticks(percents, [f"{percent:g} %" for percent in percents])
        panel.minorticks_off()
        panel.set_xlabel("room for this share of the keys")
        panel.set_ylabel("hit ratio")
        panel.grid(alpha=0.3)
    handles, labels = panels.flat[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=4, fontsize="small")
    _save(figure, file)


def _styles(names: Sequence[str]) -> dict[str, dict[str, Any]]:
    """Ours and the optimum in full lines, others broken."""
    ours = iter(_OURS)
    others = cycle(_STYLES)
    found: dict[str, dict[str, Any]] = {}
    for name in names:
        if name.startswith("tiered"):
            found[name] = {"color": next(ours), "marker": "o", "linewidth": 2}
        elif name.startswith("Belady"):
            found[name] = {"color": _OPTIMUM, "marker": "."}
        else:
            found[name] = dict(next(others))
    return found


def draw_costs(panels: dict[str, dict[str, Any]], file: Path) -> None:
    """Bars of what a call costs in units of the baseline, a panel for each measured section."""
    pyplot = _pyplot()
    heights = [len(section["results"]) for section in panels.values()]
    figure, drawn = pyplot.subplots(
        len(panels),
        1,
        figsize=(8, 0.28 * sum(heights) + 0.9 * len(panels)),
        height_ratios=heights,
        squeeze=False,
        layout="constrained",
    )
    for panel, (title, section) in zip(drawn.flat, panels.items(), strict=True):
        results = sorted(section["results"], key=lambda one: -float(one["ratio"]))
        names = [one["name"] for one in results]
        colours = [_OURS[0] if name.startswith("tiered") else _OTHERS for name in names]
        bars = panel.barh(names, [one["ratio"] for one in results], color=colours)
        panel.bar_label(bars, [f"{one['ratio']:.1f}" for one in results], padding=3, fontsize=8)
        panel.set_xscale("log")
        panel.set_xlim(left=0.1)
        panel.margins(x=0.08)
        panel.set_title(f"{title}, in units of {section['baseline']}", fontsize=10, loc="left")
        panel.tick_params(axis="y", labelsize=8)
        for side in ("top", "right"):
            panel.spines[side].set_visible(False)
    _save(figure, file)


def draw_fan_out(curves: dict[str, Sequence[float]], file: Path) -> None:
    """Which share of nodes and events is done after how long.

    Args:
        curves: by name of the tree, seconds that shares from 0 to 1, evenly spaced, do not exceed.
    """
    pyplot = _pyplot()
    figure, panel = pyplot.subplots(figsize=(7, 3.6), layout="constrained")
    for (name, seconds), style in zip(curves.items(), cycle(_STYLES), strict=False):
        shares = [100 * place / (len(seconds) - 1) for place in range(len(seconds))]
        milliseconds = [1000 * one for one in seconds]
        panel.plot(milliseconds, shares, label=name, **{**style, "marker": None})
    panel.set_xscale("log")
    panel.set_xlabel("ms from publishing to applying")
    panel.set_ylabel("% of all nodes and events")
    panel.grid(alpha=0.3)
    panel.legend(fontsize="small")
    for side in ("top", "right"):
        panel.spines[side].set_visible(False)
    _save(figure, file)


def _save(figure: Any, file: Path) -> None:
    svg = file.suffix == ".svg"
    # Without the date, or each run would change the file.
    figure.savefig(file, dpi=110, metadata={"Date": None} if svg else None)
    _pyplot().close(figure)
