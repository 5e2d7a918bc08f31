"""Cases of checkpoint surgery and of SlowFast's pathways."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import torch

from nightcrawler.models.conv3d import spread_frames, strided_frames
from nightcrawler.models.conversion import inflate
from tests.golden.case import Check, Kind, absolute, exact, relative
from tests.golden.fill import wave


def _run_inflation(case: dict[str, Any]) -> Iterator[Check]:
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
        weighted = (flat * np.cos(0.01 * np.arange(flat.size))).sum()
        yield absolute(f"case {number}: weighted sum", weighted, example["wsum"], 1e-5)
        yield absolute(f"case {number}: first values", flat[:6], example["first6"], 1e-6)


def _run_pathways(case: dict[str, Any]) -> Iterator[Check]:
    for example in case["slowfast_pack_cases"]:
        frames, alpha = example["T"], example["alpha"]
        yield exact(
            f"spread over {frames} frames, alpha {alpha}",
            spread_frames(frames, alpha),
            example["slow"],
        )
    for example in case["sf_cases"]:
        frames = example["T"]
        yield exact(f"strided over {frames} frames", strided_frames(frames, 4), example["slow"])


KINDS = [
    Kind("inflation", lambda stem, case: "inflation" in str(case.get("what")), _run_inflation),
    Kind("pathways", lambda stem, case: "slowfast_pack_cases" in case, _run_pathways),
]
