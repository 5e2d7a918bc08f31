"""Speed of models as ratios: to this machine's matrix products, and to other implementations."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from unittest import mock

import torch
import torchvision
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.flop_counter import FlopCounterMode

from benchmarks.timer import fastest, side_by_side
from nightcrawler.config.load import load_experiment
from nightcrawler.models.build import build_model

CONFIGS = {"uniformer": "uniformer_b32_k600", "mvit": "mvit_b32_k600", "slowfast": "sf32_k700"}
# Small products are limited by overhead, large ones by memory: the best of these is the peak.
GEMM_SIDES = (1024, 2048, 4096)
# Batch, channels, frames, height and width.
FORWARD_SHAPE = (1, 3, 32, 224, 224)
TRAIN_SHAPE = (1, 3, 16, 112, 112)
PRECISIONS = {"fp32": torch.float32, "bf16": torch.bfloat16}
LAYOUTS = {"contiguous": torch.contiguous_format, "channels last": torch.channels_last_3d}
# MViT-B 16x4, the network that torchvision calls mvit_v1_b.
MVIT_B_16 = (
    *("DATA.NUM_FRAMES", 16),
    *("MVIT.DEPTH", 16),
    *("MVIT.POOL_KVQ_KERNEL", [3, 3, 3]),
    *("MVIT.DIM_MUL", [[1, 2.0], [3, 2.0], [14, 2.0]]),
    *("MVIT.HEAD_MUL", [[1, 2.0], [3, 2.0], [14, 2.0]]),
    *("MVIT.POOL_Q_STRIDE", [[1, 1, 2, 2], [3, 1, 2, 2], [14, 1, 2, 2]]),
)


def measure_models(names: Sequence[str], repeats: int, skip_training: bool) -> Iterator[str]:
    """Yield lines on forward passes, baselines and training steps.

    Args:
        names: keys of `CONFIGS`.
        repeats: runs of each call, of which the fastest counts.
        skip_training: measure forward passes only.
    """
    peaks = {precision: gemm_peak(dtype, repeats) for precision, dtype in PRECISIONS.items()}
    yield f"{torch.get_num_threads()} threads, torch {torch.__version__}"
    yield ", ".join(f"{name} GEMM peak {peak:.1f} GFLOP/s" for name, peak in peaks.items())
    for name in names:
        yield from measure_forward(name, peaks, repeats)
    if "uniformer" in names:
        yield compare_attention(repeats)
    if "mvit" in names:
        yield compare_mvit(repeats)
    if not skip_training:
        for name in names:
            yield from measure_training(name, repeats)


def gemm_peak(dtype: torch.dtype, repeats: int) -> float:
    """Return the best rate of square matrix products in GFLOP/s (a multiply-add is two)."""
    best = 0.0
    for side in GEMM_SIDES:
        a = torch.randn(side, side).to(dtype)
        b = torch.randn(side, side).to(dtype)
        seconds = fastest(functools.partial(torch.matmul, a, b), repeats)
        best = max(best, 2e-9 * side**3 / seconds)
    return best


def count_gflops(model: nn.Module, clip: Tensor) -> float:
    """Return the GFLOPs of a forward pass (a multiply-add is two), attention included."""
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        model(clip)
    return counter.get_total_flops() / 1e9


def build(name: str, overrides: Sequence[object] = ()) -> nn.Module:
    """Build a model of `configs/models` with random weights.

    Args:
        name: key of `CONFIGS`.
        overrides: config keys and values in turn.
    """
    # Speed does not depend on the weights, but a fixed seed makes runs alike.
    torch.manual_seed(0)
    texts = [str(item) for item in overrides]
    path = f"configs/models/{CONFIGS[name]}.yaml"
    return build_model(load_experiment(path, overrides=texts)).eval()


def peak_memory_mib(call: Callable[[], object]) -> float:
    """Return the most memory of the process during a call in MiB, NaN on other systems than Linux.

    Args:
        call: to measure. The memory includes everything that exists already, such as weights.
    """
    try:
        # Resets the high-water mark (man 5 proc).
        Path("/proc/self/clear_refs").write_text("5")
        call()
        return read_peak_mib("self")
    except OSError:
        return float("nan")


def read_peak_mib(process: int | str) -> float:
    """Return the high-water mark of a process's memory in MiB, NaN if it is unknown.

    Args:
        process: process id, or `self`.
    """
    try:
        status = Path(f"/proc/{process}/status").read_text(encoding="ascii")
    except OSError:
        return float("nan")
    for line in status.splitlines():
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) / 1024
    return float("nan")


def forward_call(
    model: nn.Module, clip: Tensor, dtype: torch.dtype = torch.float32
) -> Callable[[], Tensor]:
    """Return a function that runs a forward pass with autocast to `dtype`."""

    def call() -> Tensor:
        enabled = dtype != torch.float32
        with torch.inference_mode(), torch.autocast("cpu", dtype=dtype, enabled=enabled):
            return model(clip)

    return call


def measure_forward(name: str, peaks: Mapping[str, float], repeats: int) -> Iterator[str]:
    """Yield the forward figures of one model in each precision and memory layout.

    Args:
        name: key of `CONFIGS`.
        peaks: precision to GFLOP/s of matrix products.
        repeats: runs of each call, of which the fastest counts.
    """
    model = build(name)
    clip = torch.randn(FORWARD_SHAPE)
    # Counted once: precision and layout do not change the operations.
    gflops = count_gflops(model, clip)
    best = dict.fromkeys(PRECISIONS, float("inf"))
    # Convolutions over time are faster in one of the layouts, depending on the CPU.
    for layout, memory_format in LAYOUTS.items():
        model = model.to(memory_format=memory_format)
        clip = clip.to(memory_format=memory_format)
        for precision, dtype in PRECISIONS.items():
            call = forward_call(model, clip, dtype)
            seconds = fastest(call, repeats)
            memory = peak_memory_mib(call)
            best[precision] = min(best[precision], seconds)
            rate = gflops / seconds
            share = 100 * rate / peaks[precision]
            yield (
                f"{name:10s} forward {precision + ' ' + layout:19s} {seconds:7.2f} s "
                f"{rate:7.1f} GFLOP/s {share:5.1f} % of {precision} GEMM peak, {memory:6.0f} MiB"
            )
    yield f"{name:10s} bf16 is {best['fp32'] / best['bf16']:.2f} times as fast as fp32"


def two_matmuls(q: Tensor, k: Tensor, v: Tensor, **options: Tensor | float | None) -> Tensor:
    """Compute attention by two matrix products and a softmax instead of the fused kernel."""
    scale = options.get("scale") or q.shape[-1] ** -0.5
    scores = (q @ k.transpose(-2, -1)) * scale
    mask = options.get("attn_mask")
    if mask is not None:
        scores = scores + mask
    return scores.softmax(dim=-1) @ v


def compare_attention(repeats: int) -> str:
    """Compare UniFormer with the same model with attention written out."""
    model = build("uniformer").to(memory_format=torch.channels_last_3d)
    call = forward_call(model, torch.randn(FORWARD_SHAPE))

    def call_written_out() -> Tensor:
        """Run the same model with another attention function."""
        with mock.patch.object(functional, "scaled_dot_product_attention", two_matmuls):
            return call()

    ours, written_out = side_by_side((call, call_written_out), repeats)
    ratio = written_out / ours
    return f"uniformer  is {ratio:.2f} times as fast as with two matmuls and a softmax"


def compare_mvit(repeats: int) -> str:
    """Compare MViT-B 16x4 with torchvision's, on the same 16 x 224 x 224 clip."""
    clip = torch.randn(1, 3, 16, 224, 224)
    ours = build("mvit", MVIT_B_16)
    theirs = torchvision.models.video.mvit_v1_b(num_classes=11).eval()
    # Both are MViT v1 with 16 blocks, whose sizes must agree.
    sizes = [sum(map(Tensor.numel, model.parameters())) for model in (ours, theirs)]
    # Another number of parameters would make the ratio meaningless.
    assert sizes[0] == sizes[1], sizes
    calls = [forward_call(model, clip) for model in (ours, theirs)]
    seconds, their_seconds = side_by_side(calls, repeats)
    ratio = their_seconds / seconds
    return (
        f"mvit       B 16x4, 16x224: {seconds:.2f} s, "
        f"{ratio:.2f} times as fast as torchvision's mvit_v1_b"
    )


def measure_training(name: str, repeats: int) -> Iterator[str]:
    """Yield the seconds of a forward and backward pass of one 16 x 112 x 112 clip.

    Args:
        name: key of `CONFIGS`.
        repeats: runs of each call, of which the fastest counts.
    """
    size = TRAIN_SHAPE[3]
    overrides = (
        *("DATA.NUM_FRAMES", TRAIN_SHAPE[2]),
        *("DATA.TRAIN_CROP_SIZE", size),
        *("DATA.TEST_CROP_SIZE", size),
    )
    model = build(name, overrides).train()
    clip = torch.randn(TRAIN_SHAPE)
    for precision, dtype in PRECISIONS.items():

        def step(dtype: torch.dtype = dtype) -> None:
            """Run forward and backward, without an optimiser, whose cost is small."""
            model.zero_grad(set_to_none=True)
            with torch.autocast("cpu", dtype=dtype, enabled=dtype != torch.float32):
                loss = model(clip).square().sum()
            loss.backward()

        yield f"{name:10s} train step 16x112 {precision}: {fastest(step, repeats):.2f} s"
