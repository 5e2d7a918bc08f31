"""Speed as ratios measured in one run: models against this machine's matrix multiplication and against baselines; the
data path against plain decoding and per-frame augmentation; the chain's arithmetic in seconds and memory; how much
damage to files goes unnoticed.
"""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nightcrawler.utils.cli import add_task, at_least, make_parser, run
from nightcrawler.utils.errors import UserError

if TYPE_CHECKING:
    from torch import Tensor, nn

EXAMPLES = """\
  python tools/benchmark.py models
  python tools/benchmark.py models --only uniformer --repeats 5 --threads 1
  python tools/benchmark.py data --clips data/dark_train/Train
  python tools/benchmark.py data --only a --only d
  python tools/benchmark.py damage --clips data/dark_train/Train --videos 200
  python tools/benchmark.py chain --videos 1000000"""
CONFIGS = {"uniformer": "uniformer_b32_k600", "mvit": "mvit_b32_k600", "slowfast": "sf32_k700"}
GEMM_SIDES = (1024, 2048, 4096)
FORWARD_SHAPE, TRAIN_SHAPE = (1, 3, 32, 224, 224), (1, 3, 16, 112, 112)


def parse(argv: Sequence[str]) -> Any:
    """The command line."""
    parser = make_parser(__doc__ or "", EXAMPLES)
    tasks = parser.add_subparsers(
        dest="what", required=True, metavar="models | data | damage | chain"
    )
    models = add_task(tasks, "models", "forward and training steps", EXAMPLES)
    models.add_argument(
        "--only", choices=tuple(CONFIGS), action="append", help="this model (may be given again)"
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
        tasks, "data", "decoding, augmentation, cache, loader; one thread each", EXAMPLES
    )
    damage = add_task(
        tasks, "damage", "1, 20 and 200 wrong bytes in each video: what is noticed", EXAMPLES
    )
    for task, count in ((data, 8), (damage, 200)):
        task.add_argument(
            "--clips",
            type=Path,
            metavar="DIR",
            help="of videos (default: synthetic ones, rendered now)",
        )
        task.add_argument(
            "--videos",
            type=int,
            default=count,
            metavar="N",
            help=f"how many, evenly (default {count})",
        )
    parts = "a decode, b views and crops, c augmentation, d cache, e loader (may be given again)"
    data.add_argument("--only", choices=tuple("abcde"), action="append", help=parts)
    chain = add_task(tasks, "chain", "ensemble, thresholds, CSV and vote of many videos", EXAMPLES)
    for name, default in (("videos", 1_000_000), ("classes", 11), ("models", 5)):
        chain.add_argument(
            f"--{name}", type=int, default=default, metavar="N", help=f"default {default}"
        )
    for task in (models, data):
        task.add_argument(
            "--repeats",
            type=at_least(1),
            default=3,
            metavar="N",
            help="runs of each, the fastest counts",
        )
    for task in (models, data, damage, chain):
        task.add_argument("--debug", action="store_true", help="show the traceback of an error")
    return parser.parse_args(argv)


def fastest(call: Callable[[], object], repeats: int) -> float:
    """Seconds of the fastest of `repeats` calls, after one that warms up."""
    import time

    call()
    seconds = []
    for _ in range(repeats):
        start = time.perf_counter()
        call()
        seconds.append(time.perf_counter() - start)
    return min(seconds)


def side_by_side(calls: Sequence[Callable[[], object]], repeats: int) -> list[float]:
    """Seconds of the fastest of `repeats` rounds of each call, taken in turn: what disturbs one disturbs all."""
    rounds = [[fastest(call, 1) for call in calls] for _ in range(repeats)]
    return [min(column) for column in zip(*rounds, strict=True)]


def gemm_peak(dtype: Any, repeats: int) -> float:
    """Best rate of square matrix products, in GFLOP/s (a multiply-add is two)."""
    import torch

    best = 0.0
    for side in GEMM_SIDES:
        a, b = (torch.randn(side, side).to(dtype) for _ in range(2))
        best = max(best, 2e-9 * side**3 / fastest(lambda a=a, b=b: a @ b, repeats))
    return best


def count_gflops(model: nn.Module, clip: Tensor) -> float:
    """GFLOPs of a forward pass (a multiply-add is two); attention and convolutions included."""
    import torch
    from torch.utils.flop_counter import FlopCounterMode

    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        model(clip)
    return counter.get_total_flops() / 1e9


def build(name: str, overrides: Sequence[object] = ()) -> nn.Module:
    """A model of `configs/models` with random weights."""
    import torch

    from nightcrawler.config.load import load_experiment
    from nightcrawler.models.build import build_model

    torch.manual_seed(0)
    texts = [str(item) for item in overrides]
    return build_model(
        load_experiment(f"configs/models/{CONFIGS[name]}.yaml", overrides=texts)
    ).eval()


def peak_memory_mib(call: Callable[[], object]) -> float:
    """Most memory of the process during a call, weights included, in MiB; Linux only, NaN elsewhere."""
    try:
        Path("/proc/self/clear_refs").write_text("5")  # starts the high-water mark again
        call()
        status = Path("/proc/self/status").read_text()
    except OSError:
        return float("nan")
    return (
        next(int(line.split()[1]) for line in status.splitlines() if line.startswith("VmHWM:"))
        / 1024
    )


def two_matmuls(q: Tensor, k: Tensor, v: Tensor, **options: Any) -> Tensor:
    """Attention as it is usually written out, in place of the fused kernel."""
    scale = options.get("scale") or q.shape[-1] ** -0.5
    scores = (q @ k.transpose(-2, -1)) * scale
    if options.get("attn_mask") is not None:
        scores = scores + options["attn_mask"]
    return scores.softmax(dim=-1) @ v


def forward_row(name: str, peaks: dict[str, float], repeats: int) -> None:
    """Print the forward figures of one model in fp32 and bf16, contiguous and channels last."""
    import torch

    model, clip = build(name), torch.randn(FORWARD_SHAPE)
    gflops = count_gflops(model, clip)
    seconds: dict[str, float] = {}
    for layout in (torch.contiguous_format, torch.channels_last_3d):
        model, clip = model.to(memory_format=layout), clip.to(memory_format=layout)
        for precision, dtype in (("fp32", torch.float32), ("bf16", torch.bfloat16)):

            def call(model: nn.Module = model, clip: Tensor = clip, dtype: Any = dtype) -> Tensor:
                with (
                    torch.inference_mode(),
                    torch.autocast("cpu", dtype=dtype, enabled=dtype != torch.float32),
                ):
                    return model(clip)

            took, memory = fastest(call, repeats), peak_memory_mib(call)
            rate = gflops / took
            label = f"{precision} {'channels last' if layout == torch.channels_last_3d else 'contiguous'}"
            seconds[label] = took
            print(
                f"{name:10s} forward {label:19s} {took:7.2f} s {rate:7.1f} GFLOP/s "
                f"{100 * rate / peaks[precision]:5.1f} % of {precision} GEMM peak, {memory:6.0f} MiB",
                flush=True,
            )
    fast32, fast16 = (
        min(s for label, s in seconds.items() if label.startswith(p)) for p in ("fp32", "bf16")
    )
    print(f"{name:10s} bf16 is {fast32 / fast16:.2f} times as fast as fp32", flush=True)


def baseline_uniformer(repeats: int) -> None:
    """UniFormer against the same model with attention written out."""
    from unittest import mock

    import torch
    from torch.nn import functional

    model, clip = (
        build("uniformer").to(memory_format=torch.channels_last_3d),
        torch.randn(FORWARD_SHAPE),
    )

    def call() -> Tensor:
        with torch.inference_mode():
            return model(clip)

    def call_written_out() -> Tensor:
        with mock.patch.object(functional, "scaled_dot_product_attention", two_matmuls):
            return call()

    ours, written_out = side_by_side((call, call_written_out), repeats)
    print(
        f"uniformer  is {written_out / ours:.2f} times as fast as with two matmuls and a softmax",
        flush=True,
    )


# The network that torchvision calls mvit_v1_b: MViT-B 16x4.
MVIT_B_16 = {
    "DATA.NUM_FRAMES": 16,
    "MVIT.DEPTH": 16,
    "MVIT.POOL_KVQ_KERNEL": [3, 3, 3],
    "MVIT.DIM_MUL": [[1, 2.0], [3, 2.0], [14, 2.0]],
    "MVIT.HEAD_MUL": [[1, 2.0], [3, 2.0], [14, 2.0]],
    "MVIT.POOL_Q_STRIDE": [[1, 1, 2, 2], [3, 1, 2, 2], [14, 1, 2, 2]],
}


def baseline_mvit(repeats: int) -> None:
    """MViT-B 16x4 against torchvision's, which has the same parameters, on the same 16 x 224 clip."""
    import torch
    import torchvision

    clip = torch.randn(1, 3, 16, 224, 224)
    overrides = [item for pair in MVIT_B_16.items() for item in pair]
    models = (build("mvit", overrides), torchvision.models.video.mvit_v1_b(num_classes=11).eval())
    sizes = [sum(parameter.numel() for parameter in model.parameters()) for model in models]
    assert sizes[0] == sizes[1], sizes

    def forward(model: nn.Module) -> Callable[[], Tensor]:
        def call() -> Tensor:
            with torch.inference_mode():
                return model(clip)

        return call

    ours, theirs = side_by_side([forward(model) for model in models], repeats)
    ratio = theirs / ours
    print(
        f"mvit       B 16x4, 16x224: {ours:.2f} s, {ratio:.2f} times as fast as torchvision's mvit_v1_b",
        flush=True,
    )


def training_row(name: str, repeats: int) -> None:
    """Print the seconds of a training step (forward, backward) of one 16 x 112 clip."""
    import torch

    crop = [
        "DATA.NUM_FRAMES",
        TRAIN_SHAPE[2],
        "DATA.TRAIN_CROP_SIZE",
        TRAIN_SHAPE[3],
        "DATA.TEST_CROP_SIZE",
        112,
    ]
    model, clip = build(name, crop).train(), torch.randn(TRAIN_SHAPE)
    for precision, dtype in (("fp32", torch.float32), ("bf16", torch.bfloat16)):

        def step(dtype: Any = dtype) -> None:
            model.zero_grad(set_to_none=True)
            with torch.autocast("cpu", dtype=dtype, enabled=dtype != torch.float32):
                loss = model(clip).square().sum()
            loss.backward()

        print(
            f"{name:10s} train step 16x112 {precision}: {fastest(step, repeats):.2f} s", flush=True
        )


def find_videos(folder: Path, count: int) -> list[Path]:
    """Up to `count` videos below a folder, evenly from their sorted paths.

    Raises:
        UserError: if there is none.
    """
    found = sorted(
        path
        for path in folder.rglob("*")
        if path.suffix.lower() in (".mp4", ".avi", ".mkv", ".webm")
    )
    if not found or count < 1:
        raise UserError(
            f"--clips {folder}, --videos {count}: no video to measure; expected .mp4, .avi, .mkv or .webm"
        )
    return (
        [found[number * len(found) // count] for number in range(count)]
        if count < len(found)
        else found
    )


@contextlib.contextmanager
def chosen_videos(arguments: Any) -> Iterator[list[Path]]:
    """The videos of `--clips` and `--videos`; a line says which."""
    import tempfile

    from nightcrawler.synthetic.dataset import DatasetSpec, write_dataset

    with tempfile.TemporaryDirectory() as folder:
        clips = arguments.clips
        if clips is None:
            clips = Path(folder)
            write_dataset(clips, DatasetSpec(0, 1, 1, 1, 1, 1, height=240, width=320), 2, False)
        videos = find_videos(clips, arguments.videos)
        print(
            f"{len(videos)} videos of {arguments.clips or 'synthetic night, 240x320'}", flush=True
        )
        yield videos


def measure_data(arguments: Any) -> None:
    """Print the figures of the data path, of one thread."""
    import torch

    from benchmarks.data_speed import PARTS

    torch.set_num_threads(1)
    with chosen_videos(arguments) as videos:
        for part in sorted(set(arguments.only or PARTS)):
            for line in PARTS[part](videos, arguments.repeats):
                print(line, flush=True)


def measure_damage(arguments: Any) -> None:
    """Print what comes of damaged videos."""
    from benchmarks.damage import study

    with chosen_videos(arguments) as videos:
        for line in study(videos):
            print(line, flush=True)


def main(argv: Sequence[str]) -> int:
    """Measure and print."""
    arguments = parse(argv)
    tasks = {
        "models": measure_models,
        "data": measure_data,
        "damage": measure_damage,
        "chain": measure_chain,
    }
    tasks[arguments.what](arguments)
    return 0


def measure_chain(arguments: Any) -> None:
    """Print what the chain takes, in a process of its own, and whether the order of rows changes what it says."""
    import multiprocessing
    import tempfile

    from benchmarks.chain_speed import OUTPUTS, run_chain, same_rows, write_models

    for name in ("videos", "classes", "models"):
        if getattr(arguments, name) < 2:
            raise UserError(f"--{name} {getattr(arguments, name)}: expected 2 or more")
    with (
        tempfile.TemporaryDirectory() as folder,
        multiprocessing.get_context("spawn").Pool(1, None, (), 1) as pool,
    ):
        outs = [Path(folder) / name for name in ("in_order", "shuffled")]
        for seed, out in enumerate(outs):
            out.mkdir()
            paths = write_models(out, arguments.videos, arguments.classes, arguments.models, seed)
            found = pool.apply(run_chain, (paths, out))
            for path in paths:
                path.unlink()
            parts = ", ".join(
                f"{name} {value:.1f}" for name, value in found.items() if name != "peak_gib"
            )
            total = sum(found.values()) - found["peak_gib"]
            print(
                f"{out.name}: {total:.1f} s ({parts}), peak {found['peak_gib']:.2f} GiB", flush=True
            )
        alike = all(same_rows(outs[0] / name, outs[1] / name) for name in OUTPUTS)
    print(
        f"{arguments.videos:,} videos x {arguments.classes} classes x {arguments.models} models",
        end=": ",
    )
    print("the same rows in any order" if alike else "ROWS DIFFER")
    if not alike:
        raise UserError("the order of rows in results files changes what the chain says")


def measure_models(arguments: Any) -> None:
    """Print the figures of the models."""
    import torch

    if arguments.threads:
        torch.set_num_threads(arguments.threads)
    names, repeats = arguments.only or list(CONFIGS), arguments.repeats
    dtypes = {"fp32": torch.float32, "bf16": torch.bfloat16}
    peaks = {precision: gemm_peak(dtype, repeats) for precision, dtype in dtypes.items()}
    print(f"{torch.get_num_threads()} threads, torch {torch.__version__}")
    print(
        ", ".join(f"{precision} GEMM peak {peak:.1f} GFLOP/s" for precision, peak in peaks.items()),
        flush=True,
    )
    for name in names:
        forward_row(name, peaks, repeats)
    if "uniformer" in names:
        baseline_uniformer(repeats)
    if "mvit" in names:
        baseline_mvit(repeats)
    for name in [] if arguments.skip_training else names:
        training_row(name, repeats)


if __name__ == "__main__":
    sys.exit(run(main))
