"""Find the people in videos and write where their joints are: one small file a video."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nightcrawler.cli.audit import default_jobs
from nightcrawler.utils.command_line import add_max_pixels, add_task, at_least, make_parser
from nightcrawler.utils.errors import UserError
from nightcrawler.utils.registries import ESTIMATORS

if TYPE_CHECKING:
    from nightcrawler.prepare.pose_files import PoseRecipe, PoseRow

EXIT_FAILED_VIDEOS = 3
MAX_SHOWN = 5
EXAMPLES = """\
  {command} extract data/Test poses/test
  {command} extract data/test.csv poses/test --jobs 8 --light gamma --gamma 0.4
  {command} extract clips poses --estimator onnx --model rtmpose-m.onnx

OUT holds NAME.pose.npz for each video, and poses.csv: a row a video with its status, and the
reason where one failed. The same command continues where it was stopped: videos whose pose file is
there, of the same content, estimator, release and options, are not looked at again.

exit codes: 0 success, 2 an error that the last line names, 3 some videos failed"""


def parse(argv: Sequence[str]) -> Any:
    """Parse the command line."""
    parser = make_parser(__doc__ or "", EXAMPLES)
    tasks = parser.add_subparsers(dest="task", required=True, metavar="extract")
    extract = add_task(tasks, "extract", "write the poses of a folder or list", EXAMPLES)
    extract.add_argument(
        "given", type=Path, metavar="FOLDER|LIST.csv", help="videos, or a list of path,label rows"
    )
    extract.add_argument("out", type=Path, metavar="OUT", help="folder of the pose files")
    _add_estimator_options(extract)
    _add_run_options(extract)
    add_max_pixels(extract, "4096 x 4096")
    return parser.parse_args(argv)


def _add_estimator_options(extract: argparse.ArgumentParser) -> None:
    """Add the options that poses depend on."""
    extract.add_argument(
        "--estimator",
        default="mediapipe",
        metavar="NAME",
        help=f"{', '.join(ESTIMATORS.names())} or one of your own (default mediapipe)",
    )
    extract.add_argument(
        "--model",
        metavar="FILE",
        help="model of the estimator (default: the one that it brings, if any)",
    )
    extract.add_argument(
        "--light",
        default="auto_gamma",
        metavar="NAME",
        help="enhancement before the estimator (default auto_gamma)",
    )
    extract.add_argument(
        "--denoise-frames",
        type=int,
        metavar="N",
        help="average frames first, where they agree: an odd number, 1 for none (default 3)",
    )
    extract.add_argument("--gamma", type=float, metavar="G", help="exponent of gamma (default 0.4)")
    extract.add_argument(
        "--target-mean",
        type=float,
        metavar="LEVEL",
        help="mean brightness that auto_gamma aims at, 0 to 255 (default 64)",
    )
    extract.add_argument(
        "--fps",
        type=float,
        default=15.0,
        metavar="N",
        help="frames per second looked at at most (default 15)",
    )
    extract.add_argument(
        "--people",
        type=at_least(1),
        default=2,
        metavar="N",
        help="most people kept, by estimators that see several (default 2)",
    )
    extract.add_argument(
        "--no-crops",
        action="store_true",
        help="do not look for a small person in crops where the whole picture shows too little",
    )
    extract.add_argument(
        "--imports",
        nargs="+",
        default=[],
        metavar="MODULE",
        help="modules that register estimators or enhancements of your own",
    )


def _add_run_options(extract: argparse.ArgumentParser) -> None:
    """Add the options of processes."""
    jobs = default_jobs()
    extract.add_argument(
        "--jobs", type=at_least(1), default=jobs, metavar="N", help=f"processes (default {jobs})"
    )
    extract.add_argument(
        "--timeout",
        type=at_least(1),
        default=120,
        metavar="SEC",
        help="give a video up that does not go on for so long (default 120)",
    )


def main(argv: Sequence[str]) -> int:
    """Make the pose files that are missing, write the table, and print the failures."""
    arguments = parse(argv)
    from nightcrawler.data.skeleton.track import LEAST_FPS

    if not arguments.fps >= LEAST_FPS:
        raise UserError(f"--fps {arguments.fps:g}: expected {LEAST_FPS:g} or more")
    from nightcrawler.prepare.pose_files import (
        FAILED,
        TABLE_HEADER,
        TABLE_NAME,
        PoseFiles,
        write_table,
    )
    from nightcrawler.prepare.sources import ANY_LABEL, read_videos
    from nightcrawler.utils.outputs import check_targets, refuse_other_file
    from nightcrawler.utils.progress import progress

    given = arguments.given
    out = arguments.out
    # A folder of poses among the videos would be read as videos the next time.
    if given.is_dir() and out.resolve().is_relative_to(given.resolve()):
        raise UserError(f"{out}: is inside {given}; give a folder outside of it")
    table = out / TABLE_NAME
    check_targets([table], folders=[out], sources=[given])
    refuse_other_file(table, ",".join(TABLE_HEADER), "pose extract")
    items = read_videos(given, ANY_LABEL)
    recipe = build_recipe(arguments)
    rows = {}
    with PoseFiles(out, recipe, arguments.jobs, arguments.timeout) as files:
        for item in items:
            row = files.made(item)
            if row is not None:
                rows[item.name] = row
        todo = [item for item in items if item.name not in rows]
        if rows:
            print(f"{len(rows)} videos have their poses")
        try:
            for row in progress(files.make(todo), len(todo), "poses"):
                rows[row.path] = row
        finally:
            table = write_table(out, [rows[item.name] for item in items if item.name in rows])
    failed = [row for row in rows.values() if row.status == FAILED]
    print_findings(list(rows.values()), failed)
    print(table)
    return EXIT_FAILED_VIDEOS if failed else 0


def build_recipe(arguments: Any) -> PoseRecipe:
    """Return how poses are made.

    Args:
        arguments: Of the command line.

    Raises:
        UserError: If a value is out of range, or a name is unknown.
    """
    from nightcrawler.cli.show import build_settings, unread_option_fault
    from nightcrawler.data.video.integrity.limits import limits_of_pixels
    from nightcrawler.pose.estimators.base import EstimatorOptions
    from nightcrawler.prepare.extract_poses import ExtractionOptions
    from nightcrawler.prepare.pose_files import LIGHT_DEFAULTS, PoseRecipe

    unread = unread_option_fault(arguments, [arguments.light], "give --light {}")
    if unread:
        raise UserError(unread)
    if arguments.light == "none" and arguments.denoise_frames is not None:
        raise UserError("--denoise-frames goes with an enhancement: give --light another than none")
    params, window = build_settings(arguments, LIGHT_DEFAULTS)
    return PoseRecipe(
        estimator=arguments.estimator,
        model=EstimatorOptions(arguments.model or "", arguments.people),
        light=arguments.light,
        light_params=params,
        denoise_frames=window,
        looking=ExtractionOptions(
            arguments.fps,
            arguments.people,
            not arguments.no_crops,
            limits_of_pixels(arguments.max_pixels),
        ),
        imports=tuple(arguments.imports),
    )


def print_findings(rows: Sequence[PoseRow], failed: Sequence[PoseRow]) -> None:
    """Print in how many videos and frames people were seen, and the first that failed."""
    frames = sum(row.frames for row in rows)
    seen = sum(row.seen for row in rows)
    share = f", in {100 * seen / frames:.1f} % of {frames} frames" if frames else ""
    print(f"{sum(row.seen > 0 for row in rows)} of {len(rows)} videos show a person{share}")
    if failed:
        print(f"{len(failed)} failed:")
    for row in failed[:MAX_SHOWN]:
        print(f"  {row.path}: {row.reason}")
    if len(failed) > MAX_SHOWN:
        print(f"  and {len(failed) - MAX_SHOWN} more")
