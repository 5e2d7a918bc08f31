"""Checks that need videos, models and data, and the list of all checks."""

from __future__ import annotations

import functools
import tempfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch

from nightcrawler.data.lists import read_list
from nightcrawler.data.lowlight.enhance.gamma import apply_gamma
from nightcrawler.data.splits import SPLITS, get_split
from nightcrawler.data.video.decode import FileReader, read_frames
from nightcrawler.download.addresses import holder_of, is_address
from nightcrawler.models.uniformer import UniFormer
from nightcrawler.synthetic.dataset import DatasetSpec, clip_frames, make_plan
from nightcrawler.synthetic.video import write_video
from nightcrawler.utils import doctor
from nightcrawler.utils.doctor import Check, guarded
from nightcrawler.utils.errors import UserError

GAMMA = 0.25
# Mean difference of decoded levels that lossy compression of a small clip stays below.
MAX_CODING_ERROR = 10.0
# The check reads lists of any dataset, so it accepts any class number.
ANY_NUM_CLASSES = 1 << 30


def check_video() -> Check:
    """Check that a dark clip can be rendered, written, decoded and enhanced."""
    spec = DatasetSpec(height=48, width=64)
    plan = next(clip for clip in make_plan(spec).clips if clip.dark)
    # In a file, as coding and decoding are the parts that break with a foreign FFmpeg.
    dark, fps = clip_frames(plan, spec)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "clip.mp4")
        write_video(path, dark, fps)
        frames = read_frames(FileReader(), path, range).frames
    enhanced = apply_gamma(frames, GAMMA)
    error = float(np.abs(frames.astype(float) - dark).mean())
    found = (
        f"{len(frames)} frames, mean level {frames.mean():.1f}, enhanced {enhanced.mean():.1f}, "
        f"mean coding error {error:.1f}"
    )
    is_brighter = bool(enhanced.mean() > frames.mean())
    ok = frames.shape == dark.shape and error < MAX_CODING_ERROR and is_brighter
    return Check("video", ok, found, "pip install --force-reinstall av")


def check_model(device: str) -> Check:
    """Check that a small model runs forward and backward on a device.

    Args:
        device: `cpu` or `cuda`.
    """
    torch.manual_seed(0)
    model = UniFormer(num_classes=11, depth=[1, 1, 1, 1], embed_dim=[8, 8, 16, 16], head_dim=8)
    model = model.to(device)
    clips = torch.rand(2, 3, 4, 32, 32, device=device)
    labels = torch.tensor([0, 1], device=device)
    loss = torch.nn.functional.cross_entropy(model(clips), labels)
    # Training on a GPU fails in the backward pass first where libraries do not fit its driver.
    loss.backward()
    gradients = [parameter.grad for parameter in model.parameters()]
    num_sound = 0
    for gradient in gradients:
        num_sound += gradient is not None and bool(gradient.isfinite().all())
    found = f"loss {loss.item():.3f}, finite gradients of {num_sound} of {len(gradients)} tensors"
    ok = bool(loss.isfinite()) and num_sound == len(gradients)
    advice = "install torch again, from the index of this machine's CUDA version"
    return Check(f"model on {device}", ok, found, advice)


def check_split(data: Path, name: str) -> Check:
    """Check the list of a split, and that its videos exist.

    Args:
        data: data folder.
        name: name of the split.
    """
    split = get_split(name, data)
    advice = (
        "see DATASET.md: tools/prepare_data.py makes lists, tools/check_videos.py checks videos"
    )
    try:
        items = read_list(split.list_file, split.folders, ANY_NUM_CLASSES)
    except UserError as error:
        return Check(f"split {name}", False, str(error), advice)
    here = [item for item in items if not is_address(str(item.path))]
    lacking = [item.name for item in here if not _is_there(item.path)]
    found = f"{split.list_file}: "
    if len(here) < len(items):
        # They are fetched when they are read, which may be long and dear.
        found += f"{len(items) - len(here)} of {len(items)} videos are at addresses; "
    found += f"{len(here) - len(lacking)} of {len(here)} videos are there"
    if lacking:
        found += f", not '{lacking[0]}'"
    return Check(f"split {name}", not lacking, found, advice)


def _is_there(path: Path) -> bool:
    """Return whether a file, or the archive that a video is in, is there."""
    return Path(holder_of(str(path))[0]).is_file()


def all_checks(root: Path, data: Path | None) -> Iterator[Check]:
    """Run every check. The first one that fails usually explains the ones after it.

    Args:
        root: folder of the project.
        data: data folder with lists to check, None for none.
    """
    yield guarded("python", doctor.check_python)
    yield guarded("libraries", doctor.check_libraries)
    yield guarded("optional", doctor.check_extras)
    yield guarded("ffmpeg", doctor.check_ffmpeg)
    yield guarded("devices", doctor.check_devices)
    yield guarded("video", check_video)
    devices = ["cpu"]
    if torch.cuda.is_available():
        devices.append("cuda")
    for device in devices:
        yield guarded(f"model on {device}", functools.partial(check_model, device))
    advice = "free some space: checkpoints and caches take gigabytes"
    check_disk = functools.partial(doctor.check_disk, root, "disk", doctor.MIN_FREE_GIB, advice)
    yield guarded("disk", check_disk)
    yield guarded("shared memory", doctor.check_shared_memory)
    yield guarded("project folder", functools.partial(doctor.check_writable, root))
    if data is None:
        return
    for name in SPLITS:
        yield guarded(f"split {name}", functools.partial(check_split, data, name))
