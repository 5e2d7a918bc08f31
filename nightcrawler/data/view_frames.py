"""Frames of the views of one video, made one view at a time."""

from __future__ import annotations

from collections.abc import Sequence
from typing import overload

import numpy as np

from nightcrawler.data.video.decode import Decoded
from nightcrawler.data.video.integrity.limits import Limits, check_view

# Frames of each view, uint8 `[T, H, W, 3]`.
Views = Sequence[np.ndarray]


class ViewFrames(Sequence[np.ndarray]):
    """Frames of each view, uint8 `[T, H, W, 3]`, taken out of the decoded ones when asked for.

    A view may repeat frames, and views share them: all views at once can be many times what was
    decoded.

    Args:
        path: the video, for errors.
        decoded: its frames, each once.
        views: frame numbers of each view, int64 `[T]`, among those decoded.
        limits: most memory of one view.

    Raises:
        VideoError: if a view takes more memory than is allowed.
    """

    def __init__(
        self, path: str, decoded: Decoded, views: Views, limits: Limits | None = None
    ) -> None:
        longest = max(map(len, views), default=0)
        check_view(path, longest, decoded.frames[:1].nbytes, limits or Limits())
        self._frames = decoded.frames
        self._indices = np.asarray(decoded.indices)
        self._views = views

    def __len__(self) -> int:
        return len(self._views)

    @overload
    def __getitem__(self, place: int) -> np.ndarray: ...

    @overload
    def __getitem__(self, place: slice) -> list[np.ndarray]: ...

    def __getitem__(self, place: int | slice) -> np.ndarray | list[np.ndarray]:
        if isinstance(place, slice):
            return [self[one] for one in range(*place.indices(len(self)))]
        return self._frames[np.searchsorted(self._indices, self._views[place])]
