"""What the data path costs, beside other ways to do the same: ratios of speeds, all measured in turns in one run."""

from __future__ import annotations

import functools
import importlib.util
import multiprocessing
import os
import random
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import av
import numpy as np
import torch
from av.video.reformatter import VideoReformatter
from PIL import Image
from torch import Tensor
from torch.nn import functional
from torch.utils.data import DataLoader
from torchvision.transforms import functional as pictures

from nightcrawler.data.augment.pipeline import TrainTransform, draw_crop
from nightcrawler.data.batch_sampler import ChunkSampler, SampleKey
from nightcrawler.data.cache import CachedReader, DiskCache
from nightcrawler.data.dataset import ClipDataset, MultiViewClips, TrainClips, TrainCollate
from nightcrawler.data.frame_sampling import random_segment_indices, segment_indices
from nightcrawler.data.lists import VideoItem
from nightcrawler.data.transforms import eval_crops, normalise, spatial_crop, to_clip
from nightcrawler.data.video.decode import FileReader, VideoReader, read_frames
from nightcrawler.utils.errors import ConfigError
from nightcrawler.utils.timing import race

NUM_FRAMES, SIZE, NUM_COPIES, BATCH, SEED = 32, 224, 2, 4, 0
MEAN, STD = (0.45,) * 3, (0.225,) * 3
# The published augmentation.
POLICY, SCALE, ASPECT, FLIP_PROB, ERASE_PROB = (
    "rand-m7-n4-mstd0.5-inc1",
    (0.08, 1.0),
    (0.75, 1.3333),
    0.5,
    0.25,
)
# Epochs of the same augmentation that a policy's mean cost is taken over.
NUM_DRAWS = 4
SHORT_SIDE = 128

Calls = Mapping[str, Callable[[], object]]
Choose = Callable[[int], Sequence[int]]


def race_over(
    subjects: Sequence[Any], make_calls: Callable[[Any], Calls], repeats: int
) -> dict[str, float]:
    """The same for several subjects: mean seconds of each call, of the processor: other programs do not count."""
    found = [race(make_calls(subject), repeats, time.process_time) for subject in subjects]
    return {name: sum(seconds[name] for seconds in found) / len(found) for name in found[0]}


def against(seconds: Mapping[str, float], target: float = 0.0) -> Iterator[str]:
    """A line for each call: its time, and how many times as long it takes as the first one."""
    ours, *others = seconds
    yield f"  {ours:58s} {1e3 * seconds[ours]:8.1f} ms"
    for name in others:
        goal = f"  (target {target:g} or more)" if target and name == others[0] else ""
        yield f"  {name:58s} {1e3 * seconds[name]:8.1f} ms {seconds[name] / seconds[ours]:7.2f} x{goal}"


def _pick(num_frames: int) -> list[int]:
    return np.unique(segment_indices(num_frames, NUM_FRAMES)).tolist()


def plain_decode(path: Path) -> np.ndarray:
    """Every frame as PyAV gives it; uint8 `[T, H, W, 3]`."""
    with av.open(str(path)) as container:
        container.streams.video[0].thread_type = "NONE"
        return np.stack([frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)])


def converter_decode(path: Path) -> np.ndarray:
    """The same with one converter for all frames: what is left to gain from leaving frames out."""
    converter = VideoReformatter()
    with av.open(str(path)) as container:
        container.streams.video[0].thread_type = "NONE"
        frames = container.decode(video=0)
        return np.stack(
            [converter.reformat(frame, format="rgb24", threads=1).to_ndarray() for frame in frames]
        )


def _torchcodec_calls(path: Path) -> Calls:
    try:
        from nightcrawler.data.video.torchcodec import TorchcodecReader, import_decoder

        import_decoder()
    except ConfigError:
        return {}
    return {
        f"torchcodec, {NUM_FRAMES} frames": lambda: read_frames(TorchcodecReader(), path, _pick)
    }


def opencv_decode(path: Path) -> np.ndarray:
    """The wanted frames by OpenCV; the others are decoded and not converted."""
    cv2: Any = importlib.import_module("cv2")
    cv2.setNumThreads(1)
    reader, frames = cv2.VideoCapture(str(path)), []
    wanted = set(_pick(int(reader.get(cv2.CAP_PROP_FRAME_COUNT))))
    number = 0
    while reader.grab():
        if number in wanted:
            frames.append(cv2.cvtColor(reader.retrieve()[1], cv2.COLOR_BGR2RGB))
        number += 1
    return np.stack(frames)


def _opencv_calls(path: Path) -> Calls:
    if importlib.util.find_spec("cv2") is None:
        return {}
    os.environ.setdefault("OPENCV_FFMPEG_CAPTURE_OPTIONS", "threads;1")
    return {f"OpenCV, {NUM_FRAMES} frames": lambda: opencv_decode(path)}


def measure_decode(paths: Sequence[Path], repeats: int) -> Iterator[str]:
    """(a) 32 frames of a video."""

    def calls(path: Path) -> Calls:
        return {
            f"ours, {NUM_FRAMES} frames": lambda: read_frames(FileReader(), path, _pick),
            "plain PyAV, to_ndarray of all frames": lambda: plain_decode(path),
            "PyAV, all frames through one converter, no checks": lambda: converter_decode(path),
            **_torchcodec_calls(path),
            **_opencv_calls(path),
        }

    yield f"(a) decode {NUM_FRAMES} frames of a video"
    yield from against(race_over(paths, calls, repeats), target=1.6)


def _same(frames: np.ndarray) -> np.ndarray:
    return frames


def _crops(frames: np.ndarray, num_crops: int) -> Tensor:
    return eval_crops(frames, size=SIZE, num_crops=num_crops, enhance=_same, mean=MEAN, std=STD)


def _view(num_frames: int, view: int, num_views: int) -> np.ndarray:
    return segment_indices(num_frames, NUM_FRAMES, view=view, num_views=num_views)


def single_clip(
    path: Path, read: Callable[[Path, Choose], np.ndarray], view: int, crop: int
) -> Tensor:
    """One crop of one of three views as it is usually made: all frames to numbers, normalised, resized, cut."""
    frames = read(path, lambda num_frames: _view(num_frames, view, 3).tolist())
    return spatial_crop(to_clip(frames, MEAN, STD), SIZE, crop).contiguous()


def _read(path: Path, choose: Choose) -> np.ndarray:
    reader = FileReader()
    decoded = read_frames(reader, path, lambda num_frames: sorted(set(choose(num_frames))))
    return decoded.frames[np.searchsorted(decoded.indices, choose(decoded.num_frames))]


def _read_plain(path: Path, choose: Choose) -> np.ndarray:
    frames = plain_decode(path)
    return frames[choose(len(frames))]


def measure_views(paths: Sequence[Path], repeats: int) -> Iterator[str]:
    """(b) 3 x 3 test clips of a video."""
    dataset = ClipDataset(
        _items(paths),
        FileReader(),
        MultiViewClips(_view, _crops, [(3, 3)]),
        SEED,
        replace_bad=False,
    )

    def calls(number: int) -> Calls:
        def nine(read: Callable[[Path, Choose], np.ndarray]) -> list[Tensor]:
            return [
                single_clip(paths[number], read, view, crop)
                for view in range(3)
                for crop in range(3)
            ]

        return {
            "ours, all from one decode": lambda: dataset[SampleKey(number, 0)],
            "nine single clips, each by our decode": lambda: nine(_read),
            "nine single clips, each by a plain PyAV decode": lambda: nine(_read_plain),
        }

    yield "(b) 3 views x 3 crops of a video"
    yield from against(race_over(range(len(paths)), calls, repeats), target=4)


def train_clips() -> TrainClips:
    """The published augmentation, two copies."""
    transform = TrainTransform(
        size=SIZE,
        scale=SCALE,
        aspect=ASPECT,
        rand_augment=POLICY,
        flip_prob=FLIP_PROB,
        erase_prob=ERASE_PROB,
        erase_mode="pixel",
        erase_count=1,
        mean=MEAN,
        std=STD,
    )
    return TrainClips(
        functools.partial(random_segment_indices, num_frames=NUM_FRAMES),
        _same,
        transform,
        NUM_COPIES,
    )


def per_frame_copy(frames: np.ndarray, seed: int) -> Tensor:
    """The same policy as it is usually applied: PIL pictures through timm, one by one, then to tensors."""
    from timm.data.auto_augment import rand_augment_transform
    from timm.data.random_erasing import RandomErasing

    policy = rand_augment_transform(
        POLICY, {"img_mean": (128,) * 3, "interpolation": Image.Resampling.BILINEAR}
    )
    augmented = []
    for frame in frames:
        random.seed(seed)
        np.random.seed(seed)
        augmented.append(pictures.to_tensor(policy(Image.fromarray(frame))))
    rng = np.random.default_rng(seed)
    clip = normalise(torch.stack(augmented, dim=1), MEAN, STD)
    y, x, h, w = draw_crop(clip.shape[-2], clip.shape[-1], SCALE, ASPECT, rng)
    clip = functional.interpolate(
        clip[..., y : y + h, x : x + w], size=(SIZE, SIZE), mode="bilinear"
    )
    if rng.random() < FLIP_PROB:
        clip = clip.flip(-1)
    erase = RandomErasing(ERASE_PROB, mode="pixel", num_splits=0, device="cpu")
    return erase(clip.flatten(0, 1)).view_as(clip)


def per_frame_sample(path: Path, draw: int) -> Tensor:
    """A training sample of per-frame copies, its frames decoded as ours are; float32 `[NUM_COPIES, 3, T, h, w]`."""
    rng = np.random.default_rng(draw)
    drawn = functools.cache(
        functools.partial(random_segment_indices, rng=rng, num_frames=NUM_FRAMES)
    )
    frames = _read(path, lambda num_frames: drawn(num_frames).tolist())
    return torch.stack([per_frame_copy(frames, 100 * draw + copy) for copy in range(NUM_COPIES)])


def measure_augment(paths: Sequence[Path], repeats: int) -> Iterator[str]:
    """(c) Two augmented copies of 32 x 224 x 224 from a video."""
    dataset = ClipDataset(_items(paths), FileReader(), train_clips(), SEED, replace_bad=True)

    def calls(number: int) -> Calls:
        return {
            "ours": lambda: [dataset[SampleKey(number, draw)] for draw in range(NUM_DRAWS)],
            "per frame through PIL and timm, decoded as ours": lambda: [
                per_frame_sample(paths[number], draw) for draw in range(NUM_DRAWS)
            ],
        }

    yield f"(c) {NUM_DRAWS} training samples of {NUM_COPIES} copies, {NUM_FRAMES}x{SIZE}x{SIZE}"
    yield from against(race_over(range(len(paths)), calls, repeats), target=3)


def measure_cache(paths: Sequence[Path], repeats: int) -> Iterator[str]:
    """(d) An epoch from the disk cache, frames alone and training samples, as stored and scaled down."""
    yield "(d) an epoch after the first, with the disk cache and without: mean of a video"
    for short_side in (0, SHORT_SIDE):
        plain = FileReader(short_side)
        with tempfile.TemporaryDirectory() as folder:
            cache = DiskCache(folder, 16 << 30)
            settings = {"short_side": short_side}
            cached = CachedReader(plain, cache, settings)
            start = time.perf_counter()
            for path in paths:
                read_frames(cached, path, _pick)
            first = (time.perf_counter() - start) / len(paths)
            size = (
                sum(path.stat().st_size for path in Path(folder).rglob("*.clip"))
                / len(paths)
                / 2**20
            )
            scaled = f"short side {short_side}" if short_side else "own size"
            yield f"  {scaled}: {size:.1f} MiB a video, first epoch {1e3 * first:.1f} ms"
            yield from _cache_lines(paths, plain, cached, repeats)


def _cache_lines(
    paths: Sequence[Path], plain: VideoReader, cached: VideoReader, repeats: int
) -> Iterator[str]:
    def frames(path: Path) -> Calls:
        return {
            "frames, with the cache": lambda: read_frames(cached, path, _pick),
            "frames, without": lambda: read_frames(plain, path, _pick),
        }

    yield from against(race_over(paths, frames, repeats), target=2)
    with_cache, without = (
        ClipDataset(_items(paths), reader, train_clips(), SEED, replace_bad=True)
        for reader in (cached, plain)
    )

    def samples(number: int) -> Calls:
        return {
            "training samples, with the cache": lambda: with_cache[SampleKey(number, 1)],
            "training samples, without": lambda: without[SampleKey(number, 1)],
        }

    yield from against(race_over(range(len(paths)), samples, repeats))


def measure_loader(paths: Sequence[Path], repeats: int) -> Iterator[str]:
    """(e) Throughput of the loader, and the memory of its workers."""
    yield f"(e) loader of training samples in batches of {BATCH} videos"
    alone = 0.0
    for workers in (1, 2):
        rate, peaks = loader_rate(paths, workers, repeats)
        alone = alone or rate
        ratio = f", {rate / alone:.2f} x one worker" if workers > 1 else ""
        memory = ", ".join(f"{peak:.0f}" for peak in peaks)
        yield f"  {workers} workers: {rate:6.1f} clips/s{ratio}; peak memory of each {memory} MiB"


def loader_rate(paths: Sequence[Path], workers: int, repeats: int) -> tuple[float, list[float]]:
    """Training clips a second of a loader that is warm, and the peak memory of each worker in MiB."""
    loader: DataLoader[Any] = DataLoader(
        ClipDataset(_items(paths), FileReader(), train_clips(), SEED, replace_bad=True),
        batch_sampler=ChunkSampler(len(paths), BATCH),
        collate_fn=TrainCollate(torch.zeros(len(paths), dtype=torch.int64), None, NUM_COPIES),
        num_workers=workers,
        persistent_workers=True,
        worker_init_fn=_one_thread,
    )
    others = set(multiprocessing.active_children())
    list(loader)  # starts the workers
    seconds = race({"epoch": lambda: sum(1 for _ in loader)}, repeats)["epoch"]
    started = set(multiprocessing.active_children()) - others
    return NUM_COPIES * len(paths) / seconds, [
        _peak_mib(worker.pid) for worker in started if worker.pid
    ]


def _one_thread(_: int) -> None:
    torch.set_num_threads(1)


def _peak_mib(process: int) -> float:
    """Most memory that a process has had, shared pages included, in MiB; Linux only, NaN elsewhere."""
    try:
        status = Path(f"/proc/{process}/status").read_text(encoding="ascii")
    except OSError:
        return float("nan")
    return (
        next(int(line.split()[1]) for line in status.splitlines() if line.startswith("VmHWM:"))
        / 1024
    )


def _items(paths: Sequence[Path]) -> list[VideoItem]:
    return [VideoItem(path.name, 0, path, number) for number, path in enumerate(paths, start=1)]


PARTS: dict[str, Callable[[Sequence[Path], int], Iterator[str]]] = {
    "a": measure_decode,
    "b": measure_views,
    "c": measure_augment,
    "d": measure_cache,
    "e": measure_loader,
}
