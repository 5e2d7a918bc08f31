"""The summary of one run or of several (mean and standard deviation over seeds) as lines for a terminal."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from nightcrawler.utils.errors import UserError

HEADINGS = ("mean", "best single", "ensemble", "control", "same models", "control ensemble")
HIDDEN = "measured with hidden labels; nothing was chosen by them"
CHOSEN = "labels of dark clips chose checkpoints or thresholds"
PICKED = "it picked the checkpoints"
WIDTH = 19

Figures = dict[str, Any]


def describe(stamp: Figures) -> str:
    """A stamp in words: `label-free, split test, seed 0, 330 clips, measured with hidden labels; ...`."""
    seeds = ", ".join(map(str, stamp["seeds"])) or "unknown"
    parts = [stamp["use"], f"split {stamp['split']}", f"seed {seeds}", f"{stamp['clips']} clips"]
    if stamp["use"] != "label-free":
        parts.append(CHOSEN)
    elif stamp["dark_labels"] and stamp["clips"]:
        parts.append(HIDDEN)
    return ", ".join([*parts, *([PICKED] if stamp["picked"] else [])])


def summary(runs: Sequence[Figures]) -> Iterator[str]:
    """Lines: accuracy of every stage on every split, then the pseudo-labels of every round.

    Args:
        runs: figures of runs of one recipe.

    Raises:
        UserError: if they are of several recipes, or of other classes.
    """
    first = runs[0]
    for run in runs:
        if run["recipe"] != first["recipe"]:
            raise UserError(
                f"{run['run']}: is of {run['recipe']}, {first['run']} of {first['recipe']}: no mean of both"
            )
        if run["classes"] != first["classes"]:
            raise UserError(
                f"{run['run']}: its classes are not those of {first['run']}: no mean of both"
            )
    names = ", ".join(dict.fromkeys(run["run"] for run in runs))
    yield f"{first['recipe']}: {names}; {len(first['classes'])} classes, chance {first['chance']:.1f} %"
    if len(runs) > 1:
        yield f"mean ± standard deviation over {len(runs)} runs; (n) where fewer have the figure"
    for split in dict.fromkeys(found["split"] for run in runs for found in run["splits"]):
        yield from _accuracy(runs, split)
    if any(run["pseudo"] for run in runs):
        yield from _pseudo(runs)
    yield from _open(runs)


def _accuracy(runs: Sequence[Figures], split: str) -> Iterator[str]:
    tables = [found for run in runs for found in run["splits"] if found["split"] == split]
    stamp = {
        **tables[0]["stamp"],
        "seeds": sorted({seed for table in tables for seed in table["stamp"]["seeds"]}),
    }
    if any(table["stamp"]["use"] != "label-free" for table in tables):
        stamp["use"] = "oracle"
    yield ""
    if not stamp["clips"]:
        yield f"{split}: no true classes to count against (--truth {split}=CSV gives them)"
        return
    yield f"accuracy, %: {describe(stamp)}"
    stages = dict.fromkeys(stage["stage"] for table in tables for stage in table["stages"])
    width = (
        max(map(len, [*stages, *(vote["name"] for table in tables for vote in table["votes"])])) + 2
    )
    yield f"{'stage':<{width}}" + "".join(f"{heading:>{WIDTH}}" for heading in HEADINGS)
    for name in stages:
        rows = [stage for table in tables for stage in table["stages"] if stage["stage"] == name]
        yield f"{name:<{width}}" + "".join(f"{cell:>{WIDTH}}" for cell in _cells(rows, len(runs)))
    for name in dict.fromkeys(vote["name"] for table in tables for vote in table["votes"]):
        rows = [vote for table in tables for vote in table["votes"] if vote["name"] == name]
        cells = ["", "", _shown([row["percent"] for row in rows], len(runs), _interval(rows))]
        yield f"{name:<{width}}" + "".join(f"{cell:>{WIDTH}}" for cell in cells)
    yield "best single: the model that is best on this split, which only these labels tell"
    if any(stage["control"] for table in tables for stage in table["stages"]):
        yield "control: as many optimiser steps without pseudo-labels, mean of models; same models: these, with them"


def _cells(rows: Sequence[Figures], num_runs: int) -> list[str]:
    """Mean, best single, ensemble, control, the models of the control, and its ensemble, of one stage."""

    def best(row: Figures) -> float | None:
        return row["models"][row["best"]]["percent"] if row["best"] else None

    readers: list[Callable[[Figures], float | None]] = [
        lambda row: row["mean"],
        best,
        lambda row: row["ensemble"]["percent"] if row["ensemble"] else None,
        lambda row: row["control_mean"],
        lambda row: row["same_mean"],
        lambda row: row["control_ensemble"]["percent"] if row["control_ensemble"] else None,
    ]
    intervals = [""] * len(readers)
    for place, name in ((2, "ensemble"), (5, "control_ensemble")):
        intervals[place] = _interval([row[name] for row in rows if row[name]])
    return [
        _shown([read(row) for row in rows], num_runs, interval)
        for read, interval in zip(readers, intervals, strict=True)
    ]


def _interval(rows: Sequence[Figures]) -> str:
    return f" [{rows[0]['low']:.1f}, {rows[0]['high']:.1f}]" if len(rows) == 1 else ""


def _shown(values: Sequence[float | None], num_runs: int, interval: str = "") -> str:
    """`62.1`, with an interval of one run; `62.1 ± 1.4` of several."""
    known = [value for value in values if value is not None]
    if not known:
        return "-"
    if num_runs == 1:
        return f"{known[0]:.1f}{interval}"
    spread = f" ± {statistics.stdev(known):.1f}" if len(known) > 1 else ""
    return f"{statistics.fmean(known):.1f}{spread}" + (
        f" ({len(known)})" if len(known) < num_runs else ""
    )


def _pseudo(runs: Sequence[Figures]) -> Iterator[str]:
    rounds = [one for run in runs for one in run["pseudo"]]
    names = dict.fromkeys(one["stage"] for one in rounds)
    uses = sorted({one["labels"] for one in rounds})
    seeds = (
        ", ".join(map(str, sorted({seed for one in rounds for seed in one["seeds"]}))) or "unknown"
    )
    yield ""
    yield f"pseudo-labels of {rounds[0]['split']}, %: {' and '.join(uses)}, seed {seeds}; precision {HIDDEN}"
    width = max(map(len, names)) + 2
    headings = ("labels", "coverage", "precision", "clips of known class")
    yield f"{'round':<{width}}" + "".join(f"{heading:>{WIDTH + 2}}" for heading in headings)
    for name in names:
        rows = [one for one in rounds if one["stage"] == name]
        known = [one["precision"] for one in rows]
        cells = (
            _shown([float(one["rows"]) for one in rows], len(runs)).removesuffix(".0"),
            _shown([one["coverage"] for one in rows], len(runs)),
            _shown(
                [one["percent"] for one in known],
                len(runs),
                _interval(known) if known[0]["total"] else "",
            ),
            _shown([float(one["total"]) for one in known], len(runs)).removesuffix(".0"),
        )
        yield f"{name:<{width}}" + "".join(f"{cell:>{WIDTH + 2}}" for cell in cells)


def _open(runs: Sequence[Figures]) -> Iterator[str]:
    for run in runs:
        links = [link for link in run["links"] if link["status"] != "done"]
        if links:
            yield f"\n{run['run']}: {len(links)} of {len(run['links'])} links are not done, first {links[0]['name']}"
        yield from (f"{run['run']}: {note}" for note in run["notes"])
