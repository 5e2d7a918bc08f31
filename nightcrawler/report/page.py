"""HTML page of a run without external files, and its figures as JSON beside it."""

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

from nightcrawler.config.portable import PLACES as MACHINE_PLACES
from nightcrawler.config.portable import portable_values
from nightcrawler.pseudo.results_metadata import LABEL_FREE, ORACLE
from nightcrawler.report import plots
from nightcrawler.report.clips import measure_brightness, thumbnails
from nightcrawler.report.figures import collect, unfinished_tasks
from nightcrawler.report.focus import KINDS
from nightcrawler.report.metadata import HIDDEN, describe_data, join_words, without_folder
from nightcrawler.report.plot_style import with_ids
from nightcrawler.report.run_files import page_commands, training_rows
from nightcrawler.report.run_folder import TASKS, RunFolder
from nightcrawler.report.titles import stage_titles, with_titles
from nightcrawler.utils.errors import UserError
from nightcrawler.utils.io import atomic_write
from nightcrawler.utils.outputs import refuse_other_file
from nightcrawler.utils.progress import format_seconds

# Keys by which a report.json is recognised.
KEYS = ("recipe", "run", "classes", "chance", "splits", "pseudo", TASKS, "notes")
# Config keys that name places, which differ between all experiments.
PLACES = ("OUTPUT_DIR", "TRAIN.CHECKPOINT_FILE_PATH", "DATA.PSEUDO_CSV")
NO_STAGE = "whole run"


def read_figures(path: Path, root: Path, truth: Mapping[str, Path]) -> dict[str, Any]:
    """Return the figures of a run, without brightness.

    Args:
        path: folder of a run, or a `report.json`.
        root: folder of the project.
        truth: split to a file of true classes, for the folder of a run.

    Raises:
        UserError: if `path` is neither, or a file is damaged.
    """
    if not path.is_file():
        return collect(RunFolder(path, root, truth))
    try:
        figures = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise UserError(f"{path}: cannot be read ({error})") from None
    if not isinstance(figures, dict) or not set(KEYS) <= figures.keys():
        raise UserError(f"{path}: no figures of a run; expected the report.json of tools/report.py")
    return figures


def write_report(folder: Path, root: Path, truth: Mapping[str, Path], page: Path) -> dict[str, Any]:
    """Write the page of a run, and its figures under the same name with the suffix `.json`.

    Args:
        folder: of the run.
        root: folder of the project.
        truth: split to a file of true classes.
        page: the file to write.

    Returns:
        The figures.

    Raises:
        UserError: if a file of the run is damaged, or either file was not written by a report.

    Example:
        >>> write_report(Path("demo/run"), Path.cwd(), {}, Path("report.html"))["chance"]
    """
    figures_file = page.with_suffix(".json")
    refuse_other_file(page, ": report</title>", "a report")
    refuse_other_file(figures_file, '{\n "version":', "a report")
    run = RunFolder(folder, root, truth)
    figures = collect(run, functools.partial(measure_brightness, run))
    # Built before anything is written, so that an error leaves both files as they are.
    html = build_page(run, figures, page)
    with atomic_write(figures_file, "w") as file:
        file.write(json.dumps(figures, indent=1) + "\n")
    with atomic_write(page, "w") as file:
        file.write(html)
    return figures


def build_page(run: RunFolder, figures: dict[str, Any], page: Path) -> str:
    """Return the HTML page of a run.

    Args:
        run: the folder, for pictures of its clips, learning curves and configurations.
        figures: of `collect`.
        page: file of the page, to which links to files of the run are relative.
    """
    titles = stage_titles(run.stages)
    # People read titles of stages; programs find their folders' names in the JSON file.
    figures = with_titles(figures, titles)
    figures["splits"] = sorted(figures["splits"], key=functools.partial(_order, figures["focus"]))
    return _template().render(
        **figures,
        **_draw(run, figures, titles),
        recipe_name=without_folder(figures["recipe"]),
        tasks=figures[TASKS],
        open_tasks=unfinished_tasks(figures),
        titles={title: name for name, title in titles.items() if title != name},
        headline=headline(figures),
        agreed=agreement_rows(figures),
        best_splits=sorted({str(one.get("TRAIN.BEST_SPLIT")) for one in run.configs.values()}),
        config=compare_configs(run),
        commands=page_commands(run),
        trainings=with_titles(training_rows(run, page), titles),
        took=time_by_stage(figures),
        total_seconds=sum(task["seconds"] or 0.0 for task in figures[TASKS]),
        hidden=HIDDEN,
    )


def _order(focus: Mapping[str, Any] | None, split: Mapping[str, Any]) -> tuple[bool, int]:
    """Return the place of a split on the page: the one in focus, then dark ones first."""
    is_other = not focus or split["split"] != focus["split"]
    return is_other, -KINDS.index(split["kind"])


def _draw(run: RunFolder, figures: dict[str, Any], titles: Mapping[str, str]) -> dict[str, Any]:
    """Return plots of figures, and pictures of clips."""
    focus = figures["focus"]
    numbers = itertools.count(1)

    def inline(picture: str) -> Markup:
        """Prepare a plot for the page."""
        # Each plot numbers its ids from one, and ids of a page must be unique.
        # matplotlib escapes the text of a plot, such as names of classes.
        return Markup(with_ids(picture, f"p{next(numbers)}-"))  # noqa: S704

    pictures = {name: inline(draw(figures)) for name, draw in plots.OF_FIGURES.items()}
    curves = {}
    for split in figures["splits"]:
        curves[split["split"]] = inline(plots.accuracy(figures, split))
    matrices = []
    clips: list[Any] = []
    if focus:
        for matrix in focus["matrices"]:
            picture = plots.confusion(matrix["counts"], figures["classes"])
            matrices.append((matrix, inline(picture)))
        shown = thumbnails(run, focus["split"], focus["mistakes"], focus["lighting"])
        clips = list(zip(focus["mistakes"], shown, strict=True))
    stills: list[Any] = []
    unsure = figures["unsure"]
    if unsure:
        shown = thumbnails(run, unsure["split"], unsure["rows"], focus["lighting"] if focus else {})
        stills = list(zip(unsure["rows"], shown, strict=True))
    learning_curves = []
    for stage, rows in read_learning(run).items():
        picture = inline(plots.learning(rows, figures["models"]))
        learning_curves.append((titles.get(stage, stage), picture, learning_metadata(run, rows)))
    return {
        "pictures": pictures,
        "curves": curves,
        "matrices": matrices,
        "clips": clips,
        "stills": stills,
        "learning": learning_curves,
    }


def _template() -> jinja2.Template:
    # Names of classes and clips come from the user's data: autoescape keeps them from being markup.
    environment = jinja2.Environment(
        autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    environment.filters |= {
        "describe_data": describe_data,
        "join_words": join_words,
        "seconds": format_seconds,
        "breakable": breakable,
    }
    text = resources.files(__package__).joinpath("report.html").read_text(encoding="utf-8")
    return environment.from_string(text)


def breakable(name: str) -> Markup:
    """Return a name with a possible line break after each underscore, for narrow screens."""
    # Markup escapes the parts that it joins.
    return Markup("_<wbr>").join(name.split("_"))


def learning_metadata(
    run: RunFolder, rows_of: Mapping[str, list[dict[str, Any]]]
) -> tuple[str, str]:
    """Return the label use of a stage's validations, and their splits, clips and seeds in words.

    Args:
        run: of the chain.
        rows_of: training to rows of its `metrics.jsonl`.
    """
    rows = []
    for training in rows_of.values():
        for row in training:
            if row.get("kind") == "val" and "split" in row:
                rows.append(row)
    # Validations of one training can be on several splits.
    clips = {}
    seeds = set()
    # Rows that do not tell their label use are not taken for label-free.
    use = LABEL_FREE if rows else ORACLE
    for row in rows:
        clips[str(row["split"])] = row.get("num_videos", "?")
        seeds.add(str(row.get("seed", "unknown")))
        if row.get("labels") != LABEL_FREE:
            use = ORACLE
    words = [f"split {split}, {count} clips" for split, count in clips.items()]
    words.append(f"seed {', '.join(sorted(seeds))}")
    if use == LABEL_FREE and any(run.split_kind(split) == "dark" for split in clips):
        words.append(HIDDEN)
    return use, ", ".join(words)


def headline(figures: Mapping[str, Any]) -> list[tuple[str, str, str]]:
    """Return the main figures as title, value and subtitle.

    They are the accuracy of the first and the last step, the gain over the control, and the last
    round's pseudo-labels.

    Args:
        figures: of `collect`.
    """
    facts = []
    story = figures["story"]
    if story:
        where = f"on {story['split']}, {story['stamp']['clips']} clips"
        # The first and the last step show the gain of the method.
        for step in dict.fromkeys((0, len(story["steps"]) - 1)):
            one = story["steps"][step]
            facts.append((one["name"], f"{one['accuracy']['percent']:.1f} %", where))
        if story["gain"]:
            gain = f"{story['gain']['gain']:+.1f} points"
            facts.append(("gain over the control", gain, f"by pseudo-labels, on {story['split']}"))
    if figures["pseudo"]:
        last = figures["pseudo"][-1]
        covered = str(last["rows"])
        if last["coverage"] is not None:
            covered = f"{last['coverage']:.1f} %"
        facts.append(("pseudo-labels", covered, f"of {last['videos']} clips, {last['stage']}"))
        precision = last["precision"]
        if precision["total"]:
            subtitle = f"of {precision['total']} known"
            facts.append(("their precision", f"{precision['percent']:.1f} %", subtitle))
    return facts


def agreement_rows(figures: Mapping[str, Any]) -> dict[str, dict[str, float]]:
    """Return split to stage to the mean agreement of its models, for stages with several.

    Args:
        figures: of `collect`.
    """
    rows: dict[str, dict[str, float]] = {}
    for split in figures["splits"]:
        for stage in split["stages"]:
            if stage["mean_agreement"] is not None:
                stages = rows.setdefault(split["split"], {})
                stages[stage["stage"]] = stage["mean_agreement"]
    return rows


def read_learning(run: RunFolder) -> dict[str, dict[str, list[dict[str, Any]]]]:
    """Return stage to model to rows of its metrics, for trainings that have any.

    A control is named `model, control`.

    Args:
        run: of the chain.
    """
    found: dict[str, dict[str, list[dict[str, Any]]]] = {}
    for task in run.tasks("train"):
        rows = run.metrics(task)
        if rows:
            name = task["model"]
            if task["control"]:
                name += ", control"
            found.setdefault(task["stage"], {})[name] = rows
    return found


def compare_configs(run: RunFolder) -> dict[str, Any]:
    """Return the config keys that all experiments share, and each experiment's own ones.

    Args:
        run: of the chain.

    Returns:
        `shared`: key to value as text, and `own`: experiment to key to value as text.
    """
    shared: dict[str, str] = {}
    own: dict[str, dict[str, str]] = {}
    # The page may be passed on, and says nothing of folders of this machine.
    configs = {name: portable_values(values) for name, values in run.configs.items()}
    for name, values in configs.items():
        own[name] = {}
        for key, value in values.items():
            if key in MACHINE_PLACES:
                continue
            text = repr(value)
            # Compared as text: 1 and 1.0 are different settings to a reader.
            if all(key in other and repr(other[key]) == text for other in configs.values()):
                shared[key] = text
            elif key not in PLACES:
                own[name][key] = text
    return {"shared": shared, "own": own}


def time_by_stage(figures: Mapping[str, Any]) -> dict[str, dict[str, float]]:
    """Return stage to kind of task to seconds.

    Tasks without a stage are under `whole run`.

    Args:
        figures: of `collect`.
    """
    found: dict[str, dict[str, float]] = {}
    for task in figures[TASKS]:
        if task["seconds"]:
            kinds = found.setdefault(task["stage"] or NO_STAGE, {})
            kinds[task["kind"]] = kinds.get(task["kind"], 0.0) + task["seconds"]
    return found
