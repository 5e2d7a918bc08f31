"""Options that choose the outputs of a prediction, and the faults that they may have."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from nightcrawler.cli.predict_ray import add_ray_option

if TYPE_CHECKING:
    from nightcrawler.predict.command import Outputs

# Every class of a row has three columns of a table.
MAX_TOP = 1000
DEFAULT_TOP = 5


def add_output_options(parser: argparse.ArgumentParser) -> None:
    """Add options that choose the outputs."""
    outputs = parser.add_argument_group("output")
    outputs.add_argument(
        "--top", type=int, metavar="N", help=f"classes per video (default {DEFAULT_TOP})"
    )
    outputs.add_argument(
        "--reject",
        action="store_true",
        help="print 'nothing known' for each answer that is not sure",
    )
    outputs.add_argument("--csv", type=Path, metavar="FILE", help="one row per video")
    outputs.add_argument("--json", type=Path, metavar="FILE", help="all results and their models")
    outputs.add_argument(
        "--jsonl",
        type=Path,
        metavar="FILE",
        help="append one line per video; --watch skips videos in it",
    )
    outputs.add_argument("--timeline", type=Path, metavar="CSV", help="one row per segment")
    outputs.add_argument(
        "--annotate",
        type=Path,
        metavar="DIR",
        help="write enhanced copies with labels and bars",
    )
    outputs.add_argument("--out", type=Path, metavar="DIR", help="write parts, to be merged")
    outputs.add_argument(
        "--shard",
        metavar="i/N|env",
        help="this is worker i of N, which share the list (needs --out)",
    )
    add_ray_option(outputs)


def find_output_fault(arguments: argparse.Namespace) -> str:
    """Return the first fault in the outputs, empty where there is none."""
    # These files are written after the last video, which a watch or a camera never reaches.
    written_last = arguments.csv or arguments.json or arguments.timeline
    endless = ""
    if arguments.watch:
        endless = "--watch"
    elif arguments.is_live:
        endless = "a live source"
    if arguments.top is not None and not 1 <= arguments.top <= MAX_TOP:
        return f"--top {arguments.top}: expected 1 to {MAX_TOP}"
    if arguments.shard is not None and arguments.out is None:
        return "--shard needs --out"
    if endless and written_last:
        return f"{endless} never ends: use --jsonl instead of --csv, --json and --timeline"
    if endless and arguments.out:
        return f"{endless} does not go with --out"
    if arguments.out and (written_last or arguments.jsonl):
        return "--out writes parts: merge them for other files"
    for option in ("reject", "top"):
        if arguments.out and getattr(arguments, option):
            return f"--{option} does not go with --out: give it to merge"
    if arguments.annotate and (arguments.is_live or arguments.out):
        return "--annotate does not go with live sources or --out"
    return adaptation_fault(arguments, is_endless=bool(endless))


def adaptation_fault(arguments: argparse.Namespace, is_endless: bool) -> str:
    """Return why the outputs do not go with `--adapt`, empty where they do."""
    is_whole = arguments.whole or (arguments.out and arguments.window_sec is None)
    if arguments.adapt == "online" and is_whole:
        return "--adapt online follows windows: it needs --window-sec with --out, and no --whole"
    if arguments.adapt in ("batchnorm", "tent", "infomax") and (is_endless or arguments.out):
        return (
            f"--adapt needs all videos at once: {arguments.adapt} does not go with --watch, live "
            "sources or --out"
        )
    return ""


def choose_outputs(arguments: argparse.Namespace) -> Outputs:
    """Return the files to write."""
    from nightcrawler.predict.command import Outputs

    return Outputs(
        top=arguments.top or DEFAULT_TOP,
        reject=arguments.reject,
        csv=arguments.csv,
        json=arguments.json,
        jsonl=arguments.jsonl,
        timeline=arguments.timeline,
        annotate=arguments.annotate,
    )


def answers_file(arguments: argparse.Namespace) -> Path | None:
    """Return the file of the answers so far, None where none is kept."""
    from nightcrawler.predict.command import partial_file

    if arguments.watch or arguments.is_live:
        return None
    return partial_file(choose_outputs(arguments))


def output_files(arguments: argparse.Namespace) -> list[Path | None]:
    """Return the files that a prediction writes."""
    return [
        arguments.csv,
        arguments.json,
        arguments.jsonl,
        arguments.timeline,
        answers_file(arguments),
    ]


def check_outputs(arguments: argparse.Namespace) -> None:
    """Refuse outputs that cannot or must not be written, before the models are loaded.

    Raises:
        UserError: naming the output.
    """
    from nightcrawler.predict.rows_so_far import refuse_other_rows
    from nightcrawler.utils.outputs import check_targets

    files = [source for source in arguments.sources if Path(source).is_file()]
    models = [*arguments.experiment, arguments.ensemble]
    folders = (arguments.annotate, arguments.out)
    check_targets(output_files(arguments), folders, [*files, *models])
    answers = answers_file(arguments)
    if answers is not None:
        refuse_other_rows(answers)
