"""Speed of extracting poses beside decoding alone, and cost of predictions by poses."""

from __future__ import annotations

import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import av
import numpy as np

from nightcrawler.data.lists import VideoItem
from nightcrawler.pose.estimators.base import EstimatorOptions
from nightcrawler.pose.layouts import get_layout
from nightcrawler.prepare.extract_poses import ExtractionOptions
from nightcrawler.prepare.pose_files import FAILED, PoseFiles, PoseRecipe
from nightcrawler.utils.errors import UserError
from nightcrawler.utils.registries import ESTIMATORS

TIMEOUT_SEC = 600.0
# Lengths of the videos that are predicted.
SHORT_SEC = 2.0
# Between two looks at the memory of a prediction.
WATCH_SEC = 0.2


class BlindEstimator:
    """See nobody, at once: what is left is decoding, lighting and files."""

    layout = "blazepose33"
    source = "blind"

    def reset(self) -> None:
        """Do nothing."""

    def estimate(self, frames: np.ndarray, fps: float) -> np.ndarray:
        """Return one person of NaN."""
        joints = get_layout(self.layout).num_joints
        return np.full((1, len(frames), joints, 3), np.nan, np.float32)


@ESTIMATORS.register("blind")
def build_blind(options: EstimatorOptions) -> BlindEstimator:
    """Build the estimator that sees nobody."""
    return BlindEstimator()


def measure_poses(
    videos: Sequence[Path], estimator: str, model: str, jobs: int, repeats: int
) -> Iterator[str]:
    """Yield a line for decoding, lighting, the estimator, and the estimator with crops.

    Args:
        videos: Videos to measure.
        estimator: Name of the estimator.
        model: File of its model, empty for its own.
        jobs: Number of processes.
        repeats: Runs, of which the fastest counts.

    Raises:
        UserError: If the estimator cannot be built, or fails.
    """
    whole = ExtractionOptions(search_crops=False)
    blind = PoseRecipe("blind", light="none", looking=whole, imports=(__name__,))
    seeing = replace(blind, estimator=estimator, model=EstimatorOptions(model), light="auto_gamma")
    recipes = {
        "decoding": blind,
        "and lighting": replace(blind, light="auto_gamma"),
        f"and {estimator}": seeing,
        "and crops": replace(seeing, looking=ExtractionOptions()),
    }
    seconds_of_decoding = 0.0
    for name, recipe in recipes.items():
        frames, seconds, cpu_sec = _time(videos, recipe, jobs, repeats)
        seconds_of_decoding = seconds_of_decoding or cpu_sec
        ratio = cpu_sec / seconds_of_decoding
        yield (
            f"{name:16} {frames / seconds:7.1f} frames/s, {1000 * cpu_sec / frames:6.1f} CPU ms a "
            f"frame, {ratio:5.1f} x decoding"
        )


def _time(
    videos: Sequence[Path], recipe: PoseRecipe, jobs: int, repeats: int
) -> tuple[int, float, float]:
    """Return the frames that are looked at, and wall and CPU seconds of the fastest run of each."""
    items = [VideoItem(f"{row}.mp4", -1, path, row) for row, path in enumerate(videos)]
    best = float("inf")
    best_cpu = float("inf")
    frames = 0
    with (
        tempfile.TemporaryDirectory() as folder,
        PoseFiles(Path(folder), recipe, jobs, TIMEOUT_SEC) as files,
    ):
        # Until all processes have started and read their models.
        list(files.make(items[:1] * jobs))
        for _ in range(repeats):
            start = time.perf_counter()
            start_cpu = _cpu_seconds(files.pids)
            rows = list(files.make(items))
            best = min(best, time.perf_counter() - start)
            best_cpu = min(best_cpu, _cpu_seconds(files.pids) - start_cpu)
            failed = [row for row in rows if row.status == FAILED]
            if failed:
                raise UserError(f"{videos[int(failed[0].path[:-4])]}: {failed[0].reason}")
            frames = sum(row.frames for row in rows)
    return frames, best, best_cpu


def _cpu_seconds(pids: Sequence[int]) -> float:
    """Return the CPU seconds of processes so far: other programs hardly disturb them (Linux)."""
    # The clock of a process, as clock_getcpuclockid(3) makes its number.
    return sum(time.clock_gettime((~pid << 3) | 2) for pid in pids)


def measure_predictions(
    video: Path, minutes: float, experiments: Sequence[str], folder: Path
) -> Iterator[str]:
    """Yield a line for the prediction of a short and of a long video, in a process of its own.

    Args:
        video: Repeated until it is long enough.
        minutes: Length of the long video.
        experiments: Models. None of them stands for the mixture of the command.
        folder: For the two videos.

    Raises:
        UserError: If a prediction fails.
    """
    for seconds in (SHORT_SEC, 60 * minutes):
        path = folder / f"{seconds:g}s.mp4"
        repeat_video(video, path, seconds)
        command = [sys.executable, "-m", "nightcrawler", "predict", str(path)]
        for name in experiments:
            command += ["--experiment", name]
        process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
        usage, resident = _watch(process)
        if process.returncode:
            raise UserError(f"nightcrawler predict failed over {seconds:g} s of {video}")
        thirds = ", ".join(f"{most:.0f}" for most in _most_of_thirds(resident))
        yield (
            f"prediction of {seconds:g} s: {usage.ru_utime + usage.ru_stime:.1f} CPU s, largest "
            f"process {usage.ru_maxrss / 1024:.0f} MiB, all together at most {thirds} MiB in each "
            "third of its time"
        )


def _watch(process: subprocess.Popen[bytes]) -> tuple[resource.struct_rusage, list[float]]:
    """Wait for a process.

    Returns:
        What it used, and MiB that were resident in it and all that it started, seen now and then.
    """
    resident = []
    while True:
        resident.append(_resident_mib(process.pid))
        pid, status, usage = os.wait4(process.pid, os.WNOHANG)
        if pid:
            process.returncode = os.waitstatus_to_exitcode(status)
            return usage, resident
        time.sleep(WATCH_SEC)


def _resident_mib(pid: int) -> float:
    """Return the resident memory of a process and of those that it started (Linux)."""
    try:
        pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
        threads = list(Path(f"/proc/{pid}/task").iterdir())
        children = [(thread / "children").read_text().split() for thread in threads]
    except (OSError, IndexError):
        # It has just ended.
        return 0.0
    own = pages * resource.getpagesize() / 2**20
    return own + sum(_resident_mib(int(child)) for found in children for child in found)


def _most_of_thirds(resident: Sequence[float]) -> list[float]:
    """Return the most in each third of a series, whose thirds are alike where memory is flat."""
    return [float(part.max(initial=0.0)) for part in np.array_split(np.array(resident), 3)]


def repeat_video(source: Path, path: Path, seconds: float) -> None:
    """Copy the packets of a video over and over, until the copy lasts so long.

    Args:
        source: A video that begins with a key frame.
        path: The copy.
        seconds: Its length. The last repeat is cut.
    """
    with av.open(str(source)) as given:
        stream = given.streams.video[0]
        assert stream.time_base is not None
        packets = [packet for packet in given.demux(stream) if packet.dts is not None]
        length = max((packet.pts or 0) + (packet.duration or 0) for packet in packets)
        most = int(seconds / stream.time_base)
        with av.open(str(path), "w") as made:
            copied = made.add_stream_from_template(stream)
            for start in range(0, most, length):
                for packet in packets:
                    again = av.Packet(bytes(packet))
                    again.pts = (packet.pts or 0) + start
                    again.dts = (packet.dts or 0) + start
                    again.is_keyframe = packet.is_keyframe
                    again.time_base = stream.time_base
                    again.stream = copied
                    if again.pts < most:
                        made.mux(again)
