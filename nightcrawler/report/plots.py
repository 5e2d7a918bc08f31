"""Pictures of a report: inline SVG on a transparent ground, whose ink is the page's colour of text, dark or light."""

from __future__ import annotations

import io
import itertools
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import matplotlib
import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

# Okabe and Ito (2008), without black and yellow, which vanish on one of the grounds.
COLOURS = ("#0072b2", "#e69f00", "#009e73", "#cc79a7", "#d55e00", "#56b4e9")
MARKERS = "osD^vPX*"
# Stands for the page's colour of text until the picture is whole.
INK = "#010203"
STYLE: Any = {
    "svg.fonttype": "none",
    "svg.hashsalt": "report",
    "text.parse_math": False,
    "font.size": 9,
    "text.color": INK,
    "axes.labelcolor": INK,
    "axes.edgecolor": INK,
    "axes.linewidth": 0.6,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "grid.color": INK,
    "grid.alpha": 0.12,
    "grid.linewidth": 0.6,
    "xtick.color": INK,
    "ytick.color": INK,
    "xtick.major.width": 0.6,
    "ytick.major.width": 0.6,
    "legend.frameon": False,
    "legend.fontsize": 8,
    "lines.linewidth": 1.5,
    "lines.markersize": 4.5,
}
ENSEMBLES = {
    "ensemble": {"label": "ensemble", "linewidth": 2.2},
    "control_ensemble": {
        "label": "ensemble of controls",
        "linestyle": "--",
        "markerfacecolor": "none",
    },
}
WIDTH_IN = 4.7
MOST_NUMBERS = 15

Figures = Mapping[str, Any]


def svg(paint: Callable[[Figure], None], height: float = 3.0, width: float = WIDTH_IN) -> str:
    """What `paint` draws, as an SVG element for use inside HTML."""
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(width, height), layout="constrained")
        paint(figure)
        buffer = io.StringIO()
        nothing = dict.fromkeys(("Creator", "Date", "Format", "Type"))
        figure.savefig(buffer, format="svg", transparent=True, metadata=nothing)
    text = buffer.getvalue()
    text = text[text.index("<svg") :].replace(INK, "currentColor")
    return re.sub(r' (width|height)="[\d.]+pt"', "", text, count=2)


def with_ids(text: str, prefix: str) -> str:
    """The same SVG with a prefix before all ids, so that pictures can share a page."""
    return re.sub(r'( id="|url\(#|href="#)', rf"\1{prefix}", text)


def _style(name: str, names: Sequence[str]) -> dict[str, Any]:
    """Colour and marker of a model, the same in all pictures."""
    at = list(names).index(name)
    return {"color": COLOURS[at % len(COLOURS)], "marker": MARKERS[at % len(MARKERS)]}


def _stage_axis(axes: Any, stages: Sequence[str]) -> None:
    turned = {"rotation": 20, "ha": "right", "rotation_mode": "anchor"} if len(stages) > 2 else {}
    axes.set_xticks(range(len(stages)), stages, **turned)
    axes.set_xlim(-0.3, len(stages) - 0.7)


def _legend(figure: Figure, axes: Any, columns: int = 2) -> None:
    handles, labels = axes.get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside upper left", ncols=columns)


def _points(axes: Any, at: Sequence[float], rows: Sequence[Figures], **style: Any) -> None:
    """Percentages with their 95 % intervals."""
    middle = [row["percent"] for row in rows]
    spread = [
        [row["percent"] - row["low"] for row in rows],
        [row["high"] - row["percent"] for row in rows],
    ]
    axes.errorbar(at, middle, yerr=np.maximum(spread, 0), capsize=2.5, elinewidth=0.9, **style)


def accuracy(figures: Figures, split: Figures) -> str:
    """Accuracy of a split over the stages: models, ensemble, controls, vote."""
    if not split["stamp"]["clips"]:
        return ""
    stages, names = split["stages"], figures["models"]

    def paint(figure: Figure) -> None:
        axes = figure.subplots()
        for name in names:
            at = [
                place
                for place, stage in enumerate(stages)
                if name in stage["models"] and stage["in_chain"]
            ]
            own = [stages[place]["models"][name]["percent"] for place in at]
            axes.plot(at, own, label=name, alpha=0.9, **_style(name, names))
            beside = [
                place
                for place, stage in enumerate(stages)
                if name in stage["models"] and not stage["in_chain"]
            ]
            own = [stages[place]["models"][name]["percent"] for place in beside]
            axes.plot(beside, own, linestyle="none", **_style(name, names))
        for name in figures["control"]:
            at = [place for place, stage in enumerate(stages) if name in stage["control"]]
            own = [stages[place]["control"][name] for place in at]
            if at and at[0] and name in stages[at[0] - 1]["models"]:
                # It starts from the same weights as its model.
                at, own = [at[0] - 1, *at], [stages[at[0] - 1]["models"][name], *own]
            if at:
                style = {**_style(name, names), "linestyle": "--", "markerfacecolor": "none"}
                _points(axes, at, own, label=f"{name}, control", **style)
        for key, style in ENSEMBLES.items():
            at = [place for place, stage in enumerate(stages) if stage[key]]
            if at:
                _points(
                    axes, at, [stages[place][key] for place in at], color=INK, marker="o", **style
                )
        vote = [one for one in split["votes"][-1:] if one["percent"] is not None]
        if vote:
            _points(
                axes, [len(stages) - 0.6], vote, label="vote", color=INK, marker="*", markersize=9
            )
        axes.axhline(figures["chance"], color=INK, linewidth=0.8, linestyle=":")
        axes.annotate("chance", (-0.28, figures["chance"]), fontsize=7.5, va="bottom")
        _stage_axis(axes, [stage["stage"] for stage in stages])
        axes.set_xlim(-0.3, len(stages) - 0.4)
        axes.set_ylabel("top-1 accuracy, %")
        _legend(figure, axes)

    return svg(paint, 3.9)


def coverage(figures: Figures) -> str:
    """Coverage and precision of pseudo-labels over the rounds."""
    rounds = figures["pseudo"]

    def paint(figure: Figure) -> None:
        axes = figure.subplots()
        at = [place for place, one in enumerate(rounds) if one["coverage"] is not None]
        covered = [rounds[place]["coverage"] for place in at]
        axes.plot(at, covered, label="coverage", color=COLOURS[0], marker="o")
        at = [place for place, one in enumerate(rounds) if one["precision"]["total"]]
        if at:
            style = {"color": COLOURS[1], "marker": "s"}
            _points(
                axes, at, [rounds[place]["precision"] for place in at], label="precision", **style
            )
        axes.set_ylim(0, 103)
        axes.set_ylabel("%")
        _stage_axis(axes, [one["stage"] for one in rounds])
        _legend(figure, axes)

    return svg(paint, 2.9) if rounds else ""


def drift(figures: Figures) -> str:
    """Pseudo-labels kept, changed, new and gone between rounds, as stacked bars."""
    moves = figures["drift"]

    def paint(figure: Figure) -> None:
        axes = figure.subplots()
        left = np.zeros(len(moves))
        places = np.arange(len(moves))
        kept = [move["both"] - move["changed"] for move in moves]
        parts = {
            "same": kept,
            **{key: [move[key] for move in moves] for key in ("changed", "new", "gone")},
        }
        hatches = ("", "////", "....", "xxxx")
        for (name, values), colour, hatch in zip(parts.items(), COLOURS, hatches, strict=False):
            axes.barh(
                places,
                values,
                left=left,
                label=name,
                color=colour,
                height=0.6,
                hatch=hatch,
                edgecolor=INK,
                lw=0,
            )
            left += values
        axes.set_yticks(places, [f"{move['before']}\nto {move['after']}" for move in moves])
        axes.invert_yaxis()
        axes.set_xlabel("clips")
        axes.xaxis.set_major_locator(MaxNLocator(5, integer=True))
        axes.grid(False, axis="y")
        _legend(figure, axes, 4)

    return svg(paint, 1.1 + 0.5 * len(moves)) if moves else ""


def agreement(figures: Figures) -> str:
    """Agreement of the models of the last stage that has several."""
    tables = [
        stage for split in figures["splits"] for stage in split["stages"] if stage["agreement"]
    ]
    if figures["focus"]:
        here = [split for split in figures["splits"] if split["split"] == figures["focus"]["split"]]
        tables = [stage for stage in here[0]["stages"] if stage["agreement"]] or tables
    if not tables:
        return ""
    names = list(tables[-1]["models"])
    return svg(
        lambda figure: _grid(
            figure, np.array(tables[-1]["agreement"]), names, names, "{:.0f}", 100.0
        ),
        3.6,
        4.4,
    )


def confusion(matrix: Sequence[Sequence[int]], names: Sequence[str]) -> str:
    """A confusion matrix: counts, shaded by their share of the row."""
    counts = np.array(matrix)
    side = min(max(0.33 * len(names), 2.6), 8.0) + 1.1

    def paint(figure: Figure) -> None:
        shares = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
        axes = _grid(figure, counts, names, names, "{:d}", 1.0, shares)
        axes.set_xlabel("predicted")
        axes.set_ylabel("true")

    return svg(paint, side, side)


def _grid(
    figure: Figure,
    values: np.ndarray,
    rows: Sequence[str],
    columns: Sequence[str],
    form: str,
    most: float,
    shades: np.ndarray | None = None,
) -> Any:
    """A matrix of shaded cells; numbers in them as long as they can be read."""
    axes = figure.subplots()
    shares = (values if shades is None else shades) / most
    colours = np.zeros((*values.shape, 4))
    colours[..., :3] = matplotlib.colors.to_rgb(COLOURS[0])
    colours[..., 3] = shares
    cells = [(row, column) for row in range(len(rows)) for column in range(len(columns))]
    for row, column in cells:
        if shares[row, column] > 0:
            place = (column - 0.48, row - 0.48)
            axes.add_patch(
                matplotlib.patches.Rectangle(place, 0.96, 0.96, color=colours[row, column], lw=0)
            )
        if len(columns) <= MOST_NUMBERS and values[row, column]:
            ink = "white" if shares[row, column] > 0.55 else INK
            text = form.format(values[row, column])
            axes.text(column, row, text, ha="center", va="center", color=ink, fontsize=8)
    axes.set_xticks(range(len(columns)), columns, rotation=45, ha="right", rotation_mode="anchor")
    axes.set_yticks(range(len(rows)), rows)
    axes.set(xlim=(-0.5, len(columns) - 0.5), ylim=(len(rows) - 0.5, -0.5), aspect="equal")
    axes.grid(False)
    axes.tick_params(length=0)
    axes.spines[:].set_visible(False)
    return axes


def reliability(figures: Figures) -> str:
    """Accuracy over confidence of the first and the last stage's ensemble; the diagonal is perfect calibration."""
    found = figures["focus"]["calibration"] if figures["focus"] else {}
    names = [
        name for name in dict.fromkeys([*list(found)[:1], *list(found)[-1:]]) if found[name]["bins"]
    ]

    def paint(figure: Figure) -> None:
        axes = figure.subplots()
        axes.plot([0, 100], [0, 100], color=INK, linestyle=":", linewidth=0.9, label="perfect")
        for name, colour, marker in zip(names, (COLOURS[1], COLOURS[0]), "so", strict=False):
            bins = found[name]["bins"]
            at = [one["confidence"] for one in bins]
            label = f"{name}, ECE {found[name]['ece']:.1f} %"
            _points(
                axes,
                at,
                [one["accuracy"] for one in bins],
                label=label,
                color=colour,
                marker=marker,
            )
        axes.set(xlim=(0, 100), ylim=(0, 103), xlabel="confidence, %", ylabel="accuracy, %")
        _legend(figure, axes, 1)

    return svg(paint, 3.8, 4.4) if names else ""


def brightness(figures: Figures) -> str:
    """Accuracy in bins of brightness."""
    bins = figures["focus"]["brightness"] if figures["focus"] else []

    def paint(figure: Figure) -> None:
        axes = figure.subplots()
        places = range(len(bins))
        axes.bar(
            places,
            [one["accuracy"]["percent"] for one in bins],
            color=COLOURS[0],
            alpha=0.75,
            width=0.7,
        )
        _points(axes, places, [one["accuracy"] for one in bins], color=INK, linestyle="none")
        axes.set_xticks(places, [f"{one['low']:.3g} to {one['high']:.3g}" for one in bins])
        axes.set_xlabel("mean of a clip's RGB values, as filmed (of 255)")
        axes.set_ylabel("accuracy, %")
        axes.set_ylim(0, 103)
        axes.grid(False, axis="x")

    return svg(paint, 2.9) if bins else ""


def learning(runs: Mapping[str, Sequence[Figures]], names: Sequence[str]) -> str:
    """Training loss and validation accuracy over epochs of a stage's trainings; rows of their `metrics.jsonl`."""
    splits = list(
        dict.fromkeys(
            row["split"] for rows in runs.values() for row in rows if row.get("kind") == "val"
        )
    )

    def paint(figure: Figure) -> None:
        loss, val = figure.subplots(1, 2)
        for name, rows in runs.items():
            model, _, control = name.partition(", ")
            style = {**_style(model, names), "marker": "", "linewidth": 1.2}
            if control:
                style |= {"alpha": 0.55, "linewidth": 0.9}
            epochs, losses = _mean_loss(rows)
            loss.plot(epochs, losses, label=name, **style)
            for split, line in zip(splits, itertools.cycle(("-", "--", ":", "-.")), strict=False):
                found = [
                    row for row in rows if row.get("kind") == "val" and row.get("split") == split
                ]
                found = [
                    row
                    for row in found
                    if row.get("weights", "raw") == "raw" and row.get("top1") is not None
                ]
                marker = "." if len(found) < 10 else ""
                own = {**style, "linestyle": line, "marker": marker}
                val.plot([row["epoch"] for row in found], [row["top1"] for row in found], **own)
        loss.set(xlabel="epoch", ylabel="training loss")
        val.set(xlabel="epoch", ylabel="validation top-1, %")
        for axes in (loss, val):
            axes.xaxis.set_major_locator(MaxNLocator(4, integer=True))
        _legend(figure, loss)

    return svg(paint, 2.9)


def _mean_loss(rows: Sequence[Figures]) -> tuple[list[int], list[float]]:
    """Epochs, and the mean of each one's logged losses."""
    found: dict[int, list[float]] = {}
    for row in rows:
        if row.get("kind") == "train" and isinstance(row.get("loss"), (int, float)):
            found.setdefault(int(row["epoch"]), []).append(row["loss"])
    return list(found), [float(np.mean(losses)) for losses in found.values()]


OF_FIGURES: dict[str, Callable[[Figures], str]] = {
    "coverage": coverage,
    "drift": drift,
    "agreement": agreement,
    "reliability": reliability,
    "brightness": brightness,
}
