"""Predict actions in videos: files, folders, lists, long recordings, cameras.

Configuration, classes and enhancement come from the checkpoints, so that videos are
predicted as the models were tested.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from nightcrawler.cli.model_options import ensemble_fault
from nightcrawler.cli.predict_events import add_event_options, build_events, event_fault
from nightcrawler.cli.predict_models import (
    adapt_models,
    add_model_options,
    build_models,
    labels_fault,
)
from nightcrawler.cli.predict_outputs import (
    DEFAULT_TOP,
    MAX_TOP,
    add_output_options,
    check_outputs,
    choose_outputs,
    find_output_fault,
    output_files,
)
from nightcrawler.cli.predict_ray import predict_by_ray, ray_fault
from nightcrawler.config.schema.model import MAX_VIEWS
from nightcrawler.utils.collector import collector_paused
from nightcrawler.utils.command_line import escape_controls, make_parser
from nightcrawler.utils.errors import UserError, VideoError, mask_credentials
from nightcrawler.utils.progress import print_above_bar

if TYPE_CHECKING:
    from nightcrawler.data.lists import VideoItem
    from nightcrawler.predict.command import ResultWriter
    from nightcrawler.predict.items import Windows

EXIT_BAD_VIDEOS = 3
MAX_WORKERS = 1024
LIVE_WINDOW_SEC = 3.0
EXAMPLES = """\
  {command} clip.mp4
  {command} a.mp4 b.mp4 garden/ *.avi
  {command} clip.mp4 --experiment exp_adapt_bn/uniformer_b32_k600
  {command} clip.mp4 --model torchvision/mvit_v2_s      (400 classes of Kinetics)
  {command} clip.mp4 --labels 'falls,walks,climbs a fence'
  {command} clips/ --model torchvision/r2plus1d_18 --adapt batchnorm
  {command} clips/ --experiment a/best.pyth --experiment b.safetensors --csv out.csv
  {command} data/test.csv --ensemble configs/vote/default.yaml --mode 1 --csv out.csv
  {command} clips/ --ensemble configs/pseudo/default.yaml --prefix exp_adapt_bn
  {command} night.mp4 --experiment a --window-sec 4 --timeline t.csv --annotate shown/
  {command} --watch incoming/ --experiment a --jsonl found.jsonl
  {command} rtsp://camera/stream --experiment a --window-sec 3 --stride-sec 1 --adapt online
  {command} rtsp://camera/stream --events --event-class Fall --mqtt mqtt://broker/garden
very large sets, by any number of processes (the same command continues after a stop):
  {command} data/test.csv --experiment a --out runs/p --shard 0/3      (and 1/3, 2/3)
  torchrun --nproc-per-node 8 -m nightcrawler predict LIST --experiment a --out runs/p --shard env
  sbatch --array 0-63 --wrap '{command} LIST --experiment a --out runs/p --shard env'
  {command} merge --out runs/p data/test.csv

--shard env reads RANK and WORLD_SIZE (torchrun), SLURM_ARRAY_TASK_ID and _COUNT, or SLURM_PROCID
and SLURM_NTASKS. Another number of shards may continue a run. Each process uses the GPU of its
LOCAL_RANK. OMP_NUM_THREADS limits the threads of each process.

exit codes: 0 done (a shard: all its parts are written), 2 an error, named in one line, 3 some
videos could not be read, or not whole (their rows give the reason), or an annotated copy could not
be written (a line gives the reason)"""


def add_window_options(parser: argparse.ArgumentParser) -> None:
    """Add options for long and live videos."""
    windows = parser.add_argument_group("long and live videos")
    windows.add_argument(
        "--window-sec",
        type=float,
        metavar="S",
        help="length of sliding windows over every video (default: 4 s over those of more than "
        f"12 s; live: {LIVE_WINDOW_SEC:g} s)",
    )
    windows.add_argument(
        "--stride-sec", type=float, metavar="S", help="time between windows (default: half of one)"
    )
    windows.add_argument(
        "--whole",
        action="store_true",
        help="one prediction of each video, however long",
    )
    windows.add_argument("--live", action="store_true", help="play a file as a camera would")
    windows.add_argument(
        "--watch",
        type=Path,
        metavar="FOLDER",
        help="predict files as they appear, until Ctrl-C",
    )


def parse(argv: Sequence[str]) -> argparse.Namespace:
    """Return the checked options of a prediction."""
    parser = make_parser(__doc__ or "", EXAMPLES)
    parser.add_argument(
        "sources",
        nargs="*",
        # An empty one is refused by `find_source_fault`, with what else to give.
        type=str,
        metavar="VIDEO|FOLDER|LIST|URL",
        help="one or several; list: .csv (path,label) or .txt",
    )
    add_model_options(parser)
    add_window_options(parser)
    add_output_options(parser)
    add_event_options(parser)
    arguments = parser.parse_args(argv)
    # Imports PyAV, for which `--help` must not wait.
    from nightcrawler.data.video.reader import is_live

    arguments.is_live = arguments.live or any(map(is_live, arguments.sources))
    fault = find_fault(arguments) or find_output_fault(arguments)
    fault = fault or event_fault(arguments) or ray_fault(arguments)
    if fault:
        parser.error(mask_credentials(fault))
    return arguments


def find_fault(arguments: argparse.Namespace) -> str:
    """Return the first fault in the sources, models and windows, empty where there is none."""
    fault = find_source_fault(arguments) or ensemble_fault(arguments) or labels_fault(arguments)
    if fault:
        return fault
    if arguments.views is not None and not 1 <= arguments.views <= MAX_VIEWS:
        return f"--views {arguments.views}: expected 1 to {MAX_VIEWS}"
    if (arguments.views is None) != (arguments.crops is None):
        return "--views and --crops go together"
    if not 0 <= arguments.workers <= MAX_WORKERS:
        return f"--workers {arguments.workers}: expected 0 to {MAX_WORKERS}"
    if arguments.stride_sec is not None and arguments.window_sec is None:
        for option in ("whole", "out"):
            if getattr(arguments, option):
                return f"--stride-sec with --{option} needs --window-sec"
    if arguments.whole and (arguments.window_sec is not None or arguments.is_live):
        return "--whole goes with neither --window-sec nor live sources"
    return ""


def find_source_fault(arguments: argparse.Namespace) -> str:
    """Return the first fault in the sources, empty where there is none."""
    from nightcrawler.data.video.reader import fault_of_url, is_live

    sources = arguments.sources
    if bool(sources) == (arguments.watch is not None):
        return "give either sources to predict, or --watch FOLDER"
    for source in sources:
        if source == "":
            # Such as an unset "$VIDEO": the current folder must not be meant by accident.
            return "a source is empty: give a file, folder, list or URL (. is the current folder)"
        fault = fault_of_url(source)
        if fault:
            return fault
    if arguments.is_live and len(sources) > 1:
        return f"a live source is followed alone: {len(sources)} sources are given"
    is_playable = sources and (is_live(sources[0]) or Path(sources[0]).is_file())
    if arguments.live and not is_playable:
        return f"--live: no file {' '.join(sources)}"
    return ""


def choose_windows(arguments: argparse.Namespace) -> Windows:
    """Return the windows that videos are predicted by.

    Raises:
        UserError: if length and stride do not fit.
    """
    from nightcrawler.predict import items
    from nightcrawler.predict.sources import window_and_stride

    window_sec, stride_sec = arguments.window_sec, arguments.stride_sec
    if window_sec is None and arguments.is_live:
        window_sec = LIVE_WINDOW_SEC
    try:
        if window_sec is not None:
            return items.Windows(window_and_stride(window_sec, stride_sec))
        # Parts of shards are the same whatever the length, as are results of the Python API.
        if arguments.whole or arguments.out:
            return items.Windows()
        length, stride = items.LONG_WINDOW
        if stride_sec is None:
            stride_sec = stride
        return items.Windows(long=window_and_stride(length, stride_sec))
    except ValueError as error:
        # Below, arguments have the names of the Python API.
        told = (
            str(error).replace("window_sec", "--window-sec").replace("stride_sec", "--stride-sec")
        )
        raise UserError(told) from None


def find_items(arguments: argparse.Namespace, num_classes: int) -> list[VideoItem]:
    """Return the videos to predict, none for a watch and live sources.

    Raises:
        UserError: if there are none, a list is invalid, or an output would replace one.
    """
    from nightcrawler.data.video.suffixes import is_csv_list, is_text_list
    from nightcrawler.download.addresses import holder_of
    from nightcrawler.predict.annotate import refuse_copies_among_sources
    from nightcrawler.predict.sources import find_all_videos
    from nightcrawler.utils.outputs import check_targets

    if arguments.watch or arguments.is_live:
        return []
    sources = [Path(source) for source in arguments.sources]
    items = find_all_videos(sources, num_classes)
    holders = (holder_of(str(item.path))[0] for item in items)
    check_targets(output_files(arguments), sources=holders)
    for source in sources:
        if not source.is_dir() and (is_csv_list(source) or is_text_list(source)):
            print(f"{source}: read as a list of videos", file=sys.stderr)
        if arguments.annotate:
            refuse_copies_among_sources(arguments.annotate, source, items)
    return items


def predict(arguments: argparse.Namespace) -> int:
    """Run the prediction that the options ask for, and return the exit code."""
    from nightcrawler.predict import command

    ensemble, note = build_models(arguments)
    if arguments.workers and all("poses" in one.about for one in ensemble.predictors):
        raise UserError(
            f"--workers {arguments.workers}: has no effect on models of skeletons alone: leave it "
            "out"
        )
    items = find_items(arguments, len(ensemble.class_names))
    # After the errors that the command line may have, which the note would hide.
    if note:
        print(note, file=sys.stderr)
    ensemble = adapt_models(arguments, ensemble, items)

    def echo(line: str) -> None:
        # Names of files may hold what a terminal obeys.
        print_above_bar(escape_controls(line))

    def echo_table(line: str) -> None:
        # Events are read by programs, so that nothing else goes to their stream.
        if arguments.events:
            print(escape_controls(line), file=sys.stderr, flush=True)
        else:
            echo(line)

    events = build_events(arguments, ensemble.class_names, echo)
    writer = command.ResultWriter(ensemble, choose_outputs(arguments), echo_table, events)
    try:
        return predict_sources(arguments, writer, items)
    finally:
        if events is not None:
            events.close()


def predict_sources(
    arguments: argparse.Namespace, writer: ResultWriter, items: Sequence[VideoItem]
) -> int:
    """Predict videos, a folder that is watched, or a live source, and return the exit code."""
    from nightcrawler.predict import command, live_command, shards

    windows = choose_windows(arguments)
    ensemble = writer.ensemble
    if arguments.watch:
        command.predict_watched(ensemble, arguments.watch, windows, writer)
    elif arguments.is_live:
        assert windows.every is not None
        try:
            dropped = live_command.predict_live(
                ensemble, arguments.sources[0], windows.every, writer
            )
        except VideoError as error:
            print(f"error: {error}", file=sys.stderr)
            return EXIT_BAD_VIDEOS
        print(f"{dropped} frames were dropped to keep up", file=sys.stderr)
    elif arguments.out:
        shard = (0, 1)
        if arguments.shard is not None:
            shard = shards.parse_shard(arguments.shard, os.environ)
        command.predict_shard(ensemble, items, arguments.out, shard, windows, writer.echo)
    else:
        command.predict_set(ensemble, items, windows, writer)
    return EXIT_BAD_VIDEOS if writer.num_bad else 0


def merge(argv: Sequence[str]) -> int:
    """Merge the parts of all shards into one result, and return the exit code."""
    parser = make_parser("Check that all videos of a list have a part, and join them.", EXAMPLES)
    parser.add_argument("list", type=Path, metavar="LIST", help="list that the shards predicted")
    parser.add_argument(
        "--out", type=Path, required=True, metavar="DIR", help="folder of the parts"
    )
    parser.add_argument(
        "--top", type=int, default=DEFAULT_TOP, metavar="N", help="classes per row (default 5)"
    )
    parser.add_argument(
        "--reject", action="store_true", help="write 'nothing known' for answers that are not sure"
    )
    arguments = parser.parse_args(argv)
    if not 1 <= arguments.top <= MAX_TOP:
        parser.error(f"--top {arguments.top}: expected 1 to {MAX_TOP}")
    from nightcrawler.predict.merge import merge as merge_parts
    from nightcrawler.predict.parts import read_about
    from nightcrawler.predict.sources import find_videos

    num_classes = len(read_about(arguments.out)["class_names"])
    items = find_videos(arguments.list, num_classes)
    merged = merge_parts(arguments.out, items, arguments.top, arguments.reject)
    written = ", ".join(map(str, merged.files))
    print(
        f"{merged.num_rows} videos, each once, {merged.num_without} without a prediction: {written}"
    )
    return EXIT_BAD_VIDEOS if merged.num_without + merged.num_damaged else 0


def main(argv: Sequence[str]) -> int:
    """Predict, or merge parts."""
    # Not an argparse sub-command: a video or folder may be the first word of the others.
    if argv[:1] == ["merge"]:
        return merge(argv[1:])
    arguments = parse(argv)
    with collector_paused():
        # It imports torch. Before the models are loaded: wrong options are found at once.
        choose_windows(arguments)
    check_outputs(arguments)
    if arguments.ray:
        return predict_by_ray(argv, arguments)
    return predict(arguments)
