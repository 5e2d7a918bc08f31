"""Speed and memory of the method's models on one GPU, and how long its trainings wait for data.

Models are those of `exp_adapt_bn` at full size, with random weights: speed does not depend on them.
"""

from __future__ import annotations

import os
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

from nightcrawler.config.load import load_experiment
from nightcrawler.data.build_clips import clip_shape_of
from nightcrawler.engine.build import build_trainer
from nightcrawler.models.build import build_model
from nightcrawler.models.flops import count_gmacs
from nightcrawler.synthetic.dataset import DatasetSpec, write_dataset
from nightcrawler.utils.errors import UserError

MODELS = ("uniformer_b32_k600", "uniformer_b32_ssv2", "mvit_b32_k600", "sf32_k700")
PRECISIONS = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}
LAYOUTS = {"contiguous": torch.contiguous_format, "channels last": torch.channels_last_3d}
# Sides of square matrix products, of which the fastest is the peak.
GEMM_SIDES = (2048, 4096, 8192)
TINY_SIDES = (256,)
# Operations of a training step over those of a forward pass.
STEP_OVER_FORWARD = 3
# Steps whose waiting for data is measured, after some in which workers start.
WARM_STEPS = 2
WAIT_STEPS = 20
# A rehearsal: the demo's models on clips as small as they take. SlowFast needs 32 frames.
TINY_FRAMES = {"sf32_k700": 32}
TINY_CROP = 32


@dataclass(frozen=True)
class Bench:
    """Settings of a measurement.

    Attributes:
        device: device of the models.
        tiny: small models and clips, to rehearse.
        batch: clips in a call.
        repeats: calls, of which the fastest counts.
    """

    device: torch.device
    tiny: bool
    batch: int
    repeats: int


def choose_device(name: str) -> torch.device:
    """Return the device of a name.

    Args:
        name: `cuda` or `cpu`.

    Raises:
        UserError: if there is no GPU.
    """
    if name == "cuda" and not torch.cuda.is_available():
        raise UserError(
            "--device cuda: this machine has no CUDA device: --device cpu --tiny rehearses"
        )
    return torch.device(name)


def measure_gpu(bench: Bench, names: Sequence[str], workers: Sequence[int]) -> Iterator[str]:
    """Yield lines on the card, forward passes, training steps, and waiting for data.

    Args:
        bench: settings.
        names: some of `MODELS`.
        workers: numbers of loader workers to train with.
    """
    yield _describe_device(bench.device)
    peaks = {}
    for precision in _precisions(bench):
        peaks[precision] = _gemm_peak(bench, PRECISIONS[precision])
        yield f"{precision} GEMM peak {peaks[precision]:.4g} TFLOP/s"
    for name in names:
        yield from _measure_model(bench, name, peaks)
    if not workers:
        return
    with tempfile.TemporaryDirectory() as folder:
        data = Path(folder, "data")
        # Real videos are longer and cost about as much: frames near the chosen ones are decoded.
        size = (96, 128) if bench.tiny else (240, 320)
        spec = DatasetSpec(0, 1 if bench.tiny else 16, 1, 1, 1, 1, *size)
        write_dataset(data, spec, os.cpu_count() or 1)
        for name in names:
            for number in workers:
                yield _measure_waiting(bench, name, number, data)


def _describe_device(device: torch.device) -> str:
    versions = f"torch {torch.__version__}"
    if device.type == "cuda":
        memory = torch.cuda.get_device_properties(device).total_memory / 2**30
        return f"{torch.cuda.get_device_name(device)}, {memory:.0f} GiB, {versions}"
    return f"no GPU: a rehearsal on the CPU, whose figures say nothing about one; {versions}"


def _precisions(bench: Bench) -> list[str]:
    """Return the precisions that a training may have on the device."""
    # Most CPU kernels have no float16 version.
    return [name for name in PRECISIONS if bench.device.type == "cuda" or name != "fp16"]


def _fastest(bench: Bench, call: Callable[[], object]) -> float:
    """Return the seconds of the fastest call, after one that warms up."""
    best = float("inf")
    for number in range(bench.repeats + 1):
        start = time.perf_counter()
        call()
        # Kernels run after the call that starts them.
        if bench.device.type == "cuda":
            torch.cuda.synchronize(bench.device)
        if number:
            best = min(best, time.perf_counter() - start)
    return best


def _gemm_peak(bench: Bench, dtype: torch.dtype) -> float:
    """Return the best rate of square matrix products in TFLOP/s (a multiply-add is two)."""
    best = 0.0
    for side in TINY_SIDES if bench.tiny else GEMM_SIDES:
        a, b = torch.randn(2, side, side, device=bench.device, dtype=dtype)

        def product(a: Tensor = a, b: Tensor = b) -> Tensor:
            return a @ b

        best = max(best, 2e-12 * side**3 / _fastest(bench, product))
    return best


def _config_texts(bench: Bench, name: str) -> tuple[list[Path], list[str]]:
    """Return overlays and overrides of a model's experiment."""
    texts = ["TRAIN.CHECKPOINT_FILE_PATH", "", "DEVICE", bench.device.type, "WRITERS", "[]"]
    if not bench.tiny:
        return [], texts
    frames = TINY_FRAMES.get(name, 4)
    texts += ["DATA.NUM_FRAMES", str(frames), "DATA.CACHE", "none"]
    texts += ["DATA.TRAIN_CROP_SIZE", str(TINY_CROP), "DATA.TEST_CROP_SIZE", str(TINY_CROP)]
    texts += ["TRAIN.BATCH_SIZE", "4", "TRAIN.MICRO_BATCH", "2"]
    return [Path("configs/demo.yaml")], texts


def _measure_model(bench: Bench, name: str, peaks: dict[str, float]) -> Iterator[str]:
    """Yield the figures of one model: each layout and precision, test and training."""
    overlays, texts = _config_texts(bench, name)
    cfg = load_experiment(f"exp_adapt_bn/{name}/config.yaml", overlays, texts)
    torch.manual_seed(0)
    model = build_model(cfg).to(bench.device)
    shape = clip_shape_of(cfg)
    gmacs = count_gmacs(model, (1, *shape))
    clips = torch.randn(bench.batch, *shape, device=bench.device)
    yield f"{name}: clips of {'x'.join(map(str, shape))}, {gmacs:.4g} G multiply-adds each"
    for layout, memory_format in LAYOUTS.items():
        model = model.to(memory_format=memory_format)
        ours = clips.to(memory_format=memory_format)
        for precision, peak in peaks.items():
            for kind, times, call in _calls(bench, model, ours, PRECISIONS[precision]):
                said = _figures(bench, call, times * 2e-3 * gmacs, peak)
                yield f"  {kind:8} {precision} {layout:13} {said}"


def _calls(
    bench: Bench, model: nn.Module, clips: Tensor, dtype: torch.dtype
) -> Iterator[tuple[str, int, Callable[[], object]]]:
    """Yield name, operations over those of a forward pass, and call of a test and of training."""
    autocast = torch.autocast(bench.device.type, dtype=dtype, enabled=dtype != torch.float32)
    scaler = torch.amp.GradScaler(bench.device.type, enabled=dtype == torch.float16)

    def test() -> None:
        model.eval()
        with torch.inference_mode(), autocast:
            model(clips)

    def train() -> None:
        """Run forward and backward, without the optimiser, whose cost is small."""
        model.train()
        model.zero_grad(set_to_none=True)
        with autocast:
            logits = model(clips)
        scaler.scale(logits.float().square().mean()).backward()

    yield "test", 1, test
    yield "training", STEP_OVER_FORWARD, train


def _figures(bench: Bench, call: Callable[[], object], tflop: float, peak: float) -> str:
    """Return rate, share of the peak and memory of a call, or that the memory is too small.

    Args:
        bench: settings.
        call: to measure, of `bench.batch` clips.
        tflop: 10^12 operations of one clip.
        peak: of matrix products, in TFLOP/s.
    """
    is_cuda = bench.device.type == "cuda"
    if is_cuda:
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats(bench.device)
    try:
        seconds = _fastest(bench, call)
    except torch.cuda.OutOfMemoryError:
        return f"{bench.batch} clips do not fit: give a smaller --batch"
    rate = bench.batch / seconds
    # The matrices of a rehearsal are too small to reach the peak.
    share = "" if bench.tiny else f"{100 * rate * tflop / peak:5.1f} % of the GEMM peak, "
    memory = "memory not measured"
    if is_cuda:
        memory = f"{torch.cuda.max_memory_allocated(bench.device) / 2**30:.1f} GiB"
    return f"{rate:9.2f} clips/s, {share}{memory}"


def _measure_waiting(bench: Bench, name: str, workers: int, data: Path) -> str:
    """Return a line on the share of a training's time that it waits for data.

    Args:
        bench: settings.
        name: of the model.
        workers: number of loader workers.
        data: folder of a synthetic dataset.
    """
    overlays, texts = _config_texts(bench, name)
    texts += ["DATA.PATH_PREFIX", str(data), "DATA_LOADER.NUM_WORKERS", str(workers)]
    texts += ["TRAIN.VAL_SPLITS", "[val_dry]", "TRAIN.BEST_SPLIT", "val_dry"]
    if bench.device.type == "cuda":
        texts += ["MODEL.PRECISION", "bf16", "MODEL.CHANNELS_LAST", "True"]
    with tempfile.TemporaryDirectory() as out:
        texts += ["OUTPUT_DIR", out]
        cfg = load_experiment(f"exp_adapt_bn/{name}/config.yaml", overlays, texts)
        step = build_trainer(cfg).train_step
        most = step.stream_losses[0].stream.sampler.num_steps
        for epoch, count in enumerate((WARM_STEPS, 1 if bench.tiny else WAIT_STEPS)):
            step.start_epoch(epoch, 0)
            for _ in range(min(count, most)):
                step.run(1e-5)
            figures = step.throughput.figures()
    rate = f"{figures['clips_per_sec']:.2f} clips/s"
    waits = f"{figures['data_wait_percent']:.0f} %"
    return f"{name}: training with {workers} workers: {rate}, waits for data {waits} of the time"
