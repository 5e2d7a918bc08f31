"""Cases of checkpoint surgery and of SlowFast's pathways."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import torch

from nightcrawler.models.conv3d import spread_frames, strided_frames
from nightcrawler.models.conversion import inflate
from tests.golden.case import Check, Kind, cases_have, exact, has, of_sum, relative
from tests.golden.fill import wave


def _run_inflation(case: Mapping[str, Any]) -> Iterator[Check]:
    for number, example in enumerate(case["cases"]):
        kernel = torch.from_numpy(wave(tuple(example["shape_2d"])).astype(np.float32))
        inflated = (
            inflate(kernel, example["time_dim"], example["center"]).numpy().astype(np.float64)
        )
        yield exact(f"case {number}: shape", list(inflated.shape), example["shape_3d"])
        flat = inflated.ravel()
        yield relative(
            f"case {number}: sum of magnitudes", np.abs(flat).sum(), example["sum_abs"], 1e-6
        )
        weighted = flat * np.cos(0.01 * np.arange(flat.size))
        magnitude = np.abs(weighted).sum()
        yield of_sum(
            f"case {number}: weighted sum", weighted.sum(), example["wsum"], magnitude, 1e-6
        )
        yield relative(f"case {number}: first values", flat[:6], example["first6"], 1e-6)


def _run_pathways(case: Mapping[str, Any]) -> Iterator[Check]:
    for example in case.get("slowfast_pack_cases", []):
        frames, alpha = example["T"], example["alpha"]
        yield exact(
            f"spread over {frames} frames, alpha {alpha}",
            spread_frames(frames, alpha),
            example["slow"],
        )
    for example in case.get("sf_cases", []):
        frames = example["T"]
        yield exact(
            f"strided over {frames} frames",
            strided_frames(frames, example.get("alpha", 4)),
            example["slow"],
        )


KINDS = [
    Kind("inflation", cases_have("shape_2d", "shape_3d"), _run_inflation),
    Kind("pathways", has("slowfast_pack_cases", "sf_cases"), _run_pathways),
]
