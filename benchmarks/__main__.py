"""Measure speed and undetected damage, as ratios of one run.

The parts are: models against this machine's matrix products and other implementations; the data
path against plain decoding and per-frame augmentation; damage to files, and losses of their parts,
that nobody notices; the seconds and memory of the chain's arithmetic, and of a large prediction
beside its models; poses against decoding, and against figures whose joints are known; the fit of
known cameras; and BatchNorm statistics that follow a stream.
"""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from benchmarks.options import (
    GPU_MODELS,
    add_clip_options,
    add_estimator_options,
    add_gpu_options,
)
from nightcrawler.data.video.suffixes import has_video_suffix
from nightcrawler.utils.command_line import add_task, at_least, invoked_as, make_parser, run
from nightcrawler.utils.errors import UserError

COMMAND = "python -m benchmarks"
EXAMPLES = """\
  {command} models
  {command} models --only uniformer --repeats 5 --threads 1
  {command} data --clips data/dark_train/Train
  {command} data --only a --only d
  {command} damage --clips data/dark_train/Train --videos 200
  {command} losses --copies 20
  {command} chain --videos 1000000
  {command} parts --videos 1000000
  {command} poses --clips data/Test --videos 20 --jobs 2
  {command} pose-noise
  {command} pose-noise --figures 44 --seed 1 --work noise
  {command} cameras --clips 256 --seeds 3
  {command} online
  {command} online --seeds 1 --per-class 4 --model demo/sf32_k700
  {command} gpu --workers 8 --workers 16
  {command} gpu --device cpu --tiny --repeats 1
  {command} gpu --hours --tflops 100"""
# Written here too, because --help must not wait for torch.
MODELS = ("uniformer", "mvit", "slowfast")
PARTS = (
    "models",
    "data",
    "damage",
    "losses",
    "chain",
    "parts",
    "poses",
    "pose-noise",
    "cameras",
    "online",
    "gpu",
)
# In the order of the functions in `run_data`.
DATA_PARTS = ("a", "b", "c", "d", "e")


def parse(argv: Sequence[str]) -> Any:
    """Parse the command line."""
    parser = make_parser(__doc__ or "", EXAMPLES)
    tasks = parser.add_subparsers(
        dest="part",
        required=True,
        metavar=" | ".join(PARTS),
    )
    models = add_task(tasks, "models", "forward passes and training steps", EXAMPLES)
    models.add_argument(
        "--only", choices=MODELS, action="append", help="only this model (repeatable; default: all)"
    )
    models.add_argument(
        "--threads",
        type=at_least(0),
        default=0,
        metavar="N",
        help="threads (default: torch's choice)",
    )
    models.add_argument("--skip-training", action="store_true", help="forward passes only")
    data = add_task(
        tasks, "data", "decoding, augmentation, cache and loader, each on one thread", EXAMPLES
    )
    named = (
        "a decode, b views and crops, c augmentation, d cache, e loader (repeatable; default: all)"
    )
    data.add_argument("--only", choices=DATA_PARTS, action="append", help=named)
    damage = add_task(
        tasks, "damage", "detection of 1, 20 and 200 wrong bytes in each video", EXAMPLES
    )
    add_clip_options(data, 8)
    add_clip_options(damage, 200)
    losses = add_task(
        tasks, "losses", "detection of parts that are cut off, left out or zeroed", EXAMPLES
    )
    losses.add_argument(
        "--copies",
        type=at_least(1),
        default=20,
        metavar="N",
        help="damaged copies for each format and fault (default 20)",
    )
    chain = add_task(tasks, "chain", "ensemble, thresholds, CSV and vote of many videos", EXAMPLES)
    for name, default in (("videos", 1_000_000), ("classes", 11), ("models", 5)):
        chain.add_argument(
            f"--{name}", type=int, default=default, metavar="N", help=f"default {default}"
        )
    parts = add_task(tasks, "parts", "rows of a large prediction, written and merged", EXAMPLES)
    for name, default in (("videos", 1_000_000), ("classes", 11), ("workers", 2)):
        parts.add_argument(
            f"--{name}",
            type=at_least(1),
            default=default,
            metavar="N",
            help=f"default {default}",
        )
    poses = add_task(tasks, "poses", "poses of videos, beside decoding alone", EXAMPLES)
    add_clip_options(poses, 8)
    noise = add_task(tasks, "pose-noise", "poses of figures whose joints are known", EXAMPLES)
    noise.add_argument(
        "--figures",
        type=at_least(1),
        default=22,
        metavar="N",
        help="figures of each size, recorded in each light (default 22)",
    )
    noise.add_argument("--seed", type=at_least(0), default=0, metavar="N", help="default 0")
    noise.add_argument(
        "--work", type=Path, metavar="DIR", help="keep videos and poses there (default: nowhere)"
    )
    for task in (poses, noise):
        add_estimator_options(task)
    poses.add_argument(
        "--minutes",
        type=float,
        default=10.0,
        metavar="N",
        help="also predict 2 s and so many minutes of the first video; 0: do not (default 10)",
    )
    poses.add_argument(
        "--experiment",
        action="append",
        default=[],
        metavar="DIR",
        help="model that predicts (repeatable; default: what the command mixes by itself)",
    )
    gpu = add_task(tasks, "gpu", "models at full size on a GPU, and waiting for data", EXAMPLES)
    add_gpu_options(gpu)
    cameras = add_task(tasks, "cameras", "fits of known cameras to their recordings", EXAMPLES)
    for name, default in (("clips", 256), ("seeds", 3)):
        cameras.add_argument(
            f"--{name}", type=at_least(1), default=default, metavar="N", help=f"default {default}"
        )
    online = add_task(tasks, "online", "statistics that follow a stream", EXAMPLES)
    for name, default in (("seeds", 3), ("per-class", 12)):
        online.add_argument(
            f"--{name}", type=at_least(1), default=default, metavar="N", help=f"default {default}"
        )
    online.add_argument(
        "--model", action="append", metavar="NAME", help="checkpoint (repeatable; default two)"
    )
    for task in (models, data, poses, gpu):
        task.add_argument(
            "--repeats",
            type=at_least(1),
            default=3,
            metavar="N",
            help="runs of each call, of which the fastest counts (default 3)",
        )
    for task in tasks.choices.values():
        task.add_argument("--debug", action="store_true", help="show the traceback of an error")
    return parser.parse_args(argv)


def find_videos(folder: Path, count: int) -> list[Path]:
    """Return up to `count` videos below a folder, evenly chosen from their sorted paths.

    Args:
        folder: to search.
        count: largest number of videos.

    Raises:
        UserError: if there is none.
    """
    found = []
    for path in sorted(folder.rglob("*")):
        if has_video_suffix(path):
            found.append(path)
    if not found or count < 1:
        raise UserError(
            f"--clips {folder}, --videos {count}: no video to measure, by the suffixes of its files"
        )
    # Evenly, because neighbours in a folder are often of one class.
    if count >= len(found):
        return found
    return [found[number * len(found) // count] for number in range(count)]


@contextlib.contextmanager
def chosen_videos(arguments: Any) -> Iterator[list[Path]]:
    """Find the videos of `--clips` and `--videos`, or render some, and print their number."""
    import tempfile

    from nightcrawler.synthetic.dataset import DatasetSpec, write_dataset

    with tempfile.TemporaryDirectory() as folder:
        clips = arguments.clips
        if clips is None:
            clips = Path(folder)
            write_dataset(clips, DatasetSpec(0, 1, 1, 1, 1, 1, height=240, width=320), 2, False)
        videos = find_videos(clips, arguments.videos)
        print(f"{len(videos)} videos of {arguments.clips or 'synthetic clips, 240x320'}")
        yield videos


def print_lines(lines: Iterator[str]) -> None:
    """Print lines as they come, also into a pipe: a benchmark takes minutes."""
    for line in lines:
        print(line, flush=True)


def run_models(arguments: Any) -> None:
    """Print the figures of the models."""
    import torch

    from benchmarks.models_speed import measure_models

    if arguments.threads:
        torch.set_num_threads(arguments.threads)
    names = arguments.only or MODELS
    print_lines(measure_models(names, arguments.repeats, arguments.skip_training))


def run_data(arguments: Any) -> None:
    """Print the figures of the data path on one thread."""
    import torch

    from benchmarks.data_speed import measure_augment, measure_decode, measure_views
    from benchmarks.loader_speed import measure_cache, measure_loader

    calls = (measure_decode, measure_views, measure_augment, measure_cache, measure_loader)
    parts = dict(zip(DATA_PARTS, calls, strict=True))
    torch.set_num_threads(1)
    with chosen_videos(arguments) as videos:
        for part in sorted(set(arguments.only or parts)):
            print_lines(parts[part](videos, arguments.repeats))


def run_damage(arguments: Any) -> None:
    """Print the share of damaged videos that is noticed."""
    from benchmarks.damage import study

    with chosen_videos(arguments) as videos:
        print_lines(study(videos))


def run_losses(arguments: Any) -> None:
    """Print how many losses are noticed, by container and fault."""
    from benchmarks.losses import study_losses

    print_lines(study_losses(arguments.copies))


def run_chain(arguments: Any) -> None:
    """Print time and memory of the chain's arithmetic."""
    from benchmarks.chain_speed import measure_chain

    for name in ("videos", "classes", "models"):
        if getattr(arguments, name) < 2:
            raise UserError(f"--{name} {getattr(arguments, name)}: expected 2 or more")
    print_lines(measure_chain(arguments.videos, arguments.classes, arguments.models))


def run_parts(arguments: Any) -> None:
    """Print time, memory and files of a large prediction beside its models."""
    from benchmarks.parts_speed import measure_parts

    print_lines(measure_parts(arguments.videos, arguments.classes, arguments.workers))


def run_cameras(arguments: Any) -> None:
    """Print how far the statistics of fitted cameras are from those of known ones."""
    from benchmarks.camera_fit import measure_fits

    print_lines(measure_fits(arguments.clips, arguments.seeds))


def run_online(arguments: Any) -> None:
    """Print what statistics that follow a stream are worth."""
    import torch

    from benchmarks.online import STUDIED, study

    torch.set_num_threads(1)
    seeds = range(arguments.seeds)
    print_lines(study(arguments.model or STUDIED, seeds, arguments.per_class))


def run_poses(arguments: Any) -> None:
    """Print the speed of extracting poses, and the cost of predictions by them."""
    import tempfile

    from benchmarks.pose_speed import measure_poses, measure_predictions

    with chosen_videos(arguments) as videos:
        lines = measure_poses(
            videos, arguments.estimator, arguments.model or "", arguments.jobs, arguments.repeats
        )
        print_lines(lines)
        if arguments.minutes > 0:
            with tempfile.TemporaryDirectory() as folder:
                print_lines(
                    measure_predictions(
                        videos[0], arguments.minutes, arguments.experiment, Path(folder)
                    )
                )


def run_pose_noise(arguments: Any) -> None:
    """Print how an estimator errs, by light and size."""
    import tempfile

    from benchmarks.pose_noise import measure_noise
    from nightcrawler.pose.estimators.base import EstimatorOptions
    from nightcrawler.prepare.pose_files import PoseRecipe

    recipe = PoseRecipe(arguments.estimator, EstimatorOptions(arguments.model or ""))
    with tempfile.TemporaryDirectory() as folder:
        work = arguments.work or Path(folder)
        work.mkdir(parents=True, exist_ok=True)
        print_lines(measure_noise(work, arguments.figures, arguments.seed, recipe, arguments.jobs))


def run_gpu(arguments: Any) -> None:
    """Print the figures of the models at full size on a GPU, or their hours."""
    from benchmarks.gpu import Bench, choose_device, measure_gpu
    from benchmarks.gpu_hours import estimate

    names = arguments.only or GPU_MODELS
    if arguments.hours:
        print_lines(estimate(names, arguments.tflops))
        return
    device = choose_device(arguments.device)
    bench = Bench(device, arguments.tiny, arguments.batch, arguments.repeats)
    workers = [8] if arguments.workers is None else arguments.workers
    print_lines(measure_gpu(bench, names, workers))


def main(argv: Sequence[str]) -> int:
    """Measure one part and print its figures."""
    with invoked_as(COMMAND):
        arguments = parse(argv)
    parts = {
        "models": run_models,
        "data": run_data,
        "damage": run_damage,
        "losses": run_losses,
        "chain": run_chain,
        "parts": run_parts,
        "poses": run_poses,
        "pose-noise": run_pose_noise,
        "cameras": run_cameras,
        "online": run_online,
        "gpu": run_gpu,
    }
    parts[arguments.part](arguments)
    return 0


if __name__ == "__main__":
    sys.exit(run(main))
