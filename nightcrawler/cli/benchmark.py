"""Run a benchmark of a checkout, from its folder `benchmarks`."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Sequence
from pathlib import Path

from nightcrawler.utils.errors import UserError


def main(argv: Sequence[str]) -> int:
    """Hand the arguments to `python -m benchmarks`.

    Raises:
        UserError: if this is not a checkout, since a wheel does not hold the benchmarks.
    """
    checkout = Path(__file__).resolve().parents[2]
    if not (checkout / "benchmarks/__main__.py").is_file():
        raise UserError(
            "benchmarks come with a checkout, not with the package: clone the project, install it "
            "with `make install`, and run `python -m benchmarks` there"
        )
    # The folder `benchmarks` is no part of the package, so it is found through the checkout.
    sys.path.insert(0, str(checkout))
    return int(importlib.import_module("benchmarks.__main__").main(argv))
