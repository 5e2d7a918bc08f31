"""Say what people do in videos: files, folders, lists, long recordings, cameras; with one trained model or several.

Configuration, classes and enhancement come from the checkpoints: what was trained is what runs.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nightcrawler.utils.cli import make_parser
from nightcrawler.utils.errors import UserError, VideoError
from nightcrawler.utils.project import project_root

if TYPE_CHECKING:
    from nightcrawler.data.lists import VideoItem
    from nightcrawler.predict.ensemble import Ensemble
    from nightcrawler.predict.rows import VideoResult
    from nightcrawler.predict.stream import Frame
    from nightcrawler.predict.windows import Piece

EXIT_BAD_VIDEOS = 3
SHOWN_VIDEOS = 200
MOST_WORKERS = 1024
LIVE_WINDOW_SEC = 3.0
EXAMPLES = """\
  {command} clip.mp4 --experiment exp_adapt_bn/uniformer_b32_k600
  {command} clips/ --experiment a/best.pyth --experiment b.safetensors --csv out.csv --json out.json
  {command} data/test.csv --ensemble configs/vote/default.yaml --mode 1 --csv out.csv
  {command} clips/ --ensemble configs/pseudo/default.yaml --prefix exp_adapt_bn
  {command} night.mp4 --experiment a --window-sec 4 --stride-sec 2 --timeline t.csv --annotate shown/
  {command} --watch incoming/ --experiment a --jsonl found.jsonl
  {command} rtsp://camera/stream --experiment a --window-sec 3 --stride-sec 1
very large sets, any number of processes (stopped at any time, in any number, the same command goes on):
  {command} data/test.csv --experiment a --out runs/p --shard 0/3      (and 1/3, 2/3)
  torchrun --nproc-per-node 8 -m nightcrawler predict data/test.csv --experiment a --out runs/p --shard env
  sbatch --array 0-63 --wrap '{command} data/test.csv --experiment a --out runs/p --shard env'
  {command} merge --out runs/p data/test.csv

--shard env takes RANK and WORLD_SIZE (torchrun), SLURM_ARRAY_TASK_ID and _COUNT, or SLURM_PROCID and SLURM_NTASKS;
each process has the GPU of its LOCAL_RANK. OMP_NUM_THREADS bounds the threads of each.

exit codes: 0 done (a shard: all parts are there), 2 an error that the line names, 3 some videos could not be read
(their rows say why)"""


def parse(argv: Sequence[str]) -> Any:
    """The command line of predicting."""
    parser = make_parser(__doc__ or "", EXAMPLES)
    parser.add_argument(
        "source", nargs="?", metavar="VIDEO|FOLDER|LIST|URL", help="list: .csv (path,label) or .txt"
    )
    models = parser.add_argument_group("models")
    models.add_argument(
        "--experiment", action="append", default=[], type=Path, metavar="DIR|CHECKPOINT"
    )
    models.add_argument(
        "--ensemble", type=Path, metavar="RECIPE", help="of configs/vote or configs/pseudo"
    )
    models.add_argument(
        "--mode", type=int, metavar="M", help="mode of a vote recipe (default: its first)"
    )
    models.add_argument(
        "--prefix",
        type=Path,
        default=project_root(),
        metavar="DIR",
        help="holds the recipe's experiments",
    )
    models.add_argument(
        "--views",
        type=int,
        metavar="V",
        help="temporal views (default: as in the recipe or checkpoint)",
    )
    models.add_argument("--crops", type=int, choices=(1, 3), help="spatial crops")
    models.add_argument(
        "--bright", action="store_true", help="the videos are well lit: no enhancement"
    )
    models.add_argument(
        "--workers", type=int, default=0, metavar="N", help="decoding processes a model (default 0)"
    )
    how = parser.add_argument_group("long and live videos")
    how.add_argument(
        "--window-sec", type=float, metavar="S", help=f"slide a window (live: {LIVE_WINDOW_SEC:g})"
    )
    how.add_argument(
        "--stride-sec", type=float, metavar="S", help="between windows (default: half a window)"
    )
    how.add_argument("--live", action="store_true", help="play a file as a camera would")
    how.add_argument(
        "--watch", type=Path, metavar="FOLDER", help="predict files as they appear, until Ctrl-C"
    )
    out = parser.add_argument_group("output")
    out.add_argument("--top", type=int, default=5, metavar="N", help="classes a video (default 5)")
    out.add_argument("--csv", type=Path, metavar="FILE", help="a row a video")
    out.add_argument(
        "--json", type=Path, metavar="FILE", help="all videos, and what predicted them"
    )
    out.add_argument(
        "--jsonl",
        type=Path,
        metavar="FILE",
        help="appended a line a video; --watch leaves those out",
    )
    out.add_argument("--timeline", type=Path, metavar="CSV", help="a row a stretch of one action")
    out.add_argument(
        "--annotate", type=Path, metavar="DIR", help="write lit videos with label and bars"
    )
    out.add_argument(
        "--out", type=Path, metavar="DIR", help="write a part file a video, to be merged"
    )
    out.add_argument(
        "--shard", metavar="i/N|env", help="predict every N-th video from the i-th (needs --out)"
    )
    arguments = parser.parse_args(argv)
    check(arguments, parser)
    return arguments


def check(arguments: Any, parser: Any) -> None:
    """Refuse options that do not go together."""
    from nightcrawler.data.video.reader import is_live

    source = arguments.source
    arguments.is_live = arguments.live or (source is not None and is_live(source))
    at_once = [name for name in ("csv", "json", "timeline") if getattr(arguments, name)]
    endless = "--watch" if arguments.watch else "a live source" if arguments.is_live else ""
    faults = {
        "give either what to predict, or --watch FOLDER": (source is None)
        == (arguments.watch is None),
        "give --experiment, --ensemble or both": not (arguments.experiment or arguments.ensemble),
        "--mode needs --ensemble": arguments.mode is not None and not arguments.ensemble,
        "--views and --crops go together": (arguments.views is None) != (arguments.crops is None),
        "--views, --top: expected at least 1": min(arguments.views or 1, arguments.top) < 1,
        f"--workers {arguments.workers}: expected 0 to {MOST_WORKERS}": not 0
        <= arguments.workers
        <= MOST_WORKERS,
        "--stride-sec needs --window-sec": arguments.stride_sec is not None
        and arguments.window_sec is None,
        "--timeline needs --window-sec": arguments.timeline and arguments.window_sec is None,
        "--shard needs --out": arguments.shard is not None and arguments.out is None,
        f"{endless} never ends: take --jsonl, not --csv, --json, --timeline": endless and at_once,
        f"{endless} is not for --out": endless and arguments.out,
        "--out writes parts: merge them for other files": arguments.out
        and (at_once or arguments.jsonl),
        f"--live: no file {source}": arguments.live
        and not (source and (is_live(source) or Path(source).is_file())),
        "--annotate is not for live sources or --out": arguments.annotate
        and (arguments.is_live or arguments.out),
    }
    for fault, is_so in faults.items():
        if is_so:
            parser.error(fault)


def steps(arguments: Any) -> tuple[float, float] | None:
    """Length and stride of windows, where they slide."""
    from nightcrawler.predict.windows import check_steps

    window = arguments.window_sec or (
        LIVE_WINDOW_SEC if arguments.is_live else arguments.window_sec
    )
    if window is None:
        return None
    stride = window / 2 if arguments.stride_sec is None else arguments.stride_sec
    check_steps(window, stride)
    return window, stride


def build_models(arguments: Any) -> Ensemble:
    """The models that the command line names."""
    from nightcrawler.predict.ensemble import build_ensemble, read_recipe
    from nightcrawler.predict.predictor import PredictOptions

    recipe = read_recipe(arguments.ensemble, arguments.mode) if arguments.ensemble else None
    pair = (arguments.views, arguments.crops) if arguments.views else None
    settings = PredictOptions(pair, not arguments.bright, arguments.workers, project_root())
    return build_ensemble(arguments.experiment, recipe, arguments.prefix, settings)


def answers(
    group: Ensemble, items: Sequence[VideoItem], arguments: Any
) -> Iterator[tuple[VideoResult, list[Piece]]]:
    """Each video's row and what to write into its picture when, with progress."""
    from nightcrawler.predict.annotate import whole_video_piece
    from nightcrawler.predict.long_video import long_videos
    from nightcrawler.utils.progress import progress

    if slide := steps(arguments):

        def show(windows: Iterable[Any], total: int) -> Iterator[Any]:
            return progress(windows, total, "windows", every=100, enabled=not arguments.watch)

        yield from long_videos(group, items, *slide, show)
        return
    for row in progress(group.videos(items), len(items), "predict", enabled=len(items) > 1):
        yield row, [whole_video_piece(row)] if row.ok else []


class Output:
    """Shows rows as they come, in the ways that the command line asks for."""

    def __init__(self, group: Ensemble, arguments: Any) -> None:
        from nightcrawler.utils.logging import JsonLines

        self.group, self.arguments = group, arguments
        self.lines = JsonLines(arguments.jsonl)
        self.models = [member.name for member in group.members]
        self.num_bad = 0

    def take(
        self, item: VideoItem, row: VideoResult, pieces: list[Piece], **more: Any
    ) -> VideoResult:
        """Annotate and write a row; returns it, or what became of it."""
        if row.ok and self.arguments.annotate:
            row = self._annotated(item, row, pieces)
        self.num_bad += not row.ok
        self.lines.write(**self._record(row), **more)
        return row

    def _record(self, row: VideoResult) -> dict[str, Any]:
        from nightcrawler.predict.rows import record

        return record(row, self.group.class_names, self.arguments.top, self.models)

    def _annotated(self, item: VideoItem, row: VideoResult, pieces: list[Piece]) -> VideoResult:
        from dataclasses import replace

        from nightcrawler.predict.annotate import annotate, target_path

        try:
            target = target_path(self.arguments.annotate, item.name)
            annotate(
                item.path, target, pieces, self.group.class_names, self.group.members[0].enhance
            )
        except VideoError as error:
            return replace(row, status=f"error: {error.cause} ({error.where})")
        return row

    def show(self, rows: Sequence[VideoResult]) -> None:
        """Print rows."""
        from nightcrawler.predict.rows import table_lines

        for row in rows[:SHOWN_VIDEOS]:
            for line in table_lines(row, self.group.class_names, self.arguments.top):
                print(line)
        if len(rows) > SHOWN_VIDEOS:
            print(f"and {len(rows) - SHOWN_VIDEOS} more videos")
        sys.stdout.flush()

    def write(self, rows: Sequence[VideoResult]) -> None:
        """Write the files that hold all rows."""
        from nightcrawler.predict.rows import csv_rows, timeline_rows
        from nightcrawler.utils.io import atomic_write, write_csv_rows

        names, arguments = self.group.class_names, self.arguments
        if arguments.csv:
            write_csv_rows(arguments.csv, csv_rows(rows, names, arguments.top))
        if arguments.timeline:
            write_csv_rows(arguments.timeline, timeline_rows(rows, names))
        if arguments.json:
            content = {"about": self.group.about(), "videos": [self._record(row) for row in rows]}
            with atomic_write(arguments.json, "w") as file:
                json.dump(content, file, indent=1)
                file.write("\n")


def predict_set(group: Ensemble, items: Sequence[VideoItem], arguments: Any) -> int:
    """Predict videos, show and write them; returns how many are bad."""
    output = Output(group, arguments)
    found = zip(items, answers(group, items, arguments), strict=True)
    rows = [output.take(item, row, pieces) for item, (row, pieces) in found]
    output.show(rows)
    output.write(rows)
    return output.num_bad


def predict_shard(group: Ensemble, items: Sequence[VideoItem], arguments: Any) -> int:
    """Predict this shard's videos that have no part yet.

    Bad videos are no failure of a shard, for which a launcher would end the others: merging counts them.
    """
    from nightcrawler.predict import parts

    index, count = parts.parse_shard(arguments.shard or "0/1", os.environ)
    slide = steps(arguments)
    key = parts.open_run(arguments.out, {**group.about(), "window_sec": slide and list(slide)})
    mine = items[index::count]
    due = parts.missing(arguments.out, key, mine)
    print(f"shard {index}/{count}: {len(mine)} videos, {len(due)} of them to do")
    num_bad = 0
    for row, _ in answers(group, due, arguments):
        parts.write_part(arguments.out, key, row)
        num_bad += not row.ok
    print(f"shard {index}/{count}: done, {num_bad} of {len(due)} videos could not be read")
    return 0


def predict_watched(group: Ensemble, arguments: Any) -> int:
    """Predict files as they appear, until Ctrl-C; returns how many were bad."""
    from nightcrawler.predict.watch import new_videos, read_done

    folder, target = arguments.watch.resolve(), arguments.annotate
    if target and target.resolve().is_relative_to(folder):
        raise UserError(
            f"--annotate {target} is in the watched folder: what is written would be predicted"
        )
    output = Output(group, arguments)
    done = read_done(arguments.jsonl) if arguments.jsonl else set()
    print(f"watching {arguments.watch}, {len(done)} videos are done; Ctrl-C ends it", flush=True)
    try:
        for item in filter(None, new_videos(folder, done)):
            for row, pieces in answers(group, [item], arguments):
                output.show([output.take(item, row, pieces)])
    except KeyboardInterrupt:
        print("stopped")
    return output.num_bad


def predict_live(group: Ensemble, arguments: Any) -> int:
    """Predict the newest window of a live source again and again; returns 1 if it was lost."""
    from nightcrawler.data.lists import VideoItem
    from nightcrawler.predict.live import live_windows
    from nightcrawler.predict.rows import clock

    source, output, dropped = arguments.source, Output(group, arguments), 0
    item = VideoItem(source, -1, Path(source), 1)
    slide = steps(arguments)
    assert slide is not None
    try:
        for window, passed in live_windows(live_source(group, arguments), *slide, source):
            dropped += passed
            row = group.frames(item, [frame.rgb for frame in window.frames])
            times = {
                "start_sec": window.start_sec,
                "end_sec": window.end_sec,
                "dropped_frames": dropped,
            }
            print(f"{clock(window.start_sec)} - {clock(window.end_sec)}", end="  ")
            output.show([output.take(item, row, [], **times)])
    except VideoError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("stopped")
    print(f"{dropped} frames were dropped to keep up", file=sys.stderr)
    return output.num_bad


def live_source(group: Ensemble, arguments: Any) -> Iterator[Frame]:
    """Frames of a camera, or of a file at the pace of one."""
    from nightcrawler.data.video.decode import probe
    from nightcrawler.data.video.integrity.limits import Limits
    from nightcrawler.data.video.reader import is_live
    from nightcrawler.predict.long_video import short_side
    from nightcrawler.predict.stream import live_frames, paced, video_frames

    if is_live(arguments.source):
        return live_frames(arguments.source, short_side(group))
    found = probe(arguments.source, Limits())
    return paced(video_frames(arguments.source, found, short_side(group)))


def merge(argv: Sequence[str]) -> int:
    """The command line that makes one result of all parts."""
    parser = make_parser(
        "Prove that every video of a list has its part, and write one result.", EXAMPLES
    )
    parser.add_argument("list", type=Path, metavar="LIST", help="what the shards were given")
    parser.add_argument(
        "--out", type=Path, required=True, metavar="DIR", help="folder of the parts"
    )
    parser.add_argument("--top", type=int, default=5, metavar="N", help="classes a row (default 5)")
    arguments = parser.parse_args(argv)
    if arguments.top < 1:
        parser.error("--top: expected at least 1")
    from nightcrawler.predict import parts
    from nightcrawler.predict.inputs import find_videos

    num_classes = len(parts.read_about(arguments.out)["class_names"])
    rows, files = parts.merge(
        arguments.out, find_videos(arguments.list, num_classes), arguments.top
    )
    bad = [row for row in rows if not row.ok]
    print(
        f"{len(rows)} videos, each once, {len(bad)} without a prediction: {', '.join(map(str, files))}"
    )
    return EXIT_BAD_VIDEOS if bad else 0


def main(argv: Sequence[str]) -> int:
    """Predict, or merge."""
    if argv[:1] == ["merge"]:
        return merge(argv[1:])
    from nightcrawler.utils.io import check_targets

    arguments = parse(argv)
    steps(arguments)
    files = (arguments.csv, arguments.json, arguments.jsonl, arguments.timeline)
    check_targets(files, (arguments.annotate, arguments.out))
    group = build_models(arguments)
    if arguments.watch:
        num_bad = predict_watched(group, arguments)
    elif arguments.is_live:
        num_bad = predict_live(group, arguments)
    else:
        from nightcrawler.predict.inputs import find_videos

        items = find_videos(Path(arguments.source), len(group.class_names))
        num_bad = (predict_shard if arguments.out else predict_set)(group, items, arguments)
    return EXIT_BAD_VIDEOS if num_bad else 0
