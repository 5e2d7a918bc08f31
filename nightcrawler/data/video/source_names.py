"""What the name of a source tells."""

from __future__ import annotations

import re

NETWORK, CAMERA = re.compile(r"rtsps?://.+", re.IGNORECASE), re.compile(r"/dev/video\d+")


def is_live(source: str) -> bool:
    """Whether a name is that of a network stream (rtsp) or of a camera device."""
    return is_camera(source) or bool(NETWORK.fullmatch(source))


def is_camera(source: str) -> bool:
    """Whether a name is that of a camera device."""
    return bool(CAMERA.fullmatch(source))
