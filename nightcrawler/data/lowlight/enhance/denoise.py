"""Temporal denoising: the mean of a frame and its neighbours, where they show the same.

A neighbour's pixel is weighted by the similarity of the two frames around it (as in non-local
means, Buades et al. 2005, with the search restricted to the same pixel in time): full weight if
they differ no more than by noise, none if something moved. The neighbours are those of the video,
whichever frames a clip takes, and are decoded in the same pass.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from nightcrawler.data.lowlight.enhance.luma import luminance
from nightcrawler.data.lowlight.noise import immerkaer
from nightcrawler.data.video.decode import Decoded, VideoReader
from nightcrawler.data.video.probe import StreamInfo

# Side of the patch that two frames are compared over, in pixels.
PATCH = 5
# Least standard deviation of noise that is assumed, in levels: rounding alone makes about a third.
LEAST_SIGMA = 0.5


def noise_sigma(luma: Tensor) -> float:
    """Estimate the standard deviation of the noise of a picture, at least `LEAST_SIGMA`.

    Args:
        luma: float32 `[H, W]`, in 8-bit levels.
    """
    return max(immerkaer(luma), LEAST_SIGMA)


def patch_mean(pictures: Tensor, side: int) -> Tensor:
    """Average each pixel's square patch over the pixels that lie inside the picture.

    Computed by shifted sums, several times as fast as pooling.

    Args:
        pictures: float32 `[n, H, W]`.
        side: side of the patch in pixels, odd.

    Returns:
        float32 `[n, H, W]`.
    """
    height, width = pictures.shape[-2:]
    # A picture of ones among them counts the pixels of each patch that lie inside.
    counted = torch.cat([pictures, torch.ones_like(pictures[:1])])
    padded = functional.pad(counted, (side // 2,) * 4)
    rows = torch.stack([padded[:, start : start + height] for start in range(side)]).sum(dim=0)
    sums = torch.stack([rows[..., start : start + width] for start in range(side)]).sum(dim=0)
    return sums[:-1] / sums[-1]


def similarity(lumas: Tensor, center: int) -> Tensor:
    """Weight the pixels of frames by their similarity to one of them.

    exp(-max(d / (2 sigma^2) - 1, 0)), where d is the mean squared difference of the patches around
    a pixel. Noise of standard deviation sigma alone makes d equal 2 sigma^2.

    Args:
        lumas: luminance, float32 `[n, H, W]`.
        center: position of the frame that the others are compared to.

    Returns:
        float32 `[n, H, W]` in (0, 1].
    """
    distance = patch_mean((lumas - lumas[center]) ** 2, PATCH)
    sigma = noise_sigma(lumas[center])
    return torch.exp(-(distance / (2 * sigma**2) - 1).clamp(min=0))


def denoise(
    frames: np.ndarray, indices: Sequence[int], wanted: Sequence[int], window: int
) -> np.ndarray:
    """Replace the wanted frames by weighted means of the frames around them.

    Args:
        frames: uint8 `[n, H, W, 3]`.
        indices: their indices in the video, increasing.
        wanted: indices of the frames to return, among `indices`.
        window: frames that are averaged (fewer at the video's ends), odd.

    Returns:
        uint8 `[len(wanted), H, W, 3]`.
    """
    lumas = luminance(frames)
    starts = np.searchsorted(indices, np.asarray(wanted) - window // 2)
    ends = np.searchsorted(indices, np.asarray(wanted) + window // 2, side="right")
    # Made at once: pictures that are kept one by one lie between floats that are given back, and
    # scatter them so that none of their memory is used again.
    denoised = np.empty((len(wanted), *frames.shape[1:]), np.uint8)
    for out, index, start, end in zip(denoised, wanted, starts, ends, strict=True):
        neighbours = torch.from_numpy(frames[start:end]).float()
        center = int(np.searchsorted(indices[start:end], index))
        near = torch.from_numpy(lumas[start:end]).float()
        weights = similarity(near, center)[..., None]
        mean = (neighbours * weights).sum(dim=0) / weights.sum(dim=0)
        out[:] = mean.round().byte().numpy()
    return denoised


@dataclass(frozen=True)
class DenoisedReader:
    """Video reader that averages each frame with its neighbours in the video.

    Attributes:
        reader: reader of the frames as recorded.
        window: frames that are averaged, see `denoise`.
    """

    reader: VideoReader
    window: int

    def probe(self, path: str) -> StreamInfo:
        """Probe the video."""
        return self.reader.probe(path)

    def decode(self, path: str, indices: Sequence[int], info: StreamInfo) -> Decoded:
        """Decode frames and their neighbours in one pass, and denoise the former.

        Args:
            path: video file.
            indices: frames to return, increasing.
            info: result of `probe`.
        """
        wanted = list(indices)
        near = np.add.outer(wanted, np.arange(self.window) - self.window // 2)
        near = np.unique(near.clip(0, info.num_frames - 1))
        decoded = self.reader.decode(path, near.tolist(), info)
        frames = denoise(decoded.frames, decoded.indices, wanted, self.window)
        return Decoded(frames, wanted, decoded.num_frames, decoded.fps)
