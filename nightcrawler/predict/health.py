"""Checks of an installation and its machine: what is there, whether it works, what to do where it does not."""

from __future__ import annotations

import functools
import os
import platform
import re
import shutil
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path

import av
import numpy as np
import torch

from nightcrawler import __version__
from nightcrawler.data.lists import read_list
from nightcrawler.data.lowlight.enhance.gamma import apply_gamma
from nightcrawler.data.splits import SPLITS, get_split
from nightcrawler.data.video.decode import FileReader, read_frames
from nightcrawler.models.uniformer import UniFormer
from nightcrawler.synthetic.dataset import DatasetSpec, clip_frames, make_plan
from nightcrawler.synthetic.video import write_video
from nightcrawler.utils.errors import UserError

LEAST_PYTHON = (3, 11)
LEAST_FREE_GIB, LEAST_SHM_GIB = 5.0, 1.0
FFMPEG = ("libavcodec", "libavformat", "libavutil")
DECODERS, ENCODERS = ("h264", "mpeg4", "hevc"), ("libx264", "mpeg4")
GAMMA = 0.25
ANY_LABEL = 1 << 30


@dataclass(frozen=True)
class Check:
    """What one check found.

    Attributes:
        name: what was looked at.
        ok: whether it is as it should be.
        found: what there is.
        advice: what to do, where it is not ok.
    """

    name: str
    ok: bool
    found: str
    advice: str = ""


def guarded(name: str, check: Callable[[], Check]) -> Check:
    """A check whose own failure is what it found, in one line."""
    try:
        return check()
    except Exception as error:  # whatever is broken here is what the user wants to know
        reason = str(error).strip().splitlines() or [""]
        return Check(
            name,
            False,
            f"{type(error).__name__}: {reason[0][:200]}",
            "see INSTALL.md, or install anew",
        )


def check_python() -> Check:
    """Python and this package."""
    wanted = ".".join(map(str, LEAST_PYTHON))
    ok = tuple(map(int, platform.python_version_tuple()[:2])) >= LEAST_PYTHON
    return Check(
        "python",
        ok,
        f"{platform.python_version()}, nightcrawler {__version__}",
        f"take Python {wanted}",
    )


def _numbers(version: str) -> tuple[int, ...]:
    return tuple(int(number) for number in re.findall(r"\d+", version.split("+")[0])[:3])


def requirements() -> Iterator[tuple[str, str, str]]:
    """Name, least version and extra (empty: needed always) of all that this package asks for."""
    for text in metadata.requires("nightcrawler") or []:
        found = re.match(r"([\w.-]+)(?:>=([\w.]+))?(?:.*extra == [\"'](\w+)[\"'])?", text)
        assert found is not None, text
        yield found[1], found[2] or "0", found[3] or ""


def check_libraries() -> Check:
    """Versions of the libraries that are needed."""
    shown, wrong = [], []
    for name, least, extra in requirements():
        if extra:
            continue
        version = installed(name)
        shown.append(f"{name} {version or 'absent'}")
        if version is None or _numbers(version) < _numbers(least):
            wrong.append(f"'{name}>={least}'")
    return Check("libraries", not wrong, ", ".join(shown), f"pip install {' '.join(wrong)}")


def installed(name: str) -> str | None:
    """Version of a distribution, if it is there."""
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return None


def check_extras() -> Check:
    """What is optional; nothing of it being absent is wrong."""
    extras: dict[str, list[str]] = {}
    for name, _, extra in requirements():
        if extra:
            extras.setdefault(extra, []).append(f"{name} {installed(name) or 'absent'}")
    shown = [f"[{extra}] {', '.join(names)}" for extra, names in extras.items()]
    return Check("optional", True, "; ".join(shown) or "none")


def check_ffmpeg() -> Check:
    """FFmpeg's libraries in PyAV, and the codecs that are needed."""
    versions = [f"{name} {'.'.join(map(str, av.library_versions[name]))}" for name in FFMPEG]
    lacking = [f"decoder {name}" for name in DECODERS if not _has_codec(name, "r")]
    lacking += [f"encoder {name}" for name in ENCODERS if not _has_codec(name, "w")]
    found = ", ".join([*versions, *(f"no {name}" for name in lacking)])
    return Check(
        "ffmpeg", not lacking, found, "pip install --force-reinstall av (its wheels hold FFmpeg)"
    )


def _has_codec(name: str, mode: str) -> bool:
    try:
        av.Codec(name, mode)  # type: ignore[arg-type]
    except ValueError:
        return False
    return True


def check_devices() -> Check:
    """Processors, threads, memory, GPUs."""
    usable = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    memory_gib = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    found = [
        f"{usable} of {os.cpu_count()} CPUs, {torch.get_num_threads()} threads, {memory_gib:.1f} GiB memory"
    ]
    for index in range(torch.cuda.device_count()):
        about = torch.cuda.get_device_properties(index)
        found.append(f"GPU {index}: {about.name}, {about.total_memory / 2**30:.1f} GiB")
    if torch.version.cuda and not torch.cuda.is_available() and Path("/dev/nvidia0").exists():
        advice = "mend the driver, or install the torch wheel of the driver's CUDA version"
        return Check("devices", False, ", ".join([*found, "a GPU that torch cannot use"]), advice)
    return Check(
        "devices",
        True,
        ", ".join(found if found[1:] else [*found, "no GPU: experiments run on the CPU"]),
    )


def check_video() -> Check:
    """A clip is rendered, darkened, written, decoded and lit."""
    settings = DatasetSpec(height=48, width=64)
    plan = next(clip for clip in make_plan(settings).clips if clip.dark)
    dark, fps = clip_frames(plan, settings)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "clip.mp4")
        write_video(path, dark, fps)
        frames = read_frames(FileReader(), path, range).frames
    lit = apply_gamma(frames, GAMMA)
    far = float(np.abs(frames.astype(float) - dark).mean())
    means = f"mean level {frames.mean():.1f}, lit {lit.mean():.1f}"
    found = f"{len(frames)} frames, {means}, {far:.1f} off what was written"
    ok = frames.shape == dark.shape and far < 10 and bool(lit.mean() > frames.mean())
    return Check("video", ok, found, "pip install --force-reinstall av")


def check_model(device: str) -> Check:
    """A small model goes forward and backward on a device."""
    torch.manual_seed(0)
    model = UniFormer(num_classes=11, depth=[1, 1, 1, 1], embed_dim=[8, 8, 16, 16], head_dim=8).to(
        device
    )
    clip = torch.rand(2, 3, 4, 32, 32, device=device)
    loss = torch.nn.functional.cross_entropy(model(clip), torch.tensor([0, 1], device=device))
    loss.backward()
    gradients = [parameter.grad for parameter in model.parameters()]
    ok = bool(loss.isfinite()) and all(
        one is not None and bool(one.isfinite().all()) for one in gradients
    )
    found = f"loss {loss.item():.3f}, {'finite' if ok else 'lacking or infinite'} gradients of {len(gradients)} tensors"
    return Check(
        f"model on {device}",
        ok,
        found,
        "install torch anew, from the index of this machine's CUDA version",
    )


def check_disk(folder: Path, name: str, least_gib: float, advice: str) -> Check:
    """Free space where `folder` is."""
    free_gib = shutil.disk_usage(folder).free / 2**30
    return Check(name, free_gib >= least_gib, f"{free_gib:.1f} GiB free in {folder}", advice)


def check_shared_memory() -> Check:
    """Space by which loaders' processes hand over batches."""
    folder = Path("/dev/shm")
    if not folder.is_dir():
        return Check("shared memory", True, "no /dev/shm on this system")
    advice = (
        "run the container with --shm-size 8g (or --ipc=host), or set DATA_LOADER.NUM_WORKERS 0"
    )
    return check_disk(folder, "shared memory", LEAST_SHM_GIB, advice)


def check_writable(folder: Path) -> Check:
    """Experiments write into the project's folders."""
    try:
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        advice = "own the folder, or set OUTPUT_DIR to one that you may write to"
        return Check(
            "project folder", False, f"{folder} cannot be written to: {error.strerror}", advice
        )
    return Check("project folder", True, f"{folder} can be written to")


def check_split(data: Path, name: str) -> Check:
    """The list of a split, and how many of its videos are there."""
    split = get_split(name, data)
    advice = "see DATASET.md; tools/prepare_data.py makes the lists, tools/check_videos.py looks into the videos"
    try:
        items = read_list(split.list_file, split.folders, ANY_LABEL)
    except UserError as error:
        return Check(f"split {name}", False, str(error), advice)
    lacking = [item.name for item in items if not item.path.is_file()]
    found = f"{split.list_file}: {len(items) - len(lacking)} of {len(items)} videos are there"
    return Check(
        f"split {name}", not lacking, found + (f", not '{lacking[0]}'" if lacking else ""), advice
    )


def all_checks(root: Path, data: Path | None) -> Iterator[Check]:
    """Every check, in an order in which the first that is wrong explains the others.

    Args:
        root: the project's folder.
        data: a data folder whose lists are checked.
    """
    room = "make room: checkpoints and caches take gigabytes"
    yield guarded("python", check_python)
    yield guarded("libraries", check_libraries)
    yield guarded("optional", check_extras)
    yield guarded("ffmpeg", check_ffmpeg)
    yield guarded("devices", check_devices)
    yield guarded("video", check_video)
    for device in ("cpu", "cuda") if torch.cuda.is_available() else ("cpu",):
        yield guarded(f"model on {device}", functools.partial(check_model, device))
    yield guarded("disk", functools.partial(check_disk, root, "disk", LEAST_FREE_GIB, room))
    yield guarded("shared memory", check_shared_memory)
    yield guarded("project folder", functools.partial(check_writable, root))
    for name in SPLITS if data else ():
        yield guarded(f"split {name}", functools.partial(check_split, data, name))
