"""Claims of workers on parts of a run, on any file system that processes share.

A claim is a file that is made exclusively and touched again and again. Whoever finds one that was
not touched for `LEASE_SEC`, or whose process on this machine has ended, makes the claim of the next
number. Nothing is locked. Two workers with one part do no harm: either makes the same rows.
"""

from __future__ import annotations

import contextlib
import os
import re
import socket
import tempfile
import threading
from collections.abc import Iterable
from pathlib import Path
from types import TracebackType

# Network file systems show the time of another machine's file up to a minute late.
LEASE_SEC = 180.0
TOUCH_SEC = 15.0
_CLAIM = re.compile(r"(\d{6})\.(\d{1,6})\.claim")


class Claim:
    """Claim on one part, touched by a thread until the block ends.

    Args:
        path: file of the claim, which exists.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._touch, name="claim", daemon=True)

    def __enter__(self) -> Claim:
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._ended.set()
        self._thread.join()
        with contextlib.suppress(OSError):
            self.path.unlink(missing_ok=True)

    def _touch(self) -> None:
        while not self._ended.wait(TOUCH_SEC):
            # Without a time: that of the file system, as the clocks of machines differ.
            with contextlib.suppress(OSError):
                os.utime(self.path)


def claim_part(folder: Path, part: int) -> Claim | None:
    """Claim a part, None where another worker holds it.

    Args:
        folder: folder of the claims.
        part: number of the part, from 0.

    Raises:
        OSError: if the folder cannot be written to.
    """
    numbers = [number for path in folder.glob(f"{part:06d}.*.claim") if (number := _number(path))]
    newest = max(numbers, default=0)
    if newest and not _is_over(_path(folder, part, newest)):
        return None
    path = _path(folder, part, newest + 1)
    try:
        descriptor = os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o666)
    except FileExistsError:
        return None
    with os.fdopen(descriptor, "w", encoding="utf-8") as file:
        file.write(f"{_place()} {os.getpid()} {_started(os.getpid())}\n")
    _remove(_path(folder, part, number) for number in numbers)
    return Claim(path)


def _number(path: Path) -> int:
    match = _CLAIM.fullmatch(path.name)
    return int(match[2]) if match else 0


def _path(folder: Path, part: int, number: int) -> Path:
    return folder / f"{part:06d}.{number}.claim"


def _remove(paths: Iterable[Path]) -> None:
    for path in paths:
        with contextlib.suppress(OSError):
            path.unlink(missing_ok=True)


def _is_over(path: Path) -> bool:
    """Return whether the worker of a claim has ended, or was not heard of for `LEASE_SEC`."""
    try:
        words = path.read_text(encoding="utf-8", errors="replace").split()
        touched = path.stat().st_mtime
    except OSError:
        # Removed in between: its part is done, or free.
        return False
    is_here = len(words) == 3 and words[0] == _place() and words[1].isdecimal()
    # A system without /proc knows no start of a process.
    if is_here and words[2] != "ended":
        return _started(int(words[1])) != words[2]
    return _now(path.parent) - touched > LEASE_SEC


def _now(folder: Path) -> float:
    """Return the time of the file system."""
    with tempfile.TemporaryFile(dir=folder) as file:
        return os.fstat(file.fileno()).st_mtime


def _place() -> str:
    """Return a word for the processes that this one can see: machine, boot, container."""
    boot = namespace = ""
    with contextlib.suppress(OSError):
        boot = Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
        namespace = os.readlink("/proc/self/ns/pid")
    return f"{socket.gethostname()}/{boot}/{namespace}"


def _started(pid: int) -> str:
    """Return when a process of this machine started, `ended` where there is none."""
    try:
        status = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return "ended"
    # Behind the name of the program, which may hold brackets and spaces.
    words = status.rpartition(")")[2].split()
    return "ended" if words[0] in "ZX" else words[19]
