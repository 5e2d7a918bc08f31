"""Plots of a report: accuracy, pseudo-labels, agreement, confusion, calibration and learning."""

from __future__ import annotations

import itertools
import operator
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from nightcrawler.report.plot_style import (
    COLOURS,
    INK,
    Figures,
    draw_legend,
    draw_matrix,
    draw_shares,
    draw_stage_axis,
    model_style,
    pluck,
    svg,
)

ENSEMBLES: dict[str, dict[str, Any]] = {
    "ensemble": {"label": "ensemble", "linewidth": 2.2},
    "control_ensemble": {
        "label": "ensemble of controls",
        "linestyle": "--",
        "markerfacecolor": "none",
    },
}
# Patterns beside colours, for readers who cannot tell the colours apart.
HATCHES = {"same": "", "changed": "////", "new": "....", "gone": "xxxx"}
# Fewer validations than this are shown as points: a line between them would hide them.
MIN_FOR_LINE = 10


def _places_and_values(
    rows: Sequence[Figures], read: Callable[[Figures], Any]
) -> tuple[list[int], list[Any]]:
    """Return places on the x axis and values of the rows that have one.

    Args:
        rows: stages or rounds, in order.
        read: returns the value of a row, `None` if there is none.
    """
    places = []
    values = []
    for place, row in enumerate(rows):
        value = read(row)
        if value is not None:
            places.append(place)
            values.append(value)
    return places, values


def accuracy(figures: Figures, split: Figures) -> str:
    """Plot the accuracy on a split over the stages: models, controls, ensembles and vote.

    Args:
        figures: of `collect`.
        split: one of its splits.

    Returns:
        SVG, empty if no true class is known.
    """
    if not split["stamp"]["clips"]:
        return ""
    stages = split["stages"]

    def paint(figure: Figure) -> None:
        axes = figure.subplots()
        _draw_models(axes, stages, figures["models"])
        _draw_controls(axes, stages, figures)
        for key, style in ENSEMBLES.items():
            places, shares = _places_and_values(stages, operator.itemgetter(key))
            if places:
                draw_shares(axes, places, shares, color=INK, marker="o", **style)
        vote = split["votes"][-1:]
        if vote and vote[0]["percent"] is not None:
            place = len(stages) - 0.6
            draw_shares(axes, [place], vote, label="vote", color=INK, marker="*", markersize=9)
        axes.axhline(figures["chance"], color=INK, linewidth=0.8, linestyle=":")
        axes.annotate("chance", (-0.28, figures["chance"]), fontsize=7.5, va="bottom")
        draw_stage_axis(axes, pluck(stages, "stage"))
        # Room for the vote behind the last stage.
        axes.set_xlim(-0.3, len(stages) - 0.4)
        axes.set_ylabel("top-1 accuracy, %")
        draw_legend(figure, axes)

    return svg(paint, 3.9)


def _draw_models(axes: Any, stages: Sequence[Figures], names: Sequence[str]) -> None:
    """Draw single models: a line through the stages of the chain, points beside it for others."""
    for name in names:
        lines: dict[bool, tuple[list[int], list[float]]] = {True: ([], []), False: ([], [])}
        for place, stage in enumerate(stages):
            if name in stage["models"]:
                places, percents = lines[bool(stage["in_chain"])]
                places.append(place)
                percents.append(stage["models"][name]["percent"])
        style = model_style(name, names)
        axes.plot(*lines[True], label=name, alpha=0.9, **style)
        axes.plot(*lines[False], linestyle="none", **style)


def _draw_controls(axes: Any, stages: Sequence[Figures], figures: Figures) -> None:
    for name in figures["control"]:
        controls = pluck(stages, "control")
        places, shares = _places_and_values(controls, operator.methodcaller("get", name))
        if not places:
            continue
        start = places[0] - 1
        if start >= 0 and name in stages[start]["models"]:
            # The control starts from the same weights as its model, so their lines meet there.
            places.insert(0, start)
            shares.insert(0, stages[start]["models"][name])
        style = {
            **model_style(name, figures["models"]),
            "linestyle": "--",
            "markerfacecolor": "none",
        }
        draw_shares(axes, places, shares, label=f"{name}, control", **style)


def coverage(figures: Figures) -> str:
    """Plot coverage and precision of pseudo-labels over the rounds, or nothing without a round."""
    rounds = figures["pseudo"]
    if not rounds:
        return ""

    def paint(figure: Figure) -> None:
        axes = figure.subplots()
        places, covered = _places_and_values(rounds, operator.itemgetter("coverage"))
        axes.plot(places, covered, label="coverage", color=COLOURS[0], marker="o")
        places, shares = _places_and_values(rounds, _known_precision)
        if places:
            draw_shares(axes, places, shares, label="precision", color=COLOURS[1], marker="s")
        # Room above 100 % for the upper end of markers.
        axes.set_ylim(0, 103)
        axes.set_ylabel("%")
        draw_stage_axis(axes, pluck(rounds, "stage"))
        draw_legend(figure, axes)

    return svg(paint, 2.9)


def _known_precision(one: Figures) -> Figures | None:
    """Return the precision of a round, `None` if no true class is known."""
    return one["precision"] if one["precision"]["total"] else None


def drift(figures: Figures) -> str:
    """Plot the changes of pseudo-labels between rounds as stacked bars, or nothing.

    Labels that are known to be wrong are pale.
    """
    changes = figures["drift"]
    if not changes:
        return ""

    def paint(figure: Figure) -> None:
        axes = figure.subplots()
        left = np.zeros(len(changes))
        places = np.arange(len(changes))
        for (name, hatch), colour in zip(HATCHES.items(), COLOURS, strict=False):
            if name == "same":
                values = [change["both"] - change["changed"] for change in changes]
            else:
                values = pluck(changes, name)
            wrong = np.array([_num_wrong(change["right"][name]) for change in changes])
            for widths, alpha, label in ((values - wrong, 1.0, name), (wrong, 0.35, "")):
                style: dict[str, Any] = {"height": 0.6, "color": colour, "alpha": alpha, "lw": 0}
                bars = axes.barh(places, widths, left=left, label=label, **style)
                for bar in bars:
                    # The pattern takes the edge's colour. A line width of 0 hides the edge itself.
                    bar.set(hatch=hatch, edgecolor=INK)
                left += widths
        axes.set_yticks(places, [f"{change['before']}\nto {change['after']}" for change in changes])
        axes.invert_yaxis()
        axes.set_xlabel("clips")
        axes.xaxis.set_major_locator(MaxNLocator(5, integer=True))
        axes.grid(False, axis="y")
        draw_legend(figure, axes, 4)

    return svg(paint, 1.1 + 0.5 * len(changes))


def _num_wrong(right: Figures) -> int:
    """Return the number of labels that are known to be wrong."""
    return int(right["total"] - right["correct"])


def agreement(figures: Figures) -> str:
    """Plot the agreement of the models of one stage, or nothing if no stage has several.

    The stage is the last one with several models, on the split in focus if possible.
    """
    focus_split = figures["focus"]["split"] if figures["focus"] else ""
    stages = []
    focus_stages = []
    for split in figures["splits"]:
        for stage in split["stages"]:
            if stage["agreement"]:
                stages.append(stage)
                if split["split"] == focus_split:
                    focus_stages.append(stage)
    stages = focus_stages or stages
    if not stages:
        return ""
    names = list(stages[-1]["models"])
    table = np.array(stages[-1]["agreement"])

    def paint(figure: Figure) -> None:
        draw_matrix(figure, table, names, "{:.0f}", table / 100)

    return svg(paint, 3.6, 4.4)


def confusion(matrix: Sequence[Sequence[int]], names: Sequence[str]) -> str:
    """Plot a confusion matrix: counts, shaded by their share of the row.

    Args:
        matrix: `[K][K]` counts of `measures.confusion`.
        names: K classes.
    """
    counts = np.array(matrix)
    shares = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    # Inches: large enough for the names, and for a screen.
    side = min(max(0.33 * len(names), 2.6), 8.0) + 1.1

    def paint(figure: Figure) -> None:
        axes = draw_matrix(figure, counts, names, "{:d}", shares)
        axes.set_xlabel("predicted")
        axes.set_ylabel("true")

    return svg(paint, side, side)


def reliability(figures: Figures) -> str:
    """Plot accuracy over confidence for the first and last stage; the diagonal is perfect.

    The result is empty without a split in focus.
    """
    if not figures["focus"]:
        return ""
    found = figures["focus"]["calibration"]
    stages = list(found)
    # All stages would hide one another. With one stage, both ends are the same.
    ends = dict.fromkeys([*stages[:1], *stages[-1:]])
    names = [name for name in ends if found[name]["bins"]]
    if not names:
        return ""

    def paint(figure: Figure) -> None:
        axes = figure.subplots()
        axes.plot([0, 100], [0, 100], color=INK, linestyle=":", linewidth=0.9, label="perfect")
        for name, colour, marker in zip(names, (COLOURS[1], COLOURS[0]), "so", strict=False):
            places = pluck(found[name]["bins"], "confidence")
            shares = pluck(found[name]["bins"], "accuracy")
            label = f"{name}, ECE {found[name]['ece']:.1f} %"
            draw_shares(axes, places, shares, label=label, color=colour, marker=marker)
        axes.set(xlim=(0, 100), ylim=(0, 103), xlabel="confidence, %", ylabel="accuracy, %")
        draw_legend(figure, axes, 1)

    return svg(paint, 3.8, 4.4)


def brightness(figures: Figures) -> str:
    """Plot the accuracy in bins of brightness, or nothing if none was measured."""
    if not figures["focus"] or not figures["focus"]["brightness"]:
        return ""
    bins = figures["focus"]["brightness"]
    shares = pluck(bins, "accuracy")

    def paint(figure: Figure) -> None:
        axes = figure.subplots()
        places = range(len(bins))
        axes.bar(places, pluck(shares, "percent"), color=COLOURS[0], alpha=0.75, width=0.7)
        draw_shares(axes, places, shares, color=INK, linestyle="none")
        axes.set_xticks(places, [f"{one['low']:.3g} to {one['high']:.3g}" for one in bins])
        axes.set_xlabel("mean of a clip's RGB values, as filmed (of 255)")
        axes.set_ylabel("accuracy, %")
        axes.set_ylim(0, 103)
        axes.grid(False, axis="x")

    return svg(paint, 2.9)


def learning(runs: Mapping[str, Sequence[Figures]], names: Sequence[str]) -> str:
    """Plot training loss and validation accuracy of a stage's trainings over epochs.

    Args:
        runs: model (`model, control` for a control) to rows of its `metrics.jsonl`.
        names: of all models of the run.
    """
    splits = validated_splits(runs)

    def paint(figure: Figure) -> None:
        loss_axes, val_axes = figure.subplots(1, 2)
        for name, rows in runs.items():
            model, _, control = name.partition(", ")
            style = {**model_style(model, names), "marker": "", "linewidth": 1.2}
            # Controls are paler than their models, and share their colours.
            if control:
                style |= {"alpha": 0.55, "linewidth": 0.9}
            epochs, losses = _mean_losses(rows)
            loss_axes.plot(epochs, losses, label=name, **style)
            for split, line in zip(splits, itertools.cycle(("-", "--", ":", "-.")), strict=False):
                epochs, top1 = _validations(rows, split)
                marker = "." if len(epochs) < MIN_FOR_LINE else ""
                val_axes.plot(epochs, top1, **{**style, "linestyle": line, "marker": marker})
        loss_axes.set(xlabel="epoch", ylabel="training loss")
        val_axes.set(xlabel="epoch", ylabel="validation top-1, %")
        for axes in (loss_axes, val_axes):
            axes.xaxis.set_major_locator(MaxNLocator(4, integer=True))
        draw_legend(figure, loss_axes)

    return svg(paint, 2.9)


def validated_splits(runs: Mapping[str, Sequence[Figures]]) -> list[str]:
    """Return the splits of validations in the order in which they appear.

    Args:
        runs: name to rows of a `metrics.jsonl`.
    """
    splits: dict[str, None] = {}
    for rows in runs.values():
        for row in rows:
            if row.get("kind") == "val":
                splits[row["split"]] = None
    return list(splits)


def _validations(rows: Sequence[Figures], split: str) -> tuple[list[int], list[float]]:
    """Return epochs and top-1 accuracies of a split, of the weights that are trained.

    Validations of averaged weights (EMA) are left out.
    """
    epochs = []
    top1 = []
    for row in rows:
        is_raw = row.get("weights", "raw") == "raw" and row.get("top1") is not None
        if row.get("kind") == "val" and row.get("split") == split and is_raw:
            epochs.append(row["epoch"])
            top1.append(row["top1"])
    return epochs, top1


def _mean_losses(rows: Sequence[Figures]) -> tuple[list[int], list[float]]:
    """Return epochs, and the mean of each one's logged losses."""
    losses: dict[int, list[float]] = {}
    for row in rows:
        # A loss that is not finite is no number in the file.
        if row.get("kind") == "train" and isinstance(row.get("loss"), (int, float)):
            losses.setdefault(int(row["epoch"]), []).append(row["loss"])
    return list(losses), [float(np.mean(values)) for values in losses.values()]


# Plots that need nothing but the figures, by the name under which the page shows them.
OF_FIGURES: dict[str, Callable[[Figures], str]] = {
    "coverage": coverage,
    "drift": drift,
    "agreement": agreement,
    "reliability": reliability,
    "brightness": brightness,
}
