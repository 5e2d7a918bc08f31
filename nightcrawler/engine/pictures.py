"""Pictures of a validation: the confusion matrix, and some clips as the model sees them."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import numpy as np
import torch

from nightcrawler.data.batch_sampler import SampleKey
from nightcrawler.data.build import EvalSet
from nightcrawler.data.dataset import STATUS_OK
from nightcrawler.engine.metric_logger import MetricLogger
from nightcrawler.pseudo.predictions import Predictions
from nightcrawler.utils.errors import describe_error
from nightcrawler.utils.logging import get_logger

if TYPE_CHECKING:
    from matplotlib.figure import Figure

logger = get_logger(__name__)

# Clips of a split that are shown, evenly spread over it, and frames of each.
NUM_CLIPS = 4
NUM_FRAMES = 3
# Classes up to which the cells of a confusion matrix show numbers.
MAX_NUMBERS = 15
DPI = 100


class ValidationPictures:
    """Draw the validation of splits for the writers of a run.

    Args:
        class_names: K names.
        sample_split: split whose clips are shown, empty for none.
        mean: that clips are normalised by, of each channel.
        std: likewise.
    """

    def __init__(
        self,
        class_names: Sequence[str],
        sample_split: str,
        mean: Sequence[float],
        std: Sequence[float],
    ) -> None:
        self.class_names = list(class_names)
        self.sample_split = sample_split
        self.mean = np.array(mean)
        self.std = np.array(std)
        # Frames of the shown clips by position in the split, decoded once.
        self._frames: dict[int, np.ndarray] | None = None

    def log(
        self,
        metric_logger: MetricLogger,
        epoch: int,
        eval_set: EvalSet,
        predictions: Predictions,
        weights: str,
    ) -> None:
        """Draw and log the pictures of a split, where a writer takes any.

        Args:
            metric_logger: logs the pictures.
            epoch: number of finished epochs.
            eval_set: the split.
            predictions: of its videos, in order.
            weights: validated weights, `raw` or `ema`.
        """
        if not metric_logger.writers.takes_pictures:
            return
        split = eval_set.split.name
        try:
            pictures = {}
            if (predictions.labels >= 0).any():
                pictures["confusion"] = confusion_picture(predictions, self.class_names)
            if split == self.sample_split:
                if self._frames is None:
                    self._frames = self._read_frames(eval_set)
                if self._frames:
                    pictures["clips"] = clips_picture(self._frames, predictions, self.class_names)
        except Exception as error:
            # A picture is worth no training.
            logger.warning("no pictures of %s (%s)", split, describe_error(error))
            return
        for name, pixels in pictures.items():
            metric_logger.log_picture(epoch, split, weights, name, pixels)

    def _read_frames(self, eval_set: EvalSet) -> dict[int, np.ndarray]:
        """Return frames uint8 `[NUM_FRAMES, h, w, 3]` of clips by position, as the model sees them.

        Videos that cannot be read are left out.
        """
        places = np.linspace(0, len(eval_set.items) - 1, NUM_CLIPS).round().astype(int)
        frames = {}
        for place in dict.fromkeys(places.tolist()):
            sample = eval_set.loader.dataset[SampleKey(place, 0)]
            if sample["status"] != STATUS_OK:
                continue
            clip = sample["clip"][sample["members"][eval_set.pairs[0]][0]]
            frames[place] = self._shown(clip)
        return frames

    def _shown(self, clip: torch.Tensor) -> np.ndarray:
        """Return frames of a normalised clip `[3, T, h, w]` as they were before."""
        times = np.linspace(0, clip.shape[1] - 1, NUM_FRAMES + 2).round().astype(int)[1:-1]
        values = clip[:, times].permute(1, 2, 3, 0).double().numpy() * self.std + self.mean
        return (values * 255).round().clip(0, 255).astype(np.uint8)


def confusion_picture(predictions: Predictions, class_names: Sequence[str]) -> np.ndarray:
    """Draw a confusion matrix of the labelled videos that have a prediction.

    Args:
        predictions: N videos.
        class_names: K names.

    Returns:
        uint8 `[H, W, 3]`.
    """
    counts = confusion_counts(predictions)
    shares = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    side = min(max(0.4 * len(class_names), 3.0), 9.0) + 1.5

    def paint(figure: Figure) -> None:
        axes = figure.subplots()
        axes.imshow(shares, cmap="Blues", vmin=0, vmax=1)
        if len(class_names) <= MAX_NUMBERS:
            for row, column in np.argwhere(counts):
                ink = "white" if shares[row, column] > 0.5 else "black"
                text = str(counts[row, column])
                axes.text(column, row, text, ha="center", va="center", color=ink)
        places = range(len(class_names))
        axes.set_xticks(places, class_names, rotation=45, ha="right", rotation_mode="anchor")
        axes.set_yticks(places, class_names)
        axes.set_xlabel("predicted")
        axes.set_ylabel("true")

    return _draw(paint, side, side)


def confusion_counts(predictions: Predictions) -> np.ndarray:
    """Count (true, predicted) pairs of the labelled videos that have a prediction.

    Args:
        predictions: N videos.

    Returns:
        int64 `[K, K]`.
    """
    used = (predictions.labels >= 0) & predictions.ok
    found = predictions.probs[used].argmax(axis=1)
    counts = np.zeros((predictions.probs.shape[1],) * 2, np.int64)
    np.add.at(counts, (predictions.labels[used], found), 1)
    return counts


def clips_picture(
    frames: dict[int, np.ndarray], predictions: Predictions, class_names: Sequence[str]
) -> np.ndarray:
    """Draw frames of clips with the model's answers.

    Args:
        frames: position in the split to frames uint8 `[n, h, w, 3]`.
        predictions: of the split.
        class_names: K names.

    Returns:
        uint8 `[H, W, 3]`.
    """

    def paint(figure: Figure) -> None:
        rows = figure.subplots(len(frames), 1, squeeze=False)
        for (place, shown), (axes,) in zip(frames.items(), rows, strict=True):
            axes.imshow(np.concatenate(list(shown), axis=1))
            axes.set_title(_answer(place, predictions, class_names), fontsize=9)
            axes.set_axis_off()

    return _draw(paint, 5.0, 2.0 * len(frames))


def _answer(place: int, predictions: Predictions, class_names: Sequence[str]) -> str:
    """Return the model's answer on a video, and its true class where one is known."""
    label = int(predictions.labels[place])
    truth = f" (true: {class_names[label]})" if label >= 0 else ""
    if not predictions.ok[place]:
        return f"no answer{truth}"
    probs = predictions.probs[place]
    return f"{class_names[int(probs.argmax())]} {100 * probs.max():.0f} %{truth}"


def _draw(paint: Callable[[Figure], None], width: float, height: float) -> np.ndarray:
    """Return a figure of a size in inches as pixels, uint8 `[H, W, 3]`."""
    # Imported here: it takes a second, which runs without pictures need not wait for.
    import matplotlib
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    # Names of classes are no formulas, and may have letters that the font lacks.
    with matplotlib.rc_context({"text.parse_math": False}), warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Glyph .* missing", UserWarning)
        figure = Figure(figsize=(width, height), dpi=DPI, layout="constrained")
        canvas = FigureCanvasAgg(figure)
        paint(figure)
        canvas.draw()
        return np.asarray(canvas.buffer_rgba())[..., :3].copy()
