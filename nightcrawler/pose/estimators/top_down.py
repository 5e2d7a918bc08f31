"""Any top-down estimator of 17 COCO joints in an ONNX file, such as RTMPose, by onnxruntime.

A top-down model sees one person in a box, so people must be found first. No detector is needed: the
model looks at the whole picture and at crops of it, and moves its box to the joints that it is sure
of. From then on the box follows the person.
"""

from __future__ import annotations

import importlib
import importlib.util
from dataclasses import dataclass
from typing import Any

import numpy as np
from PIL import Image

from nightcrawler.pose.crops import CROP_SHARE, crop_corners
from nightcrawler.pose.estimators.base import (
    UNRELATED,
    EstimatorOptions,
    check_model_file,
)
from nightcrawler.utils.errors import UserError, missing_extra
from nightcrawler.utils.io import sha256_file

NAME = "onnx"
NUM_JOINTS = 17
# Mean and standard deviation of ImageNet's pictures, which RTMPose and most others are trained by.
MEAN = np.array([123.675, 116.28, 103.53], np.float32)
STD = np.array([58.395, 57.12, 57.375], np.float32)
# Height and width of the input where the file leaves them open: those of RTMPose.
USUAL_SIZE = (256, 192)
# A box is so much larger than its joints.
PADDING = 1.25
# Mean confidence of a person, and confidence of a joint that a box is made of.
LEAST_CONFIDENCE = 0.3
# Seconds between two searches for people who are not followed yet.
SEARCH_SEC = 0.5
# Boxes that share more than this of their area hold one person.
SAME_PERSON = 0.5


@dataclass(frozen=True)
class Box:
    """Part of a picture, in pixels, which may go beyond its edges."""

    left: float
    top: float
    width: float
    height: float

    def padded(self, ratio: float) -> Box:
        """Return the box, larger, with a ratio of width to height."""
        width = max(self.width, self.height * ratio) * PADDING
        height = width / ratio
        middle = self.left + self.width / 2, self.top + self.height / 2
        return Box(middle[0] - width / 2, middle[1] - height / 2, width, height)

    def overlap(self, other: Box) -> float:
        """Return the intersection over the union with another box."""
        right = min(self.left + self.width, other.left + other.width)
        bottom = min(self.top + self.height, other.top + other.height)
        width = max(right - max(self.left, other.left), 0.0)
        height = max(bottom - max(self.top, other.top), 0.0)
        union = self.width * self.height + other.width * other.height - width * height
        return width * height / max(union, 1e-6)


def build_onnx(options: EstimatorOptions) -> TopDown:
    """Build an estimator from an ONNX file.

    Raises:
        UserError: If onnxruntime is missing, or the file is no top-down model of 17 joints.
    """
    if importlib.util.find_spec("onnxruntime") is None:
        raise missing_extra(f"estimator '{NAME}'", "export")
    path = check_model_file(NAME, options.model, ".onnx")
    runtime = importlib.import_module("onnxruntime")
    settings = runtime.SessionOptions()
    # Each process runs its own: threads of several would only wait for each other.
    settings.intra_op_num_threads = 1
    try:
        session = runtime.InferenceSession(str(path), settings, providers=["CPUExecutionProvider"])
    except Exception:
        # The library has an exception of its own for each fault, without a common class.
        raise UserError(f"{path}: cannot be read as an ONNX model") from None
    net = _Net(session, str(path))
    return TopDown(f"onnx {path.name} {sha256_file(path)[:12]}", net, options.max_people)


class _Net:
    """The model: a picture of a person to joints in shares of that picture.

    Args:
        session: onnxruntime's session.
        path: The file, for messages.
    """

    def __init__(self, session: Any, path: str) -> None:
        self._session = session
        given = session.get_inputs()
        if len(given) != 1 or len(given[0].shape) != 4 or given[0].shape[1] != 3:
            shapes = [list(item.shape) for item in given]
            raise UserError(f"{path}: its inputs are {shapes}, expected one of [N, 3, H, W]")
        self._input = given[0].name
        sides = zip(given[0].shape[2:], USUAL_SIZE, strict=True)
        self.height, self.width = (
            side if isinstance(side, int) else usual for side, usual in sides
        )
        self._names = [output.name for output in session.get_outputs()]
        shapes = [list(array.shape) for array in self._run(np.zeros((8, 8, 3), np.uint8))]
        is_simcc = len(shapes) == 2 and all(len(shape) == 3 for shape in shapes)
        is_heatmap = len(shapes) == 1 and len(shapes[0]) == 4
        if not (is_simcc or is_heatmap) or any(shape[1] != NUM_JOINTS for shape in shapes):
            raise UserError(
                f"{path}: its outputs are {shapes}, expected two of [N, 17, L] (SimCC) or one of "
                "[N, 17, h, w] (heatmaps)"
            )

    def _run(self, picture: np.ndarray) -> list[np.ndarray]:
        whole = Box(0, 0, picture.shape[1], picture.shape[0])
        batch = self._cut(Image.fromarray(picture), whole)
        return self._session.run(self._names, {self._input: batch})

    def _cut(self, picture: Image.Image, box: Box) -> np.ndarray:
        """Return a box as the input, float32 `[1, 3, H, W]`, black beyond the picture."""
        scale = (box.width / self.width, box.height / self.height)
        matrix = (scale[0], 0, box.left, 0, scale[1], box.top)
        cut = picture.transform(
            (self.width, self.height),
            Image.Transform.AFFINE,
            matrix,
            Image.Resampling.BILINEAR,
        )
        pixels = (np.asarray(cut, np.float32) - MEAN) / STD
        return np.ascontiguousarray(pixels.transpose(2, 0, 1)[None])

    def joints(self, picture: Image.Image, box: Box) -> np.ndarray:
        """Return the joints in a box, float32 `[17, 3]` in pixels of the picture."""
        outputs = self._session.run(self._names, {self._input: self._cut(picture, box)})
        shares = _decode_simcc(*outputs) if len(outputs) == 2 else _decode_heatmaps(outputs[0])
        shares[:, 0] = box.left + shares[:, 0] * box.width
        shares[:, 1] = box.top + shares[:, 1] * box.height
        return shares


def _decode_simcc(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Return x, y in shares of the box and confidence of joints.

    Args:
        x: `[1, 17, Lx]`, a classification of the column (Li et al., SimCC, ECCV 2022).
        y: `[1, 17, Ly]`, of the row.
    """
    column = (x[0].argmax(axis=1) + 0.5) / x.shape[2]
    row = (y[0].argmax(axis=1) + 0.5) / y.shape[2]
    confidence = np.minimum(x[0].max(axis=1), y[0].max(axis=1))
    return np.stack([column, row, confidence.clip(0, 1)], axis=1).astype(np.float32)


def _decode_heatmaps(maps: np.ndarray) -> np.ndarray:
    """Return x, y in shares of the box and confidence of joints of heatmaps `[1, 17, h, w]`."""
    height, width = maps.shape[2:]
    joints = np.zeros((NUM_JOINTS, 3), np.float32)
    for joint, heat in enumerate(maps[0]):
        row, column = divmod(int(heat.argmax()), width)
        # A quarter of a cell to the higher neighbour (Newell et al., Stacked hourglass, 2016).
        x = column + 0.5 + 0.25 * _slope(heat[row], column)
        y = row + 0.5 + 0.25 * _slope(heat[:, column], row)
        joints[joint] = x / width, y / height, heat[row, column].clip(0, 1)
    return joints


def _slope(line: np.ndarray, place: int) -> float:
    if not 0 < place < len(line) - 1:
        return 0.0
    return float(np.sign(line[place + 1] - line[place - 1]))


class TopDown:
    """Estimator of 17 joints of several people.

    Args:
        source: Name and content of the file.
        net: The model.
        max_people: Most people in a picture.
    """

    layout = "coco17"

    def __init__(self, source: str, net: _Net, max_people: int) -> None:
        self.source = source
        self._net = net
        self._max_people = max_people
        self._followed: list[np.ndarray] = []
        self._since_search = 0

    def reset(self) -> None:
        """Forget the people of the frames before."""
        self._followed = []
        self._since_search = 0

    def estimate(self, frames: np.ndarray, fps: float) -> np.ndarray:
        """Find joints, see `PoseEstimator.estimate`."""
        points = np.full((self._max_people, len(frames), NUM_JOINTS, 3), np.nan, np.float32)
        for number, frame in enumerate(frames):
            if fps == UNRELATED:
                self.reset()
            picture = Image.fromarray(frame)
            people = [self._follow(picture, person) for person in self._followed]
            if self._since_search <= 0 and len(people) < self._max_people:
                people += self._search(picture)
                self._since_search = round(SEARCH_SEC * fps)
            self._since_search -= 1
            self._followed = self._choose(people)
            for index, person in enumerate(self._followed):
                points[index, number] = person
        return points

    def _follow(self, picture: Image.Image, person: np.ndarray) -> np.ndarray:
        """Return the joints of somebody whose joints in the frame before are known."""
        box = _box_of(person).padded(self._net.width / self._net.height)
        return self._net.joints(picture, box)

    def _search(self, picture: Image.Image) -> list[np.ndarray]:
        """Return the joints of everybody who is seen in the picture or a crop of it."""
        height, width = CROP_SHARE[0] * picture.height, CROP_SHARE[1] * picture.width
        boxes = [Box(0, 0, picture.width, picture.height)]
        for top, left in crop_corners(picture.height, picture.width, height, width):
            boxes.append(Box(left, top, width, height))
        found = []
        for box in boxes:
            seen = self._net.joints(picture, box.padded(self._net.width / self._net.height))
            # A box that is too large shows a person too small to be sure of: half is enough.
            if _confidence(seen) >= LEAST_CONFIDENCE / 2:
                found.append(self._follow(picture, seen))
        return found

    def _choose(self, people: list[np.ndarray]) -> list[np.ndarray]:
        """Return people who are sure, each once, the surest first."""
        chosen: list[np.ndarray] = []
        for person in sorted(people, key=_confidence, reverse=True):
            if _confidence(person) < LEAST_CONFIDENCE or len(chosen) == self._max_people:
                break
            box = _box_of(person)
            if all(box.overlap(_box_of(other)) < SAME_PERSON for other in chosen):
                chosen.append(person)
        return chosen


def _confidence(person: np.ndarray) -> float:
    return float(person[:, 2].mean())


def _box_of(person: np.ndarray) -> Box:
    """Return the box around the joints that are sure, or around all if fewer than two are."""
    sure = person[person[:, 2] >= LEAST_CONFIDENCE]
    places = (sure if len(sure) > 1 else person)[:, :2]
    left, top = places.min(axis=0).tolist()
    right, bottom = places.max(axis=0).tolist()
    return Box(left, top, max(right - left, 1.0), max(bottom - top, 1.0))
