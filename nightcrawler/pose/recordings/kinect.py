"""Read joint text files of Kinect 1: in each line a frame number and 20 joints in metres.

This is the form of UTKinect-Action3D (Xia et al. 2012).
"""

from __future__ import annotations

import numpy as np

from nightcrawler.pose.layouts import to_body
from nightcrawler.utils.errors import UserError

FPS = 30.0
NUM_JOINTS = 20
MAX_FRAMES = 1_000_000


def read_kinect(text: str) -> tuple[np.ndarray, np.ndarray, float]:
    """Return the joints of a recording.

    Args:
        text: The file.

    Returns:
        float64 `[T, 13, 3]` of layout `body` in the world (y up, z to the camera), the number of
        each frame, int64 `[T]`, and frames per second.

    Raises:
        UserError: If the file has another form.
    """
    lines = [line.split() for line in text.splitlines() if line.strip()]
    if not 0 < len(lines) <= MAX_FRAMES:
        raise UserError(f"has {len(lines)} frames")
    width = 1 + 3 * NUM_JOINTS
    for number, words in enumerate(lines, start=1):
        if len(words) != width:
            raise UserError(
                f"line {number} has {len(words)} words, expected a frame number and 20 joints"
            )
    try:
        values = np.array(lines, dtype=np.float64)
    except ValueError:
        raise UserError("holds other words than numbers") from None
    if not np.isfinite(values).all():
        raise UserError("holds numbers that are not finite")
    # A frame may come twice, with the joints of one moment.
    numbers, first = np.unique(values[:, 0].astype(np.int64), return_index=True)
    # The camera of Kinect looks along +z, ours along -z.
    points = values[first, 1:].reshape(-1, NUM_JOINTS, 3) * [1, 1, -1]
    return to_body(points, "kinect20"), numbers, FPS
