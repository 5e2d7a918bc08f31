"""Read ASF/AMC pairs (Acclaim): a skeleton of bones, and the turning of each bone in each frame.

This is the form of the CMU motion capture database.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field

import numpy as np

from nightcrawler.pose.recordings.skeleton_tree import MAX_ROTATIONS, body_points, chained_rotation
from nightcrawler.utils.errors import UserError

MAX_BONES = 512
MAX_FRAMES = 1_000_000
# Frames per second of CMU; the files do not say it.
FPS = 120.0
ROOT = "root"
# Degrees in a unit of angles, by its name in a skeleton and its word in the head of a motion.
DEGREES = 1.0
RADIANS = 180 / math.pi
FLAGS = (":fully-specified",)
UNITS = {"deg": DEGREES, "degrees": DEGREES, "rad": RADIANS, "radians": RADIANS}


@dataclass
class _Bone:
    direction: np.ndarray = field(default_factory=lambda: np.zeros(3))
    length: float = 0.0
    axis: np.ndarray = field(default_factory=lambda: np.eye(3))
    dof: list[str] = field(default_factory=list)
    parent: str = ""


def read_amc(skeleton: str, motion: str) -> tuple[np.ndarray, float]:
    """Return the joints and the frame rate of an ASF/AMC pair.

    Args:
        skeleton: The `.asf` file.
        motion: The `.amc` file. Without a unit of its own, it has the skeleton's.

    Returns:
        float64 `[T, 13, 3]` of layout `body` in the world (y up), and frames per second.

    Raises:
        UserError: If one of them is damaged or of an unknown unit, or the skeleton has no body.
    """
    unit = _skeleton_unit(skeleton)
    bones = _read_bones(skeleton, unit)
    frames = _read_frames(motion, bones, _motion_unit(motion, unit))
    return body_points(_positions(bones, frames)), FPS


def _skeleton_unit(text: str) -> float:
    """Return the degrees in the unit of a skeleton's angles, one where it names none."""
    section = ""
    for line in text.splitlines():
        words = line.split("#")[0].lower().split()
        if words and words[0].startswith(":"):
            section = words[0]
        elif section == ":units" and words[:1] == ["angle"]:
            name = " ".join(words[1:])
            if name not in UNITS:
                raise UserError(f"angle {name[:20]!r} of the skeleton: expected deg or rad")
            return UNITS[name]
    return DEGREES


def _motion_unit(text: str, unit: float) -> float:
    """Return the degrees in the unit of a motion's angles, `unit` where it names none."""
    for number, line in enumerate(text.splitlines(), start=1):
        words = line.lower().split()
        # Numbers of frames end the head. Words with values, such as a rate, are no units.
        if words and words[0].isdigit():
            break
        if len(words) != 1 or not words[0].startswith(":") or words[0] in FLAGS:
            continue
        name = words[0].removeprefix(":")
        if name not in UNITS:
            raise UserError(
                f"line {number} of the motion: {name[:20]!r}, expected :DEGREES or :RADIANS"
            )
        unit = UNITS[name]
    return unit


def _read_bones(text: str, unit: float) -> dict[str, _Bone]:
    bones = {ROOT: _Bone(dof=["tx", "ty", "tz", "rx", "ry", "rz"])}
    section = ""
    name = ""
    for number, line in enumerate(text.splitlines(), start=1):
        words = line.split("#")[0].split()
        if not words:
            continue
        try:
            if words[0].startswith(":"):
                section = words[0]
            elif section == ":root":
                _read_root(bones[ROOT], words, unit)
            elif section == ":bonedata":
                name = _read_bone_line(bones, name, words, unit)
            elif section == ":hierarchy" and words[0] not in ("begin", "end"):
                for child in words[1:]:
                    bones[child].parent = words[0]
        except (ValueError, KeyError, IndexError):
            raise UserError(
                f"line {number} of the skeleton is not understood: {line[:60]!r}"
            ) from None
        if len(bones) > MAX_BONES:
            raise UserError(f"has more than {MAX_BONES} bones")
    if len(bones) == 1:
        raise UserError("is no ASF file: it has no bones")
    return bones


def _read_root(root: _Bone, words: list[str], unit: float) -> None:
    if words[0] == "order":
        root.dof = [word.lower() for word in words[1:]]
    elif words[0] == "orientation":
        degrees = unit * np.array([float(word) for word in words[1:4]])
        root.axis = chained_rotation("zyx", degrees[::-1])


def _read_bone_line(bones: dict[str, _Bone], name: str, words: list[str], unit: float) -> str:
    """Read one line of a bone, and return the name of the bone."""
    if words[0] == "name":
        bones[words[1]] = _Bone()
        return words[1]
    if words[0] == "direction":
        bones[name].direction = np.array([float(word) for word in words[1:4]])
    elif words[0] == "length":
        bones[name].length = float(words[1])
    elif words[0] == "axis":
        degrees = unit * np.array([float(word) for word in words[1:4]])
        order = words[4].lower() if len(words) > 4 else "xyz"
        # XYZ turns about x first, so that z is the outermost factor.
        bones[name].axis = chained_rotation(order[::-1], degrees[::-1])
    elif words[0] == "dof":
        bones[name].dof = [word.lower() for word in words[1:]]
    return name


def _read_frames(text: str, bones: dict[str, _Bone], unit: float) -> dict[str, np.ndarray]:
    """Return the degrees of freedom of each bone, `[T, D]`, angles in degrees."""
    rows: dict[str, list[list[float]]] = {name: [] for name in bones}
    num_frames = 0
    for number, line in enumerate(text.splitlines(), start=1):
        words = line.split()
        if not words or words[0][0] in "#:":
            continue
        if len(words) == 1:
            num_frames += 1
            continue
        bone = bones.get(words[0])
        try:
            values = [float(word) for word in words[1:]]
        except ValueError:
            values = []
        if bone is None or len(values) != len(bone.dof) or not np.isfinite(values).all():
            raise UserError(f"line {number} of the motion does not fit its skeleton: {line[:60]!r}")
        rows[words[0]].append(values)
    if not 0 < num_frames <= MAX_FRAMES:
        raise UserError(f"has {num_frames} frames")
    if num_frames * len(bones) > MAX_ROTATIONS:
        raise UserError(f"has more than {MAX_ROTATIONS} rotations in all")
    frames = {}
    for name, turns in rows.items():
        if turns and len(turns) != num_frames:
            raise UserError(f"breaks off: bone '{name}' has {len(turns)} of {num_frames} frames")
        dof = bones[name].dof
        scale = np.array([unit if kind[0] == "r" else 1.0 for kind in dof])
        frames[name] = scale * (np.array(turns) if turns else np.zeros((num_frames, len(dof))))
    return frames


def _positions(bones: dict[str, _Bone], frames: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Return where each bone begins, `[T, 3]`, and for the head where it ends."""
    ends: dict[str, np.ndarray] = {}
    turns: dict[str, np.ndarray] = {}
    starts: dict[str, np.ndarray] = {}
    for name in _parents_first(bones):
        bone = bones[name]
        local = _local_turn(bone, frames[name])
        if name == ROOT:
            moved = [frames[name][:, bone.dof.index(axis)] for axis in ("tx", "ty", "tz")]
            starts[name] = np.stack(moved, axis=1)
            turns[name] = local
            ends[name] = starts[name]
            continue
        turns[name] = turns[bone.parent] @ local
        starts[name] = ends[bone.parent]
        ends[name] = starts[name] + (turns[name] @ (bone.direction * bone.length))
    return {**starts, "head": ends["head"]} if "head" in ends else starts


def _local_turn(bone: _Bone, values: np.ndarray) -> np.ndarray:
    """Return the turning of a bone in the frame of its parent, `[T, 3, 3]`."""
    columns = [index for index, name in enumerate(bone.dof) if name[0] == "r"]
    axes = [bone.dof[index][1] for index in columns]
    # The first degree of freedom turns first, so that it is the innermost factor.
    turn = chained_rotation(axes[::-1], values[:, columns[::-1]])
    return bone.axis @ turn @ bone.axis.T


def _parents_first(bones: dict[str, _Bone]) -> list[str]:
    order = [ROOT]
    for name in order:
        order += [child for child, bone in bones.items() if bone.parent == name]
        if len(order) > len(bones):
            raise UserError("has a bone that is its own ancestor")
    return order
