"""Moving figures of 17 joints for tests."""

import numpy as np

COCO = np.array(
    # nose, eyes, ears, shoulders, elbows, hands, hips, knees, ankles: left and right in turn
    [[0, -80], [3, -83], [-3, -83], [6, -80], [-6, -80], [15, -60], [-15, -60], [20, -35]]
    + [[-20, -35], [22, -12], [-22, -12], [9, -10], [-9, -10], [10, 25], [-10, 25], [11, 60]]
    + [[-11, 60]],
    np.float32,
)


def person_at(x, y=120.0, scale=1.0):
    """Joints `[T, 17, 3]` of a figure whose middle is at x, an array, and y."""
    x = np.atleast_1d(np.asarray(x, np.float32))
    points = np.ones((len(x), 17, 3), np.float32)
    points[..., :2] = COCO * scale
    points[..., 0] += x[:, None]
    points[..., 1] += y
    return points
