"""Temporal denoising: a frame becomes the mean of its neighbours in the video, where they show the same.

A neighbour's pixel weighs by how alike the two frames are around it: no farther apart than noise would put them, it
counts in full, and what moved does not count. The neighbours are those of the video, whatever frames a clip takes: they
are decoded in the same pass.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from nightcrawler.data.lowlight.enhance.luma import luminance
from nightcrawler.data.video.decode import Decoded, VideoReader
from nightcrawler.data.video.probe import StreamInfo

# Side of the patch that two frames are compared over, in pixels.
PATCH = 5
# Least standard deviation of noise that is assumed, in levels: rounding alone makes about a third of one.
LEAST_SIGMA = 0.5


def noise_sigma(luma: Tensor) -> float:
    """Standard deviation of the noise of a picture `[H, W]`, in levels (Immerkaer 1996), at least `LEAST_SIGMA`.

    A difference of two Laplacians is blind to whatever is locally flat or an edge; its mean size is that of the noise.
    """
    if min(luma.shape) < 3:
        return LEAST_SIGMA
    second = torch.tensor([[1.0, -2.0, 1.0]])
    found = functional.conv2d(luma[None, None], (second.T @ second)[None, None])
    return max(float(found.abs().mean()) * (np.pi / 2) ** 0.5 / 6, LEAST_SIGMA)


def patch_mean(pictures: Tensor, side: int) -> Tensor:
    """Mean over the pixels of a square patch that lie in the picture; `[n, H, W]` to the same.

    By shifted sums: several times as quick as pooling.
    """
    height, width = pictures.shape[-2:]
    framed = functional.pad(torch.cat([pictures, torch.ones_like(pictures[:1])]), (side // 2,) * 4)
    columns = torch.stack([framed[:, start : start + height] for start in range(side)]).sum(dim=0)
    sums = torch.stack([columns[..., start : start + width] for start in range(side)]).sum(dim=0)
    return sums[:-1] / sums[-1]


def likeness(lumas: Tensor, center: int) -> Tensor:
    """Weights `[n, H, W]` in (0, 1] of n frames' pixels for the frame at `center`, from luminance `[n, H, W]`.

    exp(-max(d / 2 sigma^2 - 1, 0)) of the mean squared difference d around a pixel; noise alone makes it 2 sigma^2.
    """
    around = patch_mean((lumas - lumas[center]) ** 2, PATCH)
    return torch.exp(-(around / (2 * noise_sigma(lumas[center]) ** 2) - 1).clamp(min=0))


def denoise(
    frames: np.ndarray, indices: Sequence[int], wanted: Sequence[int], window: int
) -> np.ndarray:
    """The wanted frames, each the weighted mean of those around it.

    Args:
        frames: uint8 `[n, H, W, 3]`.
        indices: their numbers in the video, increasing.
        wanted: numbers of the frames to make, among `indices`.
        window: frames that are averaged (fewer at the video's ends), an odd number.

    Returns:
        uint8 `[len(wanted), H, W, 3]`.
    """
    lumas = torch.from_numpy(luminance(frames)).float()
    first = np.searchsorted(indices, np.asarray(wanted) - window // 2)
    last = np.searchsorted(indices, np.asarray(wanted) + window // 2, side="right")
    made = []
    for number, start, end in zip(wanted, first, last, strict=True):
        near = torch.from_numpy(frames[start:end]).float()
        weights = likeness(lumas[start:end], int(np.searchsorted(indices[start:end], number)))[
            ..., None
        ]
        made.append(((near * weights).sum(dim=0) / weights.sum(dim=0)).round().byte().numpy())
    return np.stack(made)


@dataclass(frozen=True)
class DenoisedReader:
    """Read frames, each averaged with its neighbours in the video; these are decoded in the same pass.

    Attributes:
        reader: reads frames as recorded.
        window: number of frames that are averaged, see `denoise`.
    """

    reader: VideoReader
    window: int

    def probe(self, path: str) -> StreamInfo:
        """Probe the video."""
        return self.reader.probe(path)

    def decode(self, path: str, indices: Sequence[int], info: StreamInfo) -> Decoded:
        """Decode the frames with the given numbers and their neighbours, and denoise the former."""
        wanted = list(indices)
        near = np.add.outer(wanted, np.arange(self.window) - self.window // 2)
        near = np.unique(near.clip(0, info.num_frames - 1))
        decoded = self.reader.decode(path, near.tolist(), info)
        frames = denoise(decoded.frames, decoded.indices, wanted, self.window)
        return Decoded(frames, wanted, decoded.num_frames, decoded.fps)
