"""Cases of the data path: frame sampling, crops, gamma, the evaluation transform."""

from __future__ import annotations

import dataclasses
import math
import re
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import torch

from nightcrawler.config.node import get_cfg
from nightcrawler.data.frame_sampling import (
    dense_indices,
    dense_start,
    segment_bounds,
    segment_indices,
    window_indices,
)
from nightcrawler.data.lowlight.enhance.build import build_enhancement, enhance_params_from_cfg
from nightcrawler.data.lowlight.enhance.gamma import gamma_lut
from nightcrawler.data.transforms import (
    eval_crops,
    resize_short_side,
    short_side_size,
    spatial_crop,
    uniform_crop_offsets,
)
from tests.golden.case import Check, Kind, absolute, cases_have, exact, has, of_sum, relative
from tests.golden.fields import Refusal
from tests.golden.fill import scramble, wave

FRAMES_RULE = re.compile(r"\[T=([\d,]+)\], value = \((\d+)\*q\(i\) \+ i//(\d+)\) mod 256")
# Pixels are float32: a few units in the last place, 2^-23 each.
SUM = 1e-6


def _run_sparse(case: Mapping[str, Any]) -> Iterator[Check]:
    for one in case.get("test", []):
        length, frames, views, view = (
            one["video_length"],
            one["num_frames"],
            one["num_views"],
            one["view"],
        )
        got = segment_indices(length, frames, view=view, num_views=views, published=True)
        yield exact(f"published view {view}/{views} of {length}", got.tolist(), one["indices"])
        if views == 1:
            yield exact(
                f"single view of {length}", segment_indices(length, frames).tolist(), one["indices"]
            )
    for one in case.get("train_bounds", []):
        got = segment_bounds(one["video_length"], one["num_frames"])
        yield exact(f"bounds of {one['video_length']}", got.tolist(), one["bounds"])


def _run_dense(case: Mapping[str, Any]) -> Iterator[Check]:
    for one in case.get("temporal_sampling", []):
        got = window_indices(one["num_total"], one["start"], one["end"], one["num_samples"])
        yield exact(
            f"window {one['start']}-{one['end']} of {one['num_total']}",
            got.tolist(),
            one["indices"],
        )
    for one in case.get("decode", []):
        args = (one["video_length"], one["num_frames"], one["sampling_rate"])
        place = {
            "view": one["clip_idx"],
            "num_views": one["num_clips"],
            "use_offset": one["use_offset"],
        }
        yield exact(
            f"clip {place} of {args}", dense_indices(*args, **place).tolist(), one["indices"]
        )
        size = one["num_frames"] * one["sampling_rate"]
        start = dense_start(one["video_length"], size, *place.values())
        window = [start, start + size - 1]
        yield absolute(f"window {place} of {args}", window, one["start_end"], 1e-9)
    for one in case.get("get_start_end_idx", []):
        start = dense_start(
            one["video_size"],
            one["clip_size"],
            one["clip_idx"],
            one["num_clips"],
            one["use_offset"],
        )
        got = [start, start + one["clip_size"] - 1]
        yield absolute(
            f"window of clip {one['clip_idx']} of {one['num_clips']}", got, one["start_end"], 1e-9
        )


def _check_digest(name: str, clip: torch.Tensor, digest: Mapping[str, Any]) -> Iterator[Check]:
    yield exact(f"{name} shape", list(clip.shape), digest["shape"])
    flat = clip.double().flatten()
    weighted = flat * torch.cos(0.01 * torch.arange(flat.numel(), dtype=torch.float64))
    yield of_sum(f"{name} mean", flat.mean(), digest["mean"], flat.abs().mean(), SUM)
    yield relative(f"{name} sumsq", flat.square().sum(), digest["sumsq"], SUM)
    yield of_sum(f"{name} wsum", weighted.sum(), digest["wsum"], weighted.abs().sum(), SUM)
    # A value near 0 is the difference of larger ones, too.
    for part, values, place in (("first", flat[:8], "row0"), ("last", flat[-8:], "lastrow")):
        expected = digest[f"{place}_{part}8"]
        yield of_sum(f"{name} {part} 8", values, expected, flat.abs().max(), SUM)


def _run_crops(case: Mapping[str, Any]) -> Iterator[Check]:
    for one in case.get("uniform_crop_offsets", []):
        got = uniform_crop_offsets(one["height"], one["width"], one["size"], one["spatial_idx"])
        name = f"{one['height']}x{one['width']}"
        yield exact(f"offsets {name}", list(got), [one["y"], one["x"]])
        crop = spatial_crop(
            torch.zeros(3, 1, one["height"], one["width"]), one["size"], one["spatial_idx"]
        )
        yield exact(f"crop of {name}", list(crop.shape[-2:]), one["out_hw"])
    for one in case.get("short_side_resize", []):
        got = short_side_size(one["height"], one["width"], one["short_side"])
        yield exact(f"short side {one['height']}x{one['width']}", list(got), one["out_hw"])
        resized = resize_short_side(
            torch.zeros(3, 1, one["height"], one["width"]), one["short_side"]
        )
        yield exact(
            f"resized {one['height']}x{one['width']}", list(resized.shape[-2:]), one["out_hw"]
        )
    for one in case.get("crops", []):
        clip = torch.from_numpy(wave(tuple(one["input_shape"]))).float()
        name = f"crop {one['spatial_idx']} of {one['input_shape']}"
        yield from _check_digest(
            name, spatial_crop(clip, one["size"], one["spatial_idx"]), one["digest"]
        )


def _frames(text: str) -> np.ndarray:
    """uint8 frames from a note such as `uint8 [T=2,48,64,3], value = (7*q(i) + i//11) mod 256`."""
    found = FRAMES_RULE.search(text)
    if found is None:
        raise Refusal(f"frames {text!r}, expected {FRAMES_RULE.pattern!r}")
    shape = tuple(int(size) for size in found[1].split(","))
    i = np.arange(math.prod(shape), dtype=np.int64)
    values = int(found[2]) * scramble(i) + i // int(found[3])
    return (values % 256).astype(np.uint8).reshape(shape)


def _run_eval_chain(case: Mapping[str, Any]) -> Iterator[Check]:
    for one in case["cases"]:
        lit = "none" if one["gamma"] is None else "gamma"
        enhance = build_enhancement(
            lit, dataclasses.replace(enhance_params_from_cfg(get_cfg()), gamma=one["gamma"] or 1.0)
        )
        clips = eval_crops(
            _frames(one["frames"]),
            size=one["size"],
            num_crops=3,
            enhance=enhance,
            mean=[0.45] * 3,
            std=[0.225] * 3,
        )
        yield from _check_digest(
            f"{one['frames'][:20]} {lit}", clips[one["spatial_idx"]], one["digest"]
        )


def _run_gamma(case: Mapping[str, Any]) -> Iterator[Check]:
    for gamma, lut in _gamma_tables(case):
        yield exact(f"table of gamma {gamma}", gamma_lut(gamma).tolist(), lut)


def _gamma_tables(case: Mapping[str, Any]) -> Iterator[tuple[float, Any]]:
    """Gammas and their tables: one (`gamma`, `lut`), or several (`luts`) in a list or by gamma."""
    if "lut" in case:
        yield float(case["gamma"]), case["lut"]
    luts = case.get("luts", [])
    if isinstance(luts, list):
        for one in luts:
            yield from _gamma_tables(one)
    else:
        for gamma, lut in luts.items():
            yield float(gamma), lut


KINDS = [
    Kind("segment sampling", has("train_bounds", "test"), _run_sparse),
    Kind("dense sampling", has("temporal_sampling", "decode", "get_start_end_idx"), _run_dense),
    Kind("spatial crop", has("uniform_crop_offsets", "short_side_resize", "crops"), _run_crops),
    Kind("evaluation transform", cases_have("frames", "digest"), _run_eval_chain),
    Kind("gamma table", has("lut", "luts"), _run_gamma),
]
