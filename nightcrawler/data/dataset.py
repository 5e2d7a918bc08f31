"""The dataset: one video in, the clips that training, adaptation or testing wants out, from one decode."""

from __future__ import annotations

import zlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset

from nightcrawler.data.batch_sampler import SampleKey
from nightcrawler.data.lists import VideoItem
from nightcrawler.data.transforms import join_clips
from nightcrawler.data.video.decode import VideoReader, read_frames
from nightcrawler.utils.errors import VideoError

MAX_REPLACEMENTS = 10
STATUS_OK = "ok"

# Lit frames uint8 `[T, H, W, 3]` and S generators to clips float32 `[S, 3, T, h, w]`.
Transform = Callable[[Tensor, Sequence[np.random.Generator]], Tensor]


@dataclass(frozen=True)
class DeferredClips:
    """Clips that are still to be made, and all it takes.

    Attributes:
        frames: uint8 `[T, H, W, 3]`.
        transform: makes clips of them.
        rngs: a generator for each clip.
    """

    frames: Tensor
    transform: Transform
    rngs: list[np.random.Generator]

    def pin_memory(self) -> DeferredClips:
        """The same in memory that a GPU copies from at once; loaders call this."""
        return replace(self, frames=self.frames.pin_memory())

    def made(self, device: torch.device) -> Tensor:
        """The clips, float32 `[S, 3, T, h, w]`, made on a device."""
        return self.transform(self.frames.to(device, non_blocking=True), self.rngs)


def clips_on(clips: Tensor | Sequence[DeferredClips], device: torch.device) -> Tensor:
    """A training batch's clips `[B, 3, T, h, w]` on a device: moved there, or made there."""
    if isinstance(clips, Tensor):
        return clips.to(device, non_blocking=True)
    return join_clips([raw.made(device) for raw in clips])


class ClipBuilder(Protocol):
    """Turns one decoded video into clips."""

    def frames(self, num_frames: int, rng: np.random.Generator) -> list[np.ndarray]:
        """Frame indices of each temporal view, int64 `[T]`, for a video of `num_frames` frames."""
        ...

    def clips(
        self, views: list[np.ndarray], rng: np.random.Generator
    ) -> tuple[Tensor | DeferredClips, dict[tuple[int, int], list[int]]]:
        """Clips float32 `[S, 3, T, h, w]` from each view's frames uint8 `[T, H, W, 3]`, and their members.

        Members say, for each (views, crops) pair, which of the S clips belong to it.
        """
        ...


@dataclass(frozen=True)
class BadVideo:
    """A video that could not be used: its name, why, and at which stage that was noticed."""

    name: str
    cause: str
    where: str


def sample_rng(seed: int, epoch: int, name: str) -> np.random.Generator:
    """The generator of one video's draws in one epoch: a pure function of (seed, epoch, name)."""
    return np.random.default_rng([seed, epoch, zlib.crc32(name.encode("utf-8")), len(name)])


class ClipDataset(Dataset[dict[str, Any]]):
    """Videos of one list.

    A sample is a dict: `index` of the video, `clip` float32 `[S, 3, T, h, w]`, `members` (see `ClipBuilder`), `status`
    (`ok`, or why there is no clip), `bad` (videos found unusable on the way).

    Args:
        items: the videos.
        reader: reads frames of a file.
        builder: chooses frames and makes clips of them.
        seed: seed of all draws.
        replace_bad: take another video, chosen by a seeded rule, for one that cannot be used (training); otherwise
            the sample says so in `status` (validation and test).
    """

    def __init__(
        self,
        items: Sequence[VideoItem],
        reader: VideoReader,
        builder: ClipBuilder,
        seed: int,
        replace_bad: bool,
    ) -> None:
        self.items = list(items)
        self.reader = reader
        self.builder = builder
        self.seed = seed
        self.replace_bad = replace_bad

    def __len__(self) -> int:
        return len(self.items)

    def __getitem__(self, request: SampleKey) -> dict[str, Any]:
        index, bad = request.index, []
        for attempt in range(MAX_REPLACEMENTS + 1):
            try:
                return {**self._load(index, request.epoch), "bad": bad, "status": STATUS_OK}
            except VideoError as error:
                bad.append(BadVideo(self.items[index].name, error.cause, error.where))
            if not self.replace_bad:
                return self._without_clip(index, bad)
            draw = np.random.default_rng([self.seed, request.epoch, request.index, attempt])
            index = int(draw.integers(len(self.items)))
        return self._without_clip(index, bad)

    def _load(self, index: int, epoch: int) -> dict[str, Any]:
        item = self.items[index]
        rng = sample_rng(self.seed, epoch, item.name)
        views: list[np.ndarray] = []

        def choose(num_frames: int) -> list[int]:
            views[:] = self.builder.frames(num_frames, rng)
            return np.unique(np.concatenate(views)).tolist()

        decoded = read_frames(self.reader, item.path, choose)
        positions = np.asarray(decoded.indices)
        frames = [decoded.frames[np.searchsorted(positions, view)] for view in views]
        clip, members = self.builder.clips(frames, rng)
        return {"index": index, "clip": clip, "members": members}

    def _without_clip(self, index: int, bad: list[BadVideo]) -> dict[str, Any]:
        status = f"error: {bad[-1].cause} ({bad[-1].where})"
        return {"index": index, "clip": torch.empty(0), "members": {}, "status": status, "bad": bad}


class TrainClips:
    """Augmented copies of one temporal sample (repeated augmentation).

    Args:
        sample_frames: (number of frames, rng) to int64 `[T]`.
        enhance: lights frames uint8 `[T, H, W, 3]`.
        transform: lit frames to clips.
        num_copies: copies of each video.
        later: leave the transform to whoever takes the batch (see `clips_on`).
    """

    def __init__(
        self,
        sample_frames: Callable[[int, np.random.Generator], np.ndarray],
        enhance: Callable[[np.ndarray], np.ndarray],
        transform: Transform,
        num_copies: int,
        later: bool = False,
    ) -> None:
        self.sample_frames, self.enhance, self.transform = sample_frames, enhance, transform
        self.num_copies, self.later = num_copies, later

    def frames(self, num_frames: int, rng: np.random.Generator) -> list[np.ndarray]:
        """One view, drawn."""
        return [np.asarray(self.sample_frames(num_frames, rng))]

    def clips(
        self, views: list[np.ndarray], rng: np.random.Generator
    ) -> tuple[Tensor | DeferredClips, dict[tuple[int, int], list[int]]]:
        """`[num_copies, 3, T, h, w]`; copies are told apart by generators spawned from the video's."""
        frames = torch.from_numpy(np.ascontiguousarray(self.enhance(views[0])))
        clips = DeferredClips(frames, self.transform, rng.spawn(self.num_copies))
        return clips if self.later else clips.made(frames.device), {}


class MultiViewClips:
    """Every clip that any of the (views, crops) pairs needs; a clip that two pairs share is made once.

    Args:
        sample_view: (number of frames, view, number of views) to int64 `[T]`.
        make_crops: (frames uint8 `[T, H, W, 3]`, number of crops C) to float32 `[L * C, 3, T, h, w]`: all crops for the
            first of L ways to light the frames, then for the next. A clip that is lit in L ways counts L times.
        pairs: the pairs.
    """

    __test__ = False

    def __init__(
        self,
        sample_view: Callable[[int, int, int], np.ndarray],
        make_crops: Callable[[np.ndarray, int], Tensor],
        pairs: Sequence[tuple[int, int]],
    ) -> None:
        self.sample_view, self.make_crops, self.pairs = sample_view, make_crops, list(pairs)
        self._views: dict[tuple[int, int], int] = {}

    def frames(self, num_frames: int, rng: np.random.Generator) -> list[np.ndarray]:
        """The distinct views of all pairs."""
        unique: dict[bytes, int] = {}
        views: list[np.ndarray] = []
        self._views = {}
        for num_views in sorted({pair[0] for pair in self.pairs}):
            for view in range(num_views):
                indices = np.asarray(self.sample_view(num_frames, view, num_views), np.int64)
                if indices.tobytes() not in unique:
                    unique[indices.tobytes()] = len(views)
                    views.append(indices)
                self._views[num_views, view] = unique[indices.tobytes()]
        return views

    def clips(
        self, views: list[np.ndarray], rng: np.random.Generator
    ) -> tuple[Tensor, dict[tuple[int, int], list[int]]]:
        """All crops of all distinct views, lit in every way; the centre crop of three is the single crop."""
        wanted: dict[int, set[int]] = {}
        for num_views, num_crops in self.pairs:
            for view in range(num_views):
                wanted.setdefault(self._views[num_views, view], set()).add(num_crops)
        made: list[Tensor] = []
        places: dict[tuple[int, int], list[int]] = {}
        for view, crop_counts in wanted.items():
            most = max(crop_counts)
            crops = self.make_crops(views[view], most)
            for num_crops in crop_counts:
                first = sum(map(len, made)) + (most - num_crops) // 2
                starts = range(first, first + len(crops), most)
                places[view, num_crops] = [
                    start + crop for start in starts for crop in range(num_crops)
                ]
            made.append(crops)
        members = {
            (num_views, num_crops): [
                place
                for view in range(num_views)
                for place in places[self._views[num_views, view], num_crops]
            ]
            for num_views, num_crops in self.pairs
        }
        return join_clips(made), members


def keep_samples(samples: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Collate for evaluation: videos may have different numbers of clips, so they stay a list."""
    return samples


def _batch_of(clips: list[Any]) -> Tensor | list[DeferredClips]:
    return clips if isinstance(clips[0], DeferredClips) else join_clips(clips)


class TrainCollate:
    """Collate for training: one batch dict of clips.

    Args:
        labels: int64 `[N]` of the stream's videos.
        probs: float32 `[N, K]` of the stream's videos, where it has soft labels.
        num_copies: clips per video.
    """

    def __init__(self, labels: Tensor, probs: Tensor | None, num_copies: int) -> None:
        self.labels, self.probs, self.num_copies = labels, probs, num_copies

    def __call__(self, samples: list[dict[str, Any]]) -> dict[str, Any]:
        """`clip` (see `clips_on`), `index` and `label` int64 `[B]`, `probs` `[B, K]` or None, `bad` videos."""
        bad = [video for sample in samples for video in sample["bad"]]
        samples = [sample for sample in samples if sample["status"] == STATUS_OK]
        index = torch.tensor([sample["index"] for sample in samples], dtype=torch.int64)
        index = index.repeat_interleave(self.num_copies)
        return {
            "clip": _batch_of([sample["clip"] for sample in samples]) if samples else None,
            "index": index,
            "label": self.labels[index],
            "probs": None if self.probs is None else self.probs[index],
            "bad": bad,
        }
