"""Cost of the disk cache, and throughput of the loader of training samples."""

from __future__ import annotations

import multiprocessing
import tempfile
import time
from collections import deque
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import torch
from torch.utils.data import DataLoader

from benchmarks.data_speed import (
    NUM_COPIES,
    SEED,
    Calls,
    against,
    make_items,
    pick_frames,
    race_over,
    train_clips,
)
from benchmarks.models_speed import read_peak_mib
from nightcrawler.data.batch_sampler import ChunkSampler, SampleKey
from nightcrawler.data.cache import CachedReader, DiskCache
from nightcrawler.data.dataset import ClipDataset, TrainCollate
from nightcrawler.data.video.decode import FileReader, VideoReader, read_frames
from nightcrawler.utils.timing import race

BATCH = 4
SHORT_SIDE = 128
CACHE_BYTES = 16 << 30


def measure_cache(paths: Sequence[Path], repeats: int) -> Iterator[str]:
    """Yield lines of part (d): an epoch from the disk cache, at own size and scaled down."""
    yield "(d) an epoch after the first, with the disk cache and without: mean of a video"
    for short_side in (0, SHORT_SIDE):
        plain = FileReader(short_side)
        with tempfile.TemporaryDirectory() as folder:
            cached = CachedReader(plain, DiskCache(folder, CACHE_BYTES), {"short_side": short_side})
            # The first epoch fills the cache.
            start = time.perf_counter()
            for path in paths:
                read_frames(cached, path, pick_frames)
            first = (time.perf_counter() - start) / len(paths)
            num_bytes = sum(path.stat().st_size for path in Path(folder).rglob("*.clip"))
            size = num_bytes / len(paths) / 2**20
            scaled = f"short side {short_side}" if short_side else "own size"
            yield f"  {scaled}: {size:.1f} MiB a video, first epoch {1e3 * first:.1f} ms"
            yield from _cache_lines(paths, plain, cached, repeats)


def _cache_lines(
    paths: Sequence[Path], plain: VideoReader, cached: VideoReader, repeats: int
) -> Iterator[str]:
    def frames(path: Path) -> Calls:
        """Return the calls that read frames alone."""
        return {
            "frames, with the cache": lambda: read_frames(cached, path, pick_frames),
            "frames, without": lambda: read_frames(plain, path, pick_frames),
        }

    yield from against(race_over(paths, frames, repeats), target=2)
    # The same seed and epoch: both make the same clips.
    items = make_items(paths)
    with_cache = ClipDataset(items, cached, train_clips(), SEED, replace_bad=True)
    without = ClipDataset(items, plain, train_clips(), SEED, replace_bad=True)

    def samples(number: int) -> Calls:
        """Return the calls that make whole training samples."""
        return {
            "training samples, with the cache": lambda: with_cache[SampleKey(number, 1)],
            "training samples, without": lambda: without[SampleKey(number, 1)],
        }

    yield from against(race_over(range(len(paths)), samples, repeats))


def measure_loader(paths: Sequence[Path], repeats: int) -> Iterator[str]:
    """Yield lines of part (e): throughput of the loader, and the memory of its workers."""
    yield f"(e) loader of training samples in batches of {BATCH} videos"
    # Rate of one worker, which two are compared with.
    alone = 0.0
    for workers in (1, 2):
        rate, peaks = loader_rate(paths, workers, repeats)
        alone = alone or rate
        ratio = f", {rate / alone:.2f} x one worker" if workers > 1 else ""
        memory = ", ".join(f"{peak:.0f}" for peak in peaks)
        yield f"  {workers} workers: {rate:6.1f} clips/s{ratio}; peak memory of each {memory} MiB"


def loader_rate(paths: Sequence[Path], workers: int, repeats: int) -> tuple[float, list[float]]:
    """Measure a loader whose workers run already.

    Args:
        paths: of the videos.
        workers: number of processes.
        repeats: epochs, of which the fastest counts.

    Returns:
        Training clips per second, and the peak memory of each worker in MiB.
    """
    loader: DataLoader[Any] = DataLoader(
        ClipDataset(make_items(paths), FileReader(), train_clips(), SEED, replace_bad=True),
        batch_sampler=ChunkSampler(len(paths), BATCH),
        collate_fn=TrainCollate(torch.zeros(len(paths), dtype=torch.int64), None, NUM_COPIES),
        num_workers=workers,
        persistent_workers=True,
        worker_init_fn=_use_one_thread,
    )
    # Other parts may have left processes behind.
    others = set(multiprocessing.active_children())
    # The first epoch starts the workers, and is not measured.
    list(loader)
    seconds = race({"epoch": lambda: deque(loader, maxlen=0)}, repeats)["epoch"]
    peaks = []
    for worker in set(multiprocessing.active_children()) - others:
        if worker.pid:
            peaks.append(read_peak_mib(worker.pid))
    return NUM_COPIES * len(paths) / seconds, peaks


def _use_one_thread(_: int) -> None:
    # Workers share the cores, and more threads would only compete.
    torch.set_num_threads(1)
