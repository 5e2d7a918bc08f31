"""Checks of an installation and its machine: Python, libraries, devices, disk space."""

from __future__ import annotations

import os
import platform
import re
import shutil
import tempfile
import tomllib
from collections.abc import Callable
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path

import av
import torch

from nightcrawler import __version__
from nightcrawler.utils.versions import DISTRIBUTION

MIN_PYTHON = (3, 11)
MIN_FREE_GIB = 5.0
MIN_SHM_GIB = 1.0
FFMPEG_LIBRARIES = ("libavcodec", "libavformat", "libavutil")
DECODERS = ("h264", "mpeg4", "hevc")
ENCODERS = ("libx264", "mpeg4")
# Of a source checkout, which may be used without being installed.
PYPROJECT = Path(__file__).resolve().parents[2] / "pyproject.toml"
# Such as `onnx>=1.20; extra == "export"`: name, lowest version, extra.
REQUIREMENT = re.compile(
    r"([\w.-]+)(?:\[[\w, -]*\])?\s*(?:>=\s*([\w.]+))?(?:.*extra == [\"']([\w-]+)[\"'])?"
)
MAX_REASON_CHARS = 200


@dataclass(frozen=True)
class Check:
    """Outcome of one check.

    Attributes:
        name: subject of the check.
        ok: True where nothing needs to be done.
        found: versions, sizes or faults that were found.
        advice: action to take where the check failed.
    """

    name: str
    ok: bool
    found: str
    advice: str = ""


@dataclass(frozen=True)
class Requirement:
    """A library that this package needs.

    Attributes:
        name: name of the library's distribution.
        least: lowest version that works, `0` for any.
        extra: extra that needs it, empty where it is always needed.
    """

    name: str
    least: str
    extra: str


def guarded(name: str, check: Callable[[], Check]) -> Check:
    """Run a check, and turn its own exception into a failed check of one line.

    Args:
        name: subject of the check.
        check: the check.
    """
    try:
        return check()
    except Exception as error:
        # A broken library fails in any way. The user needs the reason, not a traceback.
        lines = str(error).strip().splitlines() or [""]
        found = f"{type(error).__name__}: {lines[0][:MAX_REASON_CHARS]}"
        return Check(name, False, found, "see INSTALL.md, or install again")


def check_python() -> Check:
    """Check the version of Python."""
    wanted = ".".join(map(str, MIN_PYTHON))
    version = tuple(map(int, platform.python_version_tuple()[:2]))
    found = f"{platform.python_version()}, nightcrawler {__version__}"
    return Check("python", version >= MIN_PYTHON, found, f"install Python {wanted} or newer")


def requirements() -> list[Requirement]:
    """Return the libraries that this package needs, with those of its extras.

    They come from the installed distribution, or from `pyproject.toml` in a checkout that is not
    installed. The list is empty where neither exists.
    """
    try:
        texts = metadata.requires(DISTRIBUTION) or []
    except metadata.PackageNotFoundError:
        texts = _checkout_requirements()
    found = []
    for text in texts:
        match = REQUIREMENT.match(text)
        # An extra may name other extras of this distribution, which are listed on their own.
        if match and match[1] != DISTRIBUTION:
            found.append(Requirement(match[1], match[2] or "0", match[3] or ""))
    return found


def _checkout_requirements() -> list[str]:
    """Return the requirements in `pyproject.toml`, in the form of installed metadata."""
    try:
        project = tomllib.loads(PYPROJECT.read_text(encoding="utf-8"))["project"]
    except (OSError, ValueError, KeyError):
        return []
    texts = list(project.get("dependencies", []))
    for extra, lines in project.get("optional-dependencies", {}).items():
        texts += [f'{line}; extra == "{extra}"' for line in lines]
    return texts


def installed(name: str) -> str | None:
    """Return the version of an installed distribution, None where it is absent."""
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return None


def _numbers(version: str) -> tuple[int, ...]:
    """Return the first three numbers of a version, without its local part (`+cpu`)."""
    return tuple(int(number) for number in re.findall(r"\d+", version.split("+")[0])[:3])


def check_libraries() -> Check:
    """Check the versions of the libraries that are always needed."""
    needed = [requirement for requirement in requirements() if not requirement.extra]
    if not needed:
        found = f"{DISTRIBUTION} is not installed, so its requirements are unknown"
        return Check("libraries", False, found, f"pip install {DISTRIBUTION}")
    shown = []
    wrong = []
    for requirement in needed:
        version = installed(requirement.name)
        shown.append(f"{requirement.name} {version or 'absent'}")
        if version is None or _numbers(version) < _numbers(requirement.least):
            wrong.append(f"'{requirement.name}>={requirement.least}'")
    return Check("libraries", not wrong, ", ".join(shown), f"pip install {' '.join(wrong)}")


def check_extras() -> Check:
    """List optional libraries. An absent one is not a fault."""
    # A library may be named twice, with other releases for other versions of Python.
    extras: dict[str, dict[str, None]] = {}
    for requirement in requirements():
        if requirement.extra:
            version = installed(requirement.name) or "absent"
            extras.setdefault(requirement.extra, {})[f"{requirement.name} {version}"] = None
    shown = [f"[{extra}] {', '.join(names)}" for extra, names in extras.items()]
    return Check("optional", True, "; ".join(shown) or "none")


def check_ffmpeg() -> Check:
    """Check FFmpeg inside PyAV for the codecs that are needed."""
    found = []
    for name in FFMPEG_LIBRARIES:
        found.append(f"{name} {'.'.join(map(str, av.library_versions[name]))}")
    lacking = [f"no decoder {name}" for name in DECODERS if not _has_codec(name, "r")]
    lacking += [f"no encoder {name}" for name in ENCODERS if not _has_codec(name, "w")]
    advice = "pip install --force-reinstall av (its wheels hold FFmpeg)"
    return Check("ffmpeg", not lacking, ", ".join(found + lacking), advice)


def _has_codec(name: str, mode: str) -> bool:
    try:
        av.Codec(name, mode)  # type: ignore[arg-type] # its stub wants a literal "r" or "w"
    except ValueError:
        return False
    return True


def check_devices() -> Check:
    """List processors, threads, memory and GPUs. A GPU that PyTorch cannot use is a fault."""
    usable = os.cpu_count()
    if hasattr(os, "sched_getaffinity"):
        # Containers and batch systems bind processes to some of the processors.
        usable = len(os.sched_getaffinity(0))
    memory_gib = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    found = [
        f"{usable} of {os.cpu_count()} CPUs, {torch.get_num_threads()} threads, "
        f"{memory_gib:.1f} GiB memory"
    ]
    num_gpus = torch.cuda.device_count()
    for index in range(num_gpus):
        gpu = torch.cuda.get_device_properties(index)
        found.append(f"GPU {index}: {gpu.name}, {gpu.total_memory / 2**30:.1f} GiB")
    if torch.version.cuda and not torch.cuda.is_available() and Path("/dev/nvidia0").exists():
        found.append("a GPU that torch cannot use")
        advice = "repair the driver, or install the torch wheel of the driver's CUDA version"
        return Check("devices", False, ", ".join(found), advice)
    if not num_gpus:
        found.append("no GPU: experiments run on the CPU")
    return Check("devices", True, ", ".join(found))


def check_disk(folder: Path, name: str, least_gib: float, advice: str) -> Check:
    """Check the free space of the file system that holds a folder.

    Args:
        folder: any folder of the file system.
        name: subject of the check.
        least_gib: free space needed, in GiB.
        advice: action to take where space is short.
    """
    free_gib = shutil.disk_usage(folder).free / 2**30
    return Check(name, free_gib >= least_gib, f"{free_gib:.1f} GiB free in {folder}", advice)


def check_shared_memory() -> Check:
    """Check the space through which data loader processes pass batches."""
    # Named to look at its size. Nothing is written there.
    folder = Path("/dev/shm")  # noqa: S108
    if not folder.is_dir():
        return Check("shared memory", True, "no /dev/shm on this system")
    advice = "run the container with --shm-size 8g (or --ipc=host), or use no data loader processes"
    return check_disk(folder, "shared memory", MIN_SHM_GIB, advice)


def check_writable(folder: Path) -> Check:
    """Check that files can be created in the folder of the experiments.

    Args:
        folder: folder of the project.
    """
    try:
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        found = f"{folder} cannot be written to: {error.strerror}"
        advice = "change the folder's owner, or write outputs to another folder"
        return Check("project folder", False, found, advice)
    return Check("project folder", True, f"{folder} can be written to")
