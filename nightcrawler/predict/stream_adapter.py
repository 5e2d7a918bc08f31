"""Adaptation to a stream while it is predicted: BatchNorm statistics that follow its light."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from fvcore.common.config import CfgNode
from torch import nn

from nightcrawler.adapt.online import HALF_LIFE_SEC, OnlineBatchNorm
from nightcrawler.predict.light_change import CHANGED, DOUBTFUL, LightChange, measure_light
from nightcrawler.predict.model_input import FrameSpan
from nightcrawler.pseudo.predictions import STATUS_OK, Predictions
from nightcrawler.utils.logging import get_logger

logger = get_logger(__name__)

# Name among those of adapters that work before the prediction.
ONLINE = "online"
# Why models of skeletons stay as they are: adapted statistics cost the packaged one 11 points on
# real clips (docs/pose.md).
NO_LIGHT = "sees joints and no light, so nothing is adapted"


class StreamAdapter:
    """Follows the windows of one stream after another.

    A window of another file, or one that does not start after the last one, begins a new stream,
    with the model's own statistics. So the answers of a video do not depend on other videos.

    Args:
        name: name of the model, for the log.
        model: classifier of clips, in evaluation mode.

    Attributes:
        statistics: BatchNorm statistics of the present stream.
        num_changes: changes of light in it.
    """

    def __init__(self, name: str, model: nn.Module) -> None:
        self.name = name
        self.num_changes = 0
        self.statistics = OnlineBatchNorm(model)
        self._light = LightChange()
        self._path: Path | None = None
        self._start_sec = 0.0
        # End of the last window in the statistics, None before the first.
        self._end_sec: float | None = None

    @property
    def num_layers(self) -> int:
        """Number of layers that follow the stream."""
        return self.statistics.num_layers

    def follow(self, span: FrameSpan, predict: Callable[[], Predictions]) -> Predictions:
        """Return the prediction of the next window.

        Args:
            span: frames of the window.
            predict: predicts them by the model.
        """
        if self._end_sec is None or span.path != self._path or span.start_sec <= self._start_sec:
            self._begin(span)
        self._start_sec = span.start_sec
        change = self._light.see(measure_light(span.frames), span.end_sec)
        if change == CHANGED:
            logger.info("%s: %.1f s: another light, statistics begin anew", self.name, span.end_sec)
            self.num_changes += 1
            self.statistics.restart()
        with self.statistics.window():
            predictions = predict()
        # Of headlights that pass, nothing is learned.
        if predictions.status[0] == STATUS_OK and change != DOUBTFUL:
            self._learn(span, int(predictions.probs[0].argmax()))
        return predictions

    def _begin(self, span: FrameSpan) -> None:
        self.statistics.restart()
        self._light = LightChange()
        self._path = span.path
        self._end_sec = span.start_sec
        self.num_changes = 0

    def _learn(self, span: FrameSpan, class_id: int) -> None:
        assert self._end_sec is not None
        passed_sec = span.end_sec - self._end_sec
        # Windows overlap, and frames of a camera may be lost between them.
        seen_sec = min(passed_sec, span.end_sec - span.start_sec)
        self.statistics.learn(passed_sec, seen_sec, class_id)
        self._end_sec = span.end_sec


def build_stream_adapter(cfg: CfgNode, name: str, model: nn.Module) -> StreamAdapter | None:
    """Build the adapter of a model, or say why there is none.

    Args:
        cfg: configuration of the model.
        name: name of the model.
        model: classifier of clips, in evaluation mode.
    """
    if cfg.DATA.INPUT == "pose":
        logger.warning("%s: online: %s", name, NO_LIGHT)
        return None
    adapter = StreamAdapter(name, model)
    if not adapter.num_layers:
        logger.warning(
            "%s: online: %s has no BatchNorm layer, so its answers are those without --adapt",
            name,
            type(model).__name__,
        )
        return None
    return adapter


def about_stream(stream: StreamAdapter | None) -> dict[str, Any]:
    """Return plain values that identify an adapter, none where there is none."""
    if stream is None:
        return {}
    return {"adapter": ONLINE, "half_life_sec": HALF_LIFE_SEC}
