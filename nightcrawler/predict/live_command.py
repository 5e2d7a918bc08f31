"""Predict a camera, or a file that is played as one, until it ends."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path

from nightcrawler.data.lists import VideoItem
from nightcrawler.data.video.reader import is_live
from nightcrawler.data.video.salvage import Damage, probe_damaged
from nightcrawler.data.video.stream import Frame, live_frames, paced, readable_video_frames
from nightcrawler.predict.command import ResultWriter
from nightcrawler.predict.ensemble import Ensemble
from nightcrawler.predict.events.tell import LiveEvents, clock_at_start
from nightcrawler.predict.live import live_windows
from nightcrawler.predict.long_video import span_of
from nightcrawler.predict.sliding_windows import Window
from nightcrawler.predict.video_result import STATUS_DAMAGED, VideoResult, format_clock
from nightcrawler.utils.errors import mask_credentials
from nightcrawler.utils.logging import get_logger

logger = get_logger(__name__)


def predict_live(
    ensemble: Ensemble, source: str, window: tuple[float, float], writer: ResultWriter
) -> int:
    """Predict the newest window of a live source again and again, until it ends or Ctrl-C.

    Args:
        ensemble: models to run.
        source: address or device of a camera, or a file to play at its own pace.
        window: length and stride of windows, in seconds.
        writer: outputs.

    Returns:
        the number of frames that were dropped to keep up.

    Raises:
        VideoError: if the source is lost.
    """
    # The name is printed and written. Addresses of cameras hold passwords.
    item = VideoItem(mask_credentials(source), -1, Path(source), 1)
    num_dropped = 0
    with contextlib.ExitStack() as stack:
        events = writer.events and stack.enter_context(LiveEvents(writer.events, item.name))
        try:
            # All models get the frames of one decoder.
            frames = _live_source(source, ensemble)
            for latest, dropped in live_windows(frames, *window, source, ensemble.limits):
                clock_sec = clock_at_start(latest)
                num_dropped += dropped
                result = ensemble.frames(item, span_of(latest, None))
                _take(writer, item, result, latest, num_dropped)
                if events:
                    events.tell(latest, result, clock_sec)
        except KeyboardInterrupt:
            writer.echo("stopped")
    return num_dropped


def _take(
    writer: ResultWriter, item: VideoItem, result: VideoResult, window: Window, num_dropped: int
) -> None:
    """Write and print the result of a window."""
    start_sec, end_sec = window.start_sec, window.end_sec
    writer.take(item, result, [], start_sec=start_sec, end_sec=end_sec, dropped_frames=num_dropped)
    writer.show(result, prefix=f"{format_clock(start_sec)} - {format_clock(end_sec)}  ")


def _live_source(source: str, ensemble: Ensemble) -> Iterator[Frame]:
    """Return frames of a camera, or of a file at the pace of one."""
    side, limits, color = ensemble.short_side, ensemble.limits, ensemble.color
    if is_live(source):
        return live_frames(source, side, limits, color)
    return paced(_frames_of_file(source, ensemble))


def _frames_of_file(source: str, ensemble: Ensemble) -> Iterator[Frame]:
    """Yield the frames of a file, past its damage as those of a camera."""
    damage = Damage()
    side, limits, color = ensemble.short_side, ensemble.limits, ensemble.color
    info = probe_damaged(source, limits, damage)
    yield from readable_video_frames(source, info, damage, side, limits, color)
    if damage:
        logger.warning("%s: %s: %s", source, STATUS_DAMAGED, damage.describe())
