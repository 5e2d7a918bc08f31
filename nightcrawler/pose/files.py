"""Poses of one video, or the motion of one recording, in a small file."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from nightcrawler.pose.layouts import get_layout
from nightcrawler.utils.errors import UserError
from nightcrawler.utils.io import atomic_write
from nightcrawler.utils.npz import read_npz_bytes, write_npz

SUFFIX = ".pose.npz"
PICTURE = "picture"
WORLD = "world"
SPACES = (PICTURE, WORLD)
# Twelve hours at 30 frames per second, of two people.
MAX_BYTES = 2**31
MOST_SECONDS = 24 * 3600
FORMAT = 1


@dataclass(frozen=True)
class Pose:
    """Where the joints of people are, over time.

    Attributes:
        points: float32 `[P, T, V, 3]` of P people, the main one first. In space `picture`: x and y
            in pixels of the upright picture and a confidence from 0 to 1. In space `world`: x to
            the right, y up, z to the camera, in any unit. NaN where the person was not seen.
        fps: Frames per second of `points`.
        layout: Layout of the joints, a name of `pose.layouts.LAYOUTS`.
        space: `picture` or `world`.
        width: Width of the picture in pixels, 0 in space `world`.
        height: Height of the picture in pixels, 0 in space `world`.
        source: Its maker: an estimator with its release, a recording.
        fingerprint: Fingerprint of the video's content, empty where there is no video.
        damage: The lost parts of the video, empty where there are none. Nobody is seen there.
        seen_again: For each of the P people, the share of second looks that show it again, NaN for
            none (see `pose.second_look`). Empty where nobody looked again.
    """

    points: np.ndarray
    fps: float
    layout: str
    space: str = PICTURE
    width: int = 0
    height: int = 0
    source: str = ""
    fingerprint: str = ""
    damage: str = ""
    seen_again: tuple[float, ...] = ()

    def __post_init__(self) -> None:
        joints = get_layout(self.layout).num_joints
        shape = self.points.shape
        if len(shape) != 4 or shape[2:] != (joints, 3):
            raise UserError(f"points have shape {list(shape)}, expected [P, T, {joints}, 3]")
        if self.seen_again and len(self.seen_again) != shape[0]:
            raise UserError(f"{len(self.seen_again)} people were seen again, expected {shape[0]}")
        if not all(np.isnan(share) or 0 <= share <= 1 for share in self.seen_again):
            raise UserError(f"people were seen again in {self.seen_again}, expected 0 to 1")
        if not (np.isfinite(self.fps) and self.fps > 0):
            raise UserError(f"fps is {self.fps}, expected a positive number")
        if self.points.shape[1] / self.fps > MOST_SECONDS:
            raise UserError(
                f"{self.points.shape[1]} frames at {self.fps:g} a second last longer than "
                f"{MOST_SECONDS // 3600} hours"
            )
        if self.space not in SPACES:
            raise UserError(f"space is '{self.space}', expected {' or '.join(SPACES)}")

    @property
    def num_frames(self) -> int:
        """Number of frames, T."""
        return int(self.points.shape[1])


def write_pose(path: str | Path, pose: Pose, durable: bool = True) -> None:
    """Write a pose file. Equal poses give equal bytes.

    Args:
        path: The file, whose name should end in `SUFFIX`.
        pose: Its content.
        durable: See `utils.io.atomic_write`.
    """
    arrays = {
        "format": np.array(FORMAT),
        "points": pose.points.astype(np.float32),
        "fps": np.array(pose.fps, np.float64),
        "size": np.array([pose.width, pose.height], np.int64),
        "layout": np.array(pose.layout),
        "space": np.array(pose.space),
        "source": np.array(pose.source),
        "fingerprint": np.array(pose.fingerprint),
    }
    # Only where there is any: files of sound videos stay as they were.
    if pose.damage:
        arrays["damage"] = np.array(pose.damage)
    if pose.seen_again:
        arrays["seen_again"] = np.array(pose.seen_again, np.float64)
    with atomic_write(path, durable=durable) as file:
        write_npz(file, arrays)


def read_pose(path: str | Path) -> Pose:
    """Read a pose file.

    Raises:
        UserError: If the file cannot be read, or is no pose file.

    Example:
        >>> pose = read_pose("poses/Run_1.mp4.pose.npz")
        >>> pose.points.shape
        (1, 60, 33, 3)
    """
    try:
        if Path(path).stat().st_size > MAX_BYTES:
            raise UserError(f"is larger than {MAX_BYTES} bytes")
        return _to_pose(read_npz_bytes(Path(path).read_bytes()))
    except OSError as error:
        raise UserError(f"{path}: cannot be read: {error.strerror or error}") from None
    except (UserError, ValueError) as error:
        raise UserError(f"{path} is no pose file: {error}") from None


def _to_pose(arrays: dict[str, np.ndarray]) -> Pose:
    kinds = {
        "format": ("iu", ()),
        "points": ("f", None),
        "fps": ("f", ()),
        "size": ("iu", (2,)),
        "layout": ("U", ()),
        "space": ("U", ()),
        "source": ("U", ()),
        "fingerprint": ("U", ()),
        "damage": ("U", ()),
        "seen_again": ("fiu", None),
    }
    arrays = {"damage": np.array(""), "seen_again": np.zeros(0), **arrays}
    for name, (kind, shape) in kinds.items():
        array = arrays.get(name)
        if array is None or array.dtype.kind not in kind or shape not in (None, array.shape):
            raise UserError(f"array '{name}' is missing or of another kind")
    if int(arrays["format"]) != FORMAT:
        raise UserError(f"its format is {int(arrays['format'])}, this version reads {FORMAT}")
    return Pose(
        points=arrays["points"].astype(np.float32),
        fps=float(arrays["fps"]),
        layout=str(arrays["layout"]),
        space=str(arrays["space"]),
        width=int(arrays["size"][0]),
        height=int(arrays["size"][1]),
        source=str(arrays["source"]),
        fingerprint=str(arrays["fingerprint"]),
        damage=str(arrays["damage"]),
        seen_again=tuple(arrays["seen_again"].reshape(-1).tolist()),
    )
