"""Table of one run, or of several (mean and standard deviation over seeds), for a terminal."""

from __future__ import annotations

import statistics
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import pandas as pd

from nightcrawler.pseudo.results_metadata import LABEL_FREE, ORACLE
from nightcrawler.report.metadata import HIDDEN, describe, join_words
from nightcrawler.report.run_folder import TASKS
from nightcrawler.utils.errors import UserError
from nightcrawler.workflow.task_state import DONE

# Columns of the table of accuracies, and the figure of a stage behind each. The best single model
# has no figure of its own.
COLUMNS = {
    "mean": "mean",
    "best single": "",
    "ensemble": "ensemble",
    "control": "control_mean",
    "same models": "same_mean",
    "control ensemble": "control_ensemble",
}
PSEUDO_COLUMNS = ("labels", "coverage", "precision", "clips of known class")
COLUMN_WIDTH = 19
NO_FIGURE = "-"

Figures = dict[str, Any]


def table_lines(runs: Sequence[Figures]) -> Iterator[str]:
    r"""Yield the lines of a table: accuracy by stage and split, and pseudo-labels by round.

    Args:
        runs: figures of runs of one recipe, of `figures.collect` or a `report.json`.

    Raises:
        UserError: if the runs have different recipes or classes.

    Example:
        >>> print("\n".join(table_lines([read_figures(Path("demo/run"), Path.cwd(), {})])))
    """
    first = runs[0]
    _check_same_kind(runs)
    names = ", ".join(dict.fromkeys(run["run"] for run in runs))
    num_classes = len(first["classes"])
    yield f"{first['recipe']}: {names}; {num_classes} classes, chance {first['chance']:.1f} %"
    if len(runs) > 1:
        yield (
            f"mean ± standard deviation over {len(runs)} runs; "
            "(n) in cells that only n of them have"
        )
    splits: dict[str, list[Figures]] = {}
    for run in runs:
        for found in run["splits"]:
            splits.setdefault(found["split"], []).append(found)
    for tables in splits.values():
        yield from _accuracy_lines(tables, len(runs))
    yield from _pseudo_lines(runs)
    for run in runs:
        yield from _open_lines(run)


def _check_same_kind(runs: Sequence[Figures]) -> None:
    first = runs[0]
    for run in runs:
        if run["recipe"] != first["recipe"]:
            raise UserError(
                f"{run['run']}: its recipe is {run['recipe']}, that of {first['run']} is "
                f"{first['recipe']}: no mean of both"
            )
        if run["classes"] != first["classes"]:
            raise UserError(
                f"{run['run']}: its classes are not those of {first['run']}: no mean of both"
            )


def _accuracy_lines(tables: Sequence[Figures], num_runs: int) -> Iterator[str]:
    """Yield the lines of one split.

    Args:
        tables: figures of the split, one per run that has it.
        num_runs: number of all runs.
    """
    split = tables[0]["split"]
    metadata = _joint_metadata(tables)
    yield ""
    if not metadata["clips"]:
        yield f"{split}: its true classes are unknown (--truth {split}=CSV adds them)"
        return
    yield f"accuracy, %: {describe(metadata)}"
    records: list[Figures] = []
    for table in tables:
        for stage in table["stages"]:
            records += _stage_records(stage)
    # Votes come after the stages of all runs, also of runs that have more stages.
    for table in tables:
        for vote in table["votes"]:
            records.append(_record(vote["name"], "ensemble", vote))
    yield from _format_table(records, "stage", list(COLUMNS), num_runs, COLUMN_WIDTH)
    yield "best single: the model that is best on this split, which is only known from its labels"
    if any(record["column"] == "control" and record["percent"] is not None for record in records):
        yield (
            "control: as many optimiser steps without pseudo-labels, mean of models; "
            "same models: these models with pseudo-labels"
        )


def _joint_metadata(tables: Sequence[Figures]) -> Figures:
    """Return the metadata of one split over runs: all seeds, and label-free if all runs are."""
    metadata = dict(tables[0]["stamp"])
    seeds = set(metadata["seeds"])
    for table in tables:
        seeds.update(table["stamp"]["seeds"])
        if table["stamp"]["use"] != LABEL_FREE:
            metadata["use"] = ORACLE
    metadata["seeds"] = sorted(seeds)
    return metadata


def _record(row: str, column: str, figure: Mapping[str, Any] | float | None) -> Figures:
    """Return one cell of one run.

    Args:
        row: name.
        column: name.
        figure: percentage, number of clips, or a result of `measures.share`, whose interval is
            shown for one run.
    """
    record = {"row": row, "column": column, "percent": figure, "digits": 1, "interval": ""}
    if isinstance(figure, Mapping):
        record["percent"] = figure["percent"]
        record["interval"] = f" [{figure['low']:.1f}, {figure['high']:.1f}]"
    elif isinstance(figure, int):
        record["digits"] = 0
    return record


def _stage_records(stage: Figures) -> list[Figures]:
    records = []
    for column, key in COLUMNS.items():
        figure = stage[key] if key else None
        if column == "best single" and stage["best"]:
            figure = stage["models"][stage["best"]]["percent"]
        records.append(_record(stage["stage"], column, figure))
    return records


def _format_table(
    records: Sequence[Figures], corner: str, columns: Sequence[str], num_runs: int, width: int
) -> Iterator[str]:
    """Yield a heading and one line per row.

    Args:
        records: cells of single runs.
        corner: heading of the rows.
        columns: their order.
        num_runs: number of all runs.
        width: of a column.
    """
    frame = pd.DataFrame.from_records(records)
    cells = {}
    for place, group in frame.groupby(["row", "column"], sort=False):
        cells[place] = _format_cell(group, num_runs)
    # `reindex` because pandas sorts rows and columns.
    # Rows keep the order of their first cell; a row without a cell in a column has an empty one.
    table = pd.Series(cells).unstack(fill_value="").reindex(frame["row"].unique())
    table = table.reindex(columns=list(columns), fill_value="")
    name_width = max(map(len, table.index)) + 2
    yield f"{corner:<{name_width}}" + "".join(f"{column:>{width}}" for column in columns)
    for name, row in table.iterrows():
        yield f"{name:<{name_width}}" + "".join(f"{cell:>{width}}" for cell in row).rstrip()


def _format_cell(group: pd.DataFrame, num_runs: int) -> str:
    """Return `62.1` with its interval for one run, `62.1 ± 1.4` for several."""
    percents = group["percent"].dropna().tolist()
    if not percents:
        return NO_FIGURE
    if num_runs == 1:
        (digits,) = group["digits"]
        (interval,) = group["interval"]
        return f"{percents[0]:.{digits}f}{interval}"
    # Exact sums: the result does not depend on the order of the runs.
    text = f"{statistics.fmean(percents):.1f}"
    if len(percents) > 1:
        text += f" ± {statistics.stdev(percents):.1f}"
    if len(percents) < num_runs:
        text += f" ({len(percents)})"
    return text


def _pseudo_lines(runs: Sequence[Figures]) -> Iterator[str]:
    records = []
    uses = set()
    seeds: set[int] = set()
    split = ""
    for run in runs:
        for one in run["pseudo"]:
            split = split or one["split"]
            uses.add(one["labels"])
            seeds.update(one["seeds"])
            precision = one["precision"]
            # Without a known class there is no precision, and its interval would say nothing.
            shown = precision if precision["total"] else None
            values = (one["rows"], one["coverage"], shown, precision["total"])
            for column, value in zip(PSEUDO_COLUMNS, values, strict=True):
                records.append(_record(one["stage"], column, value))
    if not records:
        return
    yield ""
    yield (
        f"pseudo-labels of {split}, %: {' and '.join(sorted(uses))}, "
        f"seed {join_words(sorted(seeds))}; precision {HIDDEN}"
    )
    width = COLUMN_WIDTH + 2
    yield from _format_table(records, "round", PSEUDO_COLUMNS, len(runs), width)


def _open_lines(run: Figures) -> Iterator[str]:
    """Yield the number of tasks that are not done, and the notes of a run."""
    open_tasks = [task for task in run[TASKS] if task["status"] != DONE]
    if open_tasks:
        count = f"{len(open_tasks)} of {len(run[TASKS])}"
        yield f"\n{run['run']}: {count} tasks are not done, first {open_tasks[0]['name']}"
    for note in run["notes"]:
        yield f"{run['run']}: {note}"
