"""Read videos with torchcodec, where it is installed.

It makes the checks and gives the frames of PyAV with the published conversion of colours.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from nightcrawler.data.video.convert import PUBLISHED, display_matrix, pixel_aspect
from nightcrawler.data.video.decode import Decoded, FileReader
from nightcrawler.data.video.integrity.limits import Limits, check_memory, check_size
from nightcrawler.data.video.probe import StreamInfo, probe
from nightcrawler.data.video.reader import decoded_frames, open_video
from nightcrawler.utils.errors import UserError, VideoError, install_command

# torchcodec gives the frames of these bit for bit as PyAV does; others (packed B-frames, more bits)
# are left to PyAV.
CODECS = ("h264", "hevc", "vp8", "vp9", "av1")
BITS = 8


def import_decoder() -> Any:
    """Return the decoder class of torchcodec.

    Raises:
        UserError: if torchcodec is not installed, or finds no FFmpeg.
    """
    reason = "it is not installed"
    try:
        import torchcodec
        from torchcodec.decoders import VideoDecoder

        if torchcodec.ffmpeg_major_version:
            return VideoDecoder
        reason = "it finds no FFmpeg libraries"
    except ModuleNotFoundError:
        pass
    except (ImportError, OSError, RuntimeError):
        reason = "it cannot be loaded"
    raise UserError(
        f"torchcodec: {reason}: {install_command('torchcodec')} and the FFmpeg libraries of the "
        "system"
    )


@dataclass(frozen=True)
class TorchcodecReader:
    """Read frames of video files with torchcodec, or with PyAV where their frames differ.

    Colours are converted as published, the only way that torchcodec has. A frame that cannot be
    decoded is an error. Damage that FFmpeg conceals is not noticed.

    Attributes:
        short_side: scale frames down to this short side in pixels (by PyAV) (0 keeps their size).
        limits: largest file, picture, number of frames and memory that are accepted.
    """

    short_side: int = 0
    limits: Limits = field(default_factory=Limits)

    def probe(self, path: str) -> StreamInfo:
        """Read the packets of a file, see `probe`."""
        return probe(path, self.limits)

    def decode(self, path: str, indices: Sequence[int], info: StreamInfo) -> Decoded:
        """Decode the frames with the given numbers.

        Args:
            path: a regular file.
            indices: increasing frame numbers.
            info: result of `probe` for this file.

        Raises:
            UserError: if torchcodec is not installed, or finds no FFmpeg.
            FrameCountError: if PyAV yields another number of frames than `info.num_frames`.
            VideoError: if the file is over a limit, damaged, or cut short.
        """
        decoder_class = import_decoder()
        if not self._reads(path, info):
            reader = FileReader(self.short_side, self.limits, PUBLISHED)
            return reader.decode(path, indices, info)
        wanted = list(indices)
        frames = None
        try:
            decoder = decoder_class(f"file:{path}", dimension_order="NHWC", num_ffmpeg_threads=1)
            metadata = decoder.metadata
            check_size(path, metadata.width, metadata.height, self.limits)
            check_memory(path, len(wanted), metadata.width, metadata.height, self.limits)
            if metadata.num_frames == info.num_frames:
                frames = decoder.get_frames_at(wanted).data.numpy()
        except (RuntimeError, ValueError, IndexError):
            raise VideoError(path, "damaged (torchcodec cannot decode it)", "decode") from None
        if frames is None:
            cause = f"{metadata.num_frames} of {info.num_frames} frames can be decoded"
            raise VideoError(path, f"cut short: {cause}", "decode")
        return Decoded(np.ascontiguousarray(frames), wanted, info.num_frames, info.fps)

    def _reads(self, path: str, info: StreamInfo) -> bool:
        """Return whether torchcodec gives the frames that PyAV gives, by the first of them."""
        if self.short_side or info.codec not in CODECS or info.bits != BITS:
            return False
        # It counts packets before the first keyframe, and orders frames by their times.
        if info.num_left_out or info.steps_back:
            return False
        with open_video(path, self.limits) as (container, stream):
            if pixel_aspect(stream) != 1.0:
                return False
            frame = next(decoded_frames(path, container, stream), None)
            return frame is not None and display_matrix(frame) is None
