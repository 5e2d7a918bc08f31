"""A run of the chain as one page of HTML that needs nothing else, and its figures as JSON beside it."""

from __future__ import annotations

import functools
import itertools
import json
from collections.abc import Mapping
from importlib import resources
from pathlib import Path
from typing import Any

import jinja2
from markupsafe import Markup

from nightcrawler.pseudo.results_files import LABEL_FREE, ORACLE
from nightcrawler.report import plots as pictures
from nightcrawler.report.clips import measure_brightness, thumbnails
from nightcrawler.report.figures import collect, unfinished
from nightcrawler.report.run_folder import RunFolder
from nightcrawler.report.table import HIDDEN, describe
from nightcrawler.utils.errors import UserError
from nightcrawler.utils.io import atomic_write
from nightcrawler.utils.progress import format_seconds

KEYS = ("recipe", "run", "classes", "chance", "splits", "pseudo", "links", "notes")
# Keys of a configuration that name places, which differ between experiments by their nature.
PLACES = ("OUTPUT_DIR", "TRAIN.CHECKPOINT_FILE_PATH", "DATA.PSEUDO_CSV")


def read_figures(path: Path, root: Path, truth: Mapping[str, Path]) -> dict[str, Any]:
    """The figures of a run, without brightness: of its folder, or of a `report.json`.

    Raises:
        UserError: if it is neither, or a file is bad.
    """
    if not path.is_file():
        return collect(RunFolder(path, root, truth))
    try:
        figures = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise UserError(f"{path}: cannot be read ({error})") from None
    if not isinstance(figures, dict) or any(key not in figures for key in KEYS):
        raise UserError(f"{path}: no figures of a run; expected the report.json of tools/report.py")
    return figures


def write_report(folder: Path, root: Path, truth: Mapping[str, Path], page: Path) -> dict[str, Any]:
    """Write the page, and beside it the figures under the same name with `.json`; returns the figures.

    Args:
        folder: of the run.
        root: the project.
        truth: split to a file of true classes.
        page: the file to write.

    Raises:
        UserError: if a file of the run is bad.
    """
    run = RunFolder(folder, root, truth)
    figures = collect(run, functools.partial(measure_brightness, run))
    text = build_page(run, figures)
    for path, content in (
        (page.with_suffix(".json"), json.dumps(figures, indent=1) + "\n"),
        (page, text),
    ):
        with atomic_write(path, "w") as file:
            file.write(content)
    return figures


def build_page(run: RunFolder, figures: dict[str, Any]) -> str:
    """The page of a run.

    Args:
        run: for pictures of its clips, its learning curves and configurations.
        figures: of `collect`.
    """
    environment = jinja2.Environment(
        autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    environment.filters |= {"stamp": describe, "seconds": format_seconds, "breakable": breakable}
    template = environment.from_string(
        resources.files(__package__).joinpath("report.html").read_text(encoding="utf-8")
    )
    focus = figures["focus"]
    numbers = itertools.count(1)

    def inline(picture: str) -> Markup:
        return Markup(pictures.with_ids(picture, f"p{next(numbers)}-"))

    shots = thumbnails(run, focus["split"], focus["mistakes"], focus["lighting"]) if focus else []
    return template.render(
        **figures,
        open_links=unfinished(figures),
        pictures={name: inline(draw(figures)) for name, draw in pictures.OF_FIGURES.items()},
        curves={
            split["split"]: inline(pictures.accuracy(figures, split)) for split in figures["splits"]
        },
        matrices=[
            (matrix, inline(pictures.confusion(matrix["counts"], figures["classes"])))
            for matrix in (focus["matrices"] if focus else [])
        ],
        learning=[
            (stage, inline(pictures.learning(rows, figures["models"])), learning_stamp(run, rows))
            for stage, rows in learning(run).items()
        ],
        shots=list(zip(focus["mistakes"], shots, strict=True)) if focus else [],
        headline=headline(figures),
        agreed=agreement_rows(figures),
        best_splits=sorted(
            {str(values.get("TRAIN.BEST_SPLIT")) for values in run.configs.values()}
        ),
        config=configuration(run),
        took=time_by_stage(figures),
        total_seconds=sum(link["seconds"] or 0.0 for link in figures["links"]),
    )


def breakable(name: str) -> Markup:
    """A name that may be broken after its underscores."""
    return Markup("_<wbr>").join(name.split("_"))


def learning_stamp(run: RunFolder, rows_of: Mapping[str, list[dict[str, Any]]]) -> tuple[str, str]:
    """Label use of validation in a stage's trainings, and splits, clips and seeds in words."""
    rows = [
        row
        for rows in rows_of.values()
        for row in rows
        if row.get("kind") == "val" and "split" in row
    ]
    clips = {str(row["split"]): row.get("num_videos", "?") for row in rows}
    seeds = sorted({str(row.get("seed", "unknown")) for row in rows})
    words = [
        *(f"split {split}, {count} clips" for split, count in clips.items()),
        f"seed {', '.join(seeds)}",
    ]
    use = ORACLE if not rows or any(row.get("labels") != LABEL_FREE for row in rows) else LABEL_FREE
    if use == LABEL_FREE and any(run.kind(split) == "dark" for split in clips):
        words.append(HIDDEN)
    return use, ", ".join(words)


def headline(figures: dict[str, Any]) -> list[tuple[str, str, str]]:
    """What matters most, as title, value and what stands below: accuracy on the split in focus, pseudo-labels."""
    found = []
    here = [
        split
        for split in figures["splits"]
        if figures["focus"] and split["split"] == figures["focus"]["split"]
    ]
    for split in here:
        where = f"on {split['split']}, {split['stamp']['clips']} clips"
        whole = [stage for stage in split["stages"] if stage["ensemble"]]
        for stage in dict.fromkeys((0, len(whole) - 1)) if whole else ():
            one = whole[stage]["ensemble"]
            found.append((f"ensemble, {whole[stage]['stage']}", _percent(one), where))
        for vote in (one for one in split["votes"][-1:] if one["percent"] is not None):
            found.append(("vote", _percent(vote), where))
    for one in figures["pseudo"][-1:]:
        under = f"of {one['videos']} clips, {one['stage']}"
        found.append(
            (
                "pseudo-labels",
                f"{one['coverage']:.1f} %" if one["coverage"] is not None else str(one["rows"]),
                under,
            )
        )
        if one["precision"]["total"]:
            found.append(
                (
                    "their precision",
                    _percent(one["precision"]),
                    f"of {one['precision']['total']} known",
                )
            )
    return found


def _percent(one: Mapping[str, Any]) -> str:
    return f"{one['percent']:.1f} %"


def agreement_rows(figures: dict[str, Any]) -> dict[str, dict[str, float]]:
    """Split to stage to the mean agreement of its models, where there are several."""
    rows = {
        split["split"]: {
            stage["stage"]: stage["mean_agreement"]
            for stage in split["stages"]
            if stage["mean_agreement"] is not None
        }
        for split in figures["splits"]
    }
    return {split: stages for split, stages in rows.items() if stages}


def learning(run: RunFolder) -> dict[str, dict[str, list[dict[str, Any]]]]:
    """Stage to model (`model, control` of a control) to rows of its metrics, of trainings that have any."""
    found: dict[str, dict[str, list[dict[str, Any]]]] = {}
    for link in run.links("train"):
        rows = run.metrics(link)
        if rows:
            name = link["model"] + (", control" if link["control"] else "")
            found.setdefault(link["stage"], {})[name] = rows
    return found


def configuration(run: RunFolder) -> dict[str, Any]:
    """What all experiments share, and what is each one's own: keys to values as text."""
    configs = {
        name: {key: repr(value) for key, value in values.items()}
        for name, values in run.configs.items()
    }
    if not configs:
        return {"shared": {}, "own": {}}
    first, *others = configs.values()
    shared = {
        key: value
        for key, value in first.items()
        if all(other.get(key) == value for other in others)
    }
    own = {
        name: {
            key: value for key, value in values.items() if key not in shared and key not in PLACES
        }
        for name, values in configs.items()
    }
    return {"shared": shared, "own": own}


def time_by_stage(figures: dict[str, Any]) -> dict[str, dict[str, float]]:
    """Stage to kind of link to seconds; what is of no stage is `the whole`."""
    found: dict[str, dict[str, float]] = {}
    for link in figures["links"]:
        if link["seconds"]:
            kinds = found.setdefault(link["stage"] or "the whole", {})
            kinds[link["kind"]] = kinds.get(link["kind"], 0.0) + link["seconds"]
    return found
