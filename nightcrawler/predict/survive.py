"""Go on with the other videos where an unexpected error stops the prediction of one."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

from nightcrawler.data.lists import VideoItem
from nightcrawler.predict.sliding_windows import ScoredSpan
from nightcrawler.predict.video_result import VideoResult
from nightcrawler.utils.errors import VideoError, unexpected_as_video_error
from nightcrawler.utils.logging import get_logger

logger = get_logger(__name__)

# Yields a result and its spans for each video, in order.
PredictMany = Callable[[Sequence[VideoItem]], Iterator[tuple[VideoResult, list[ScoredSpan]]]]


def survive(
    class_names: Sequence[str], items: Sequence[VideoItem], predict: PredictMany
) -> Iterator[tuple[VideoResult, list[ScoredSpan]]]:
    """Yield a result per video: an error that one video raises costs that video only.

    Args:
        class_names: names of the K classes.
        items: videos.
        predict: yields the pairs of many videos, in order.

    Raises:
        UserError: of the models or options, as every video would raise it.
    """
    rest = list(items)
    while rest:
        done = 0
        try:
            with unexpected_as_video_error(rest[0].path, "predict"):
                for pair in predict(rest):
                    done += 1
                    yield pair
        except VideoError as error:
            if done == len(rest):
                return
            item = rest[done]
            logger.warning("%s: %s", item.name, error.status)
            yield VideoResult(item.name, item.label, error.status, tuple(class_names)), []
            done += 1
        rest = rest[done:]
