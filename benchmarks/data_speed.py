"""Cost of the data path beside other ways to do the same, as ratios of one run."""

from __future__ import annotations

import functools
import importlib.util
import itertools
import os
import random
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
from torchvision.transforms import functional as pictures

from nightcrawler.data.augment.pipeline import TrainTransform, draw_crop
from nightcrawler.data.batch_sampler import SampleKey
from nightcrawler.data.dataset import ClipDataset, MultiViewClips, TrainClips
from nightcrawler.data.frame_sampling import random_segment_indices, segment_indices
from nightcrawler.data.lists import VideoItem
from nightcrawler.data.transforms import eval_crops, normalise, spatial_crop, to_clip
from nightcrawler.data.video.decode import FileReader, read_frames
from nightcrawler.utils.errors import UserError
from nightcrawler.utils.timing import race

NUM_FRAMES = 32
SIZE = 224
NUM_COPIES = 2
SEED = 0
MEAN = (0.45, 0.45, 0.45)
STD = (0.225, 0.225, 0.225)
# The published augmentation.
POLICY = "rand-m7-n4-mstd0.5-inc1"
SCALE = (0.08, 1.0)
ASPECT = (0.75, 1.3333)
FLIP_PROB = 0.5
ERASE_PROB = 0.25
# Epochs that are averaged: the cost of an augmentation depends on the drawn operations.
NUM_DRAWS = 4

Calls = Mapping[str, Callable[[], object]]
Choose = Callable[[int], Sequence[int]]


def race_over(
    subjects: Sequence[Any], make_calls: Callable[[Any], Calls], repeats: int
) -> dict[str, float]:
    """Return the mean seconds of processor time of each call over several subjects.

    Processor time does not count other programs.

    Args:
        subjects: such as videos.
        make_calls: returns the calls of a subject by name.
        repeats: rounds, of which the fastest counts.
    """
    totals: dict[str, float] = {}
    for subject in subjects:
        for name, seconds in race(make_calls(subject), repeats, time.process_time).items():
            totals[name] = totals.get(name, 0.0) + seconds
    return {name: total / len(subjects) for name, total in totals.items()}


def against(seconds: Mapping[str, float], target: float = 0.0) -> Iterator[str]:
    """Yield a line for each call: its time, and its ratio to the time of the first call.

    Args:
        seconds: of each call, our own first.
        target: smallest ratio of the second call that is aimed at, 0 for none.
    """
    ours, *others = seconds
    yield f"  {ours:58s} {1e3 * seconds[ours]:8.1f} ms"
    for name in others:
        goal = ""
        if target and name == others[0]:
            goal = f"  (target {target:g} or more)"
        ratio = seconds[name] / seconds[ours]
        yield f"  {name:58s} {1e3 * seconds[name]:8.1f} ms {ratio:7.2f} x{goal}"


def pick_frames(num_frames: int) -> list[int]:
    """Return 32 frame numbers, evenly spread over a video, each once in a short one."""
    return np.unique(segment_indices(num_frames, NUM_FRAMES)).tolist()


def plain_decode(path: Path) -> np.ndarray:
    """Decode every frame as PyAV gives it, uint8 `[T, H, W, 3]`."""
    with av.open(str(path)) as container:
        container.streams.video[0].thread_type = "NONE"
        return np.stack([frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)])


def converter_decode(path: Path) -> np.ndarray:
    """Decode every frame with one converter for all, uint8 `[T, H, W, 3]`.

    The difference to our reader is the gain from leaving frames out.
    """
    # A converter keeps its tables from frame to frame.
    converter = VideoReformatter()
    with av.open(str(path)) as container:
        container.streams.video[0].thread_type = "NONE"
        frames = container.decode(video=0)
        arrays = []
        for frame in frames:
            arrays.append(converter.reformat(frame, format="rgb24", threads=1).to_ndarray())
        return np.stack(arrays)


def _torchcodec_calls(path: Path) -> Calls:
    try:
        from nightcrawler.data.video.torchcodec import TorchcodecReader, import_decoder

        import_decoder()
    except UserError:
        return {}
    return {
        f"torchcodec, {NUM_FRAMES} frames": lambda: read_frames(
            TorchcodecReader(), path, pick_frames
        )
    }


def opencv_decode(path: Path) -> np.ndarray:
    """Read the wanted frames by OpenCV, which decodes the others without converting them."""
    cv2: Any = importlib.import_module("cv2")
    # All ways are measured on one thread.
    cv2.setNumThreads(1)
    reader = cv2.VideoCapture(str(path))
    frames = []
    wanted = set(pick_frames(int(reader.get(cv2.CAP_PROP_FRAME_COUNT))))
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
    """Yield lines of part (a): 32 frames of a video."""

    def calls(path: Path) -> Calls:
        return {
            f"ours, {NUM_FRAMES} frames": lambda: read_frames(FileReader(), path, pick_frames),
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
    """Make one crop of one of three views the usual way.

    All frames are converted to floats, normalised, resized and cropped.

    Args:
        path: the video.
        read: returns chosen frames.
        view: number of the view.
        crop: number of the crop.
    """
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
    """Yield lines of part (b): 3 x 3 test clips of a video."""
    dataset = ClipDataset(
        make_items(paths),
        FileReader(),
        MultiViewClips(_view, _crops, [(3, 3)]),
        SEED,
        replace_bad=False,
    )

    def calls(number: int) -> Calls:
        def nine(read: Callable[[Path, Choose], np.ndarray]) -> list[Tensor]:
            clips = []
            for view, crop in itertools.product(range(3), range(3)):
                clips.append(single_clip(paths[number], read, view, crop))
            return clips

        return {
            "ours, all from one decode": lambda: dataset[SampleKey(number, 0)],
            "nine single clips, each by our decode": lambda: nine(_read),
            "nine single clips, each by a plain PyAV decode": lambda: nine(_read_plain),
        }

    yield "(b) 3 views x 3 crops of a video"
    yield from against(race_over(range(len(paths)), calls, repeats), target=4)


def train_clips() -> TrainClips:
    """Return the published augmentation with two copies of each clip."""
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
    """Apply the same policy the usual way: PIL pictures through timm one by one, then tensors."""
    from timm.data.auto_augment import rand_augment_transform
    from timm.data.random_erasing import RandomErasing

    policy = rand_augment_transform(
        POLICY, {"img_mean": (128,) * 3, "interpolation": Image.Resampling.BILINEAR}
    )
    # One picture after the other, as most training code does.
    augmented = []
    for frame in frames:
        # timm draws from the global generators. All frames of a clip get the same draws.
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
    """Make a training sample of per-frame copies, float32 `[NUM_COPIES, 3, T, h, w]`.

    Args:
        path: the video, decoded as ours are.
        draw: seed of the copies.
    """
    rng = np.random.default_rng(draw)
    # Asked twice: once for the frames to decode, once for their order.
    drawn = functools.cache(
        functools.partial(random_segment_indices, rng=rng, num_frames=NUM_FRAMES)
    )
    frames = _read(path, lambda num_frames: drawn(num_frames).tolist())
    return torch.stack([per_frame_copy(frames, 100 * draw + copy) for copy in range(NUM_COPIES)])


def measure_augment(paths: Sequence[Path], repeats: int) -> Iterator[str]:
    """Yield lines of part (c): two augmented copies of 32 x 224 x 224 from a video."""
    dataset = ClipDataset(make_items(paths), FileReader(), train_clips(), SEED, replace_bad=True)

    def calls(number: int) -> Calls:
        return {
            "ours": lambda: [dataset[SampleKey(number, draw)] for draw in range(NUM_DRAWS)],
            "per frame through PIL and timm, decoded as ours": lambda: [
                per_frame_sample(paths[number], draw) for draw in range(NUM_DRAWS)
            ],
        }

    yield f"(c) {NUM_DRAWS} training samples of {NUM_COPIES} copies, {NUM_FRAMES}x{SIZE}x{SIZE}"
    yield from against(race_over(range(len(paths)), calls, repeats), target=3)


def make_items(paths: Sequence[Path]) -> list[VideoItem]:
    """Return the rows of a list that names the videos."""
    return [VideoItem(path.name, 0, path, row) for row, path in enumerate(paths, start=1)]
