"""Bicubic geometry of RandAugment: Pillow's picture, pixel for pixel, on the crop alone too."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from timm.data.auto_augment import NAME_TO_OP

from nightcrawler.config.node import get_cfg
from nightcrawler.data.augment.image_ops import BICUBIC_OPS, OPS
from nightcrawler.data.augment.ops import apply_ops, crop, full_box
from nightcrawler.data.build_clips import build_train_clips
from tests.data.augment.test_rand_augment import boxes

# Largest magnitude, as the policy's authors give it: degrees, slope, share of the side.
LARGEST = {"Rotate": 30.0, "ShearX": 0.3, "ShearY": 0.3, "TranslateXRel": 0.45}
LARGEST["TranslateYRel"] = 0.45


class _Sign:
    """A generator that draws one sign."""

    def __init__(self, sign: int) -> None:
        self.sign = sign

    def random(self) -> float:
        return 0.25 if self.sign < 0 else 0.75


def noise(height: int, width: int, seed: int = 0, count: int = 2) -> torch.Tensor:
    """Frames uint8 `[T, 3, H, W]` of levels that interpolation overshoots."""
    rng = np.random.default_rng(seed)
    return torch.from_numpy(rng.integers(0, 256, (count, 3, height, width), dtype=np.uint8))


def by_pillow(name: str, amount: float, frame: torch.Tensor) -> np.ndarray:
    """One frame `[3, H, W]` by timm's operation on a picture, as uint8 `[3, H, W]`."""
    picture = Image.fromarray(frame.permute(1, 2, 0).contiguous().numpy())
    how = {"fillcolor": (128,) * 3, "resample": Image.Resampling.BICUBIC}
    return np.asarray(NAME_TO_OP[name](picture, amount, **how)).transpose(2, 0, 1)


@pytest.mark.parametrize("size", [(60, 80), (47, 33)])
@pytest.mark.parametrize("level", [0.0, 0.31, 0.7, 1.0])
@pytest.mark.parametrize("name", sorted(LARGEST))
def test_every_pixel_is_pillows(name: str, level: float, size: tuple[int, int]) -> None:
    frames = noise(*size)
    signs = set()
    for sign in (-1, 1):
        op = BICUBIC_OPS[name](level, _Sign(sign))  # type: ignore[arg-type]
        got = apply_ops(frames, [op], full_box(frames))
        assert (got.dtype, got.shape) == (torch.uint8, frames.shape)
        for way in (-1, 1):
            amount = way * LARGEST[name] * level
            expected = [by_pillow(name, amount, frame) for frame in frames]
            if np.array_equal(got.numpy(), np.stack(expected)):
                signs.add((sign, way))
    # Each sign gives one of Pillow's two pictures, and not the other's.
    assert len(signs) == (4 if level == 0 else 2)
    assert {sign for sign, _ in signs} == {way for _, way in signs} == {-1, 1}


def test_other_operations_are_the_same() -> None:
    assert list(BICUBIC_OPS) == list(OPS)
    assert {name for name in OPS if OPS[name] is not BICUBIC_OPS[name]} == set(LARGEST)


@settings(max_examples=200)
@given(
    st.lists(st.tuples(st.sampled_from(sorted(LARGEST)), st.floats(0, 1)), max_size=4),
    boxes(22, 30),
    st.integers(0, 2**32 - 1),
)
def test_only_the_crop_is_computed_and_it_is_the_same(
    drawn: list[tuple[str, float]], box: tuple[int, int, int, int], seed: int
) -> None:
    frames = noise(22, 30, seed)
    ops = [BICUBIC_OPS[name](level, np.random.default_rng(seed)) for name, level in drawn]
    everything = frames
    for op in ops:
        everything = op.apply(everything, full_box(everything))
    assert torch.equal(apply_ops(frames, ops, box), crop(everything, box))


def clips(*changed: Any) -> torch.Tensor:
    """Eight training clips of the same frames under a policy that does much."""
    cfg = get_cfg()
    cfg.merge_from_list(["AUG.AA_TYPE", "rand-m9-n8", "AUG.RE_PROB", 0.0, *changed])
    builder = build_train_clips(cfg, lambda frames: frames, num_copies=8)
    rngs = [np.random.default_rng(seed) for seed in range(8)]
    return builder.transform(noise(40, 50).permute(0, 2, 3, 1).contiguous(), rngs)


def test_the_key_chooses_and_the_default_is_bilinear() -> None:
    default = clips()
    assert torch.equal(default, clips("AUG.INTERPOLATION", "bilinear"))
    bicubic = clips("AUG.INTERPOLATION", "bicubic")
    assert default.shape == bicubic.shape
    assert not torch.equal(default, bicubic)
