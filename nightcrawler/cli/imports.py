"""Add the option for modules of the user's own that a checkpoint may import."""

from __future__ import annotations

from typing import Any


def add_imports(parser: Any) -> None:
    """Add `--imports`.

    A configuration inside a checkpoint may name modules that register its model. They are code of
    whoever made the file, so only the user can allow them.

    Args:
        parser: parser or group of options.
    """
    parser.add_argument(
        "--imports",
        nargs="+",
        default=[],
        metavar="MODULE",
        help="modules that the configuration of a checkpoint may import (your own code)",
    )
