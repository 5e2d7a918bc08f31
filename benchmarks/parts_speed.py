"""Cost of a large prediction beside the models: rows written in parts by workers, then merged."""

from __future__ import annotations

import hashlib
import multiprocessing
import resource
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

from nightcrawler.data.lists import VideoItem
from nightcrawler.predict.merge import merge
from nightcrawler.predict.parts import open_parts, open_run
from nightcrawler.predict.shards import Worker
from nightcrawler.predict.sources import find_videos
from nightcrawler.predict.video_result import VideoResult
from nightcrawler.utils.errors import UserError

LIST = "list.txt"
OUTPUTS = ("predictions.csv", "predictions.npz")
TOP = 5


def measure_parts(num_videos: int, num_classes: int, num_workers: int) -> Iterator[str]:
    """Yield CPU seconds, memory and files of writing parts and of merging them.

    Args:
        num_videos: rows.
        num_classes: probabilities of each row.
        num_workers: processes that write parts, beside one process for the same rows.

    Raises:
        UserError: if the merged results depend on the number of workers.
    """
    context = multiprocessing.get_context("spawn")
    hashes = []
    yield f"{num_videos:,} videos x {num_classes} classes"
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write_list(folder / LIST, num_videos)
        for count in sorted({1, num_workers}):
            out = folder / f"out{count}"
            shards = [(folder, out, num_classes, (index, count)) for index in range(count)]
            # Processes of their own, whose peak memory is theirs alone.
            with context.Pool(count, None, (), 1) as pool:
                written = pool.starmap(write_shard, shards, chunksize=1)
            yield f"{count} workers: {_figures(written)}, {_files_of(out)}"
            with context.Pool(1, None, (), 1) as pool:
                merged = pool.apply(merge_parts, (folder, out))
            yield f"merge: {_figures([merged])}"
            hashes.append([hash_of(out / output) for output in OUTPUTS])
    if any(one != hashes[0] for one in hashes):
        raise UserError("the number of workers changes the merged results")
    if len(hashes) > 1:
        yield "the merged files are the same, byte for byte"


def write_list(path: Path, num_videos: int) -> None:
    """Write a list of videos that do not exist."""
    with open(path, "w", encoding="utf-8") as file:
        file.writelines(
            f"camera{number % 97:02d}/{number:07d}.mp4\n" for number in range(num_videos)
        )


def predict(items: Sequence[VideoItem], num_classes: int) -> Iterator[VideoResult]:
    """Yield a result of each video, which depends on its row only."""
    class_names = tuple(f"class {number}" for number in range(num_classes))
    for item in items:
        rng = np.random.default_rng(item.row)
        logits = rng.standard_normal(num_classes)
        exponentials = np.exp(logits)
        probs = exponentials / exponentials.sum()
        label = int(probs.argmax())
        yield VideoResult(
            name=item.name,
            label=-1,
            status="sure",
            class_names=class_names,
            class_id=label,
            probs=tuple(probs.tolist()),
            logits=tuple(logits.tolist()),
            num_clips=1,
            votes=(label,),
        )


def write_shard(
    folder: Path, out: Path, num_classes: int, shard: tuple[int, int]
) -> tuple[float, float, float]:
    """Write parts as a worker of a prediction does.

    Returns:
        Seconds, CPU seconds, and peak memory in GiB of the process.
    """
    start = time.perf_counter()
    items = find_videos(folder / LIST, num_classes)
    class_names = [f"class {number}" for number in range(num_classes)]
    about = {"models": [], "class_names": class_names, "labels": "label-free", "mixture": {}}
    parts = open_parts(out, open_run(out, about), class_names, len(items))
    Worker(parts, items, shard, lambda due: predict(due, num_classes), lambda _: None).run()
    return time.perf_counter() - start, time.process_time(), _peak_gib()


def merge_parts(folder: Path, out: Path) -> tuple[float, float, float]:
    """Read the list and merge its parts, as the command does; see `write_shard`."""
    start = time.perf_counter()
    merge(out, find_videos(folder / LIST, 1), TOP)
    return time.perf_counter() - start, time.process_time(), _peak_gib()


def hash_of(path: Path) -> str:
    """Return the SHA-256 of a file."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _peak_gib() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20


def _figures(runs: Sequence[tuple[float, float, float]]) -> str:
    seconds, cpu_seconds, peaks = zip(*runs, strict=True)
    return f"{max(seconds):.1f} s, {sum(cpu_seconds):.1f} s of CPU, peak {max(peaks):.2f} GiB each"


def _files_of(out: Path) -> str:
    sizes = [path.stat().st_size for path in out.rglob("*") if path.is_file()]
    return f"{len(sizes)} files of {sum(sizes) / 2**20:.0f} MiB"
