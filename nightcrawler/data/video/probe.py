"""Probe a video: count its frames and check the whole file without decoding it.

The result is remembered until the file changes, so that the second sample of a video opens its file
once, to decode.
"""

from __future__ import annotations

import itertools
import re
from array import array
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace

from av.packet import Packet
from av.video.stream import VideoStream

from nightcrawler.data.video.integrity.asf import asf_faults
from nightcrawler.data.video.integrity.elements import element_faults
from nightcrawler.data.video.integrity.file_identity import FileState, settled_state
from nightcrawler.data.video.integrity.gaps import NO_GAPS, Gaps
from nightcrawler.data.video.integrity.joined import Section, joined_files
from nightcrawler.data.video.integrity.limits import Limits, check_file
from nightcrawler.data.video.integrity.matroska import matroska_faults
from nightcrawler.data.video.integrity.transport_stream import find_gaps
from nightcrawler.data.video.parts import Place, PlacedPacket, placed_packets
from nightcrawler.data.video.reader import faults_as_video_errors, open_video
from nightcrawler.data.video.seek import is_random_access_point
from nightcrawler.utils.errors import VideoError
from nightcrawler.utils.lru import LruMapping

TRANSPORT_STREAM = "mpegts"
# Files of these formats begin with key frames: where none is found, it is damaged.
KEY_FIRST_FORMATS = ("avi",)
# Takes the faults of a file: raises them, or notes them.
Report = Callable[[VideoError], None]
# Packets that a header may promise and not deliver.
SLACK_PACKETS = 2
# Smallest share of the duration promised by a Matroska header that must be there.
LEAST_DURATION = 0.95
# An MP4 file may end within a frame: it lacks less than one frame's duration then.
SLACK_DURATION = 0.99
# Frames of all remembered videos together: 8 bytes each, 16 MiB in every process that reads videos.
MOST_REMEMBERED_FRAMES = 1 << 21


@dataclass(frozen=True)
class StreamInfo:
    """Properties of a video stream that its packets tell.

    Attributes:
        num_frames: number of frames in the stream.
        codec: FFmpeg's name of the codec, which that of its decoder may differ from.
        bits: bits of a colour channel.
        fps: average frame rate in frames per second, 0 where the file does not state it.
        start_sec: earliest time stamp in seconds, 0 where there are none.
        times: presentation times of the frames in ticks of the stream, increasing. Empty where they
            do not tell frames apart.
        starts: numbers of the frames at which decoding can start.
        num_leading: number of frames shown before the first keyframe, as in a recording cut out of
            a longer one. They need frames that are missing, and a decoder may leave them out.
        num_left_out: number of packets before the first keyframe, and of a last one that is cut,
            which are no frames.
        steps_back: True where times step back, as in recordings that were joined byte by byte.
        sections: the files within the file, see `joined_files`.
        gaps: those of a transport stream, and bytes that are damaged, of each of these files.
    """

    num_frames: int
    codec: str = ""
    bits: int = 0
    fps: float = 0.0
    start_sec: float = 0.0
    times: Sequence[int] = ()
    starts: Sequence[int] = ()
    num_leading: int = 0
    num_left_out: int = 0
    steps_back: bool = False
    sections: tuple[Section, ...] = ()
    gaps: tuple[Gaps, ...] = ()

    def files(self) -> Iterator[tuple[Section | None, Gaps]]:
        """Yield the files within the file and the gaps of each, one for a whole file."""
        sections: Sequence[Section | None] = self.sections or (None,)
        yield from zip(sections, self.gaps or (NO_GAPS,) * len(sections), strict=True)

    def with_num_frames(self, num_frames: int) -> StreamInfo:
        """Return the same with the true number of frames, where packets promise another.

        Packet times are dropped: they no longer tell which frame is which.
        """
        return replace(self, num_frames=num_frames, times=(), starts=())


_remembered: LruMapping[tuple[FileState, Limits], StreamInfo] = LruMapping(MOST_REMEMBERED_FRAMES)


def probe(path: str, limits: Limits) -> StreamInfo:
    """Read all packets of a file and check its container.

    A file is read once by a process. It is read again after it changed, and where it was refused.

    Args:
        path: a regular file.
        limits: largest file, picture and number of frames that are accepted.

    Raises:
        VideoError: if the file cannot be read, is over a limit, damaged, or cut short.

    Example:
        >>> probe("clip.mp4", Limits()).num_frames
        250
    """
    # Taken before the file is read, see `settled_state`.
    state = settled_state(path)
    if state is None:
        return _probe(path, limits, _refuse)
    info = _remembered.get((state, limits))
    if info is None:
        info = _probe(path, limits, _refuse)
        _remembered.put((state, limits), info, size=max(len(info.times), 1))
    return info


def probe_readable(path: str, limits: Limits) -> tuple[StreamInfo, list[VideoError]]:
    """Read all packets of a file, damaged or not.

    Args:
        path: a regular file.
        limits: largest file, picture and number of frames that are accepted.

    Returns:
        Its properties, and the faults for which `probe` refuses it.

    Raises:
        VideoError: if nothing of the file can be read, or it is over a limit.
    """
    faults: list[VideoError] = []
    return _probe(path, limits, faults.append), faults


def _refuse(error: VideoError) -> None:
    raise error


def _probe(path: str, limits: Limits, report: Report) -> StreamInfo:
    check_file(path, limits)
    faults = []
    for fault in matroska_faults(path):
        report(VideoError(path, fault.cause, "demux"))
        faults.append(fault)
    for fault in itertools.chain(element_faults(path), asf_faults(path)):
        # Others count where frames are in them.
        if fault.end == fault.start:
            report(VideoError(path, fault.cause, "demux"))
        faults.append(fault)
    damaged = tuple((fault.start, fault.end) for fault in faults if fault.end > fault.start)
    damage = Gaps(stream=tuple(start for start, _ in damaged), damaged=damaged)
    sections = joined_files(path)
    if not sections:
        try:
            return _probe_section(path, limits, None, damage, report)
        except VideoError as error:
            report(error)
            if not faults:
                raise
        # FFmpeg may refuse a file for bytes that are far behind its first frames.
        before = Section(0, faults[0].start)
        return replace(_probe_section(path, limits, before, NO_GAPS, report), sections=(before,))
    infos = []
    whole = []
    for section in sections:
        try:
            infos.append(_probe_section(path, limits, section, damage, report))
            whole.append(section)
        except VideoError as error:
            # Of the file within the file, which may hold no frame at all.
            report(error)
    if not infos:
        raise VideoError(path, "none of the files that were joined in it can be read", "demux")
    return _joined(path, limits, infos, whole)


def _joined(
    path: str, limits: Limits, infos: Sequence[StreamInfo], sections: Sequence[Section]
) -> StreamInfo:
    """Return the properties of files that were joined. Times begin anew in each of them."""
    num_frames = sum(info.num_frames for info in infos)
    if num_frames > limits.frames:
        raise VideoError(path, f"more than {limits.frames} frames", "limits")
    return replace(
        infos[0].with_num_frames(num_frames),
        num_leading=sum(info.num_leading for info in infos),
        num_left_out=sum(info.num_left_out for info in infos),
        steps_back=True,
        sections=tuple(sections),
        gaps=tuple(info.gaps[0] for info in infos),
    )


def _probe_section(
    path: str, limits: Limits, section: Section | None, gaps: Gaps, report: Report
) -> StreamInfo:
    with open_video(path, limits, section) as (container, stream):
        if container.format.name == TRANSPORT_STREAM:
            gaps = find_gaps(path, stream.id)
        if section is not None:
            gaps = gaps.within(section.start, section.end)
        if gaps.is_cut:
            report(VideoError(path, "cut short: the file ends within a packet", "demux"))
        packets = _PacketStatistics()
        try:
            with faults_as_video_errors(path):
                for placed in placed_packets(container, stream, gaps):
                    fault = _packet_fault(placed, packets.num_frames, container.format.name)
                    if fault:
                        report(VideoError(path, fault, "demux"))
                    packets.add(placed, stream)
                    if packets.num_frames > limits.frames:
                        break
        except VideoError as error:
            # The packets before this one can be read.
            report(error)
        if packets.num_frames > limits.frames:
            raise VideoError(path, f"more than {limits.frames} frames", "limits")
        fault = packets.fault(stream)
        if packets.num_frames == 0:
            raise VideoError(path, fault, "demux")
        if fault:
            report(VideoError(path, fault, "demux"))
        return replace(packets.stream_info(stream), gaps=(gaps,))


def _packet_fault(placed: PlacedPacket, number: int, container_format: str) -> str:
    """Return the fault of a packet, or an empty text."""
    if placed.is_damaged:
        return f"damaged packet {number}"
    if placed.place is Place.LEFT_OUT and container_format in KEY_FIRST_FORMATS:
        return "begins between key frames, or its first key frame is damaged"
    return ""


class _PacketStatistics:
    """Count packets, and collect times of frames and keyframes that decoding can start from.

    Frames that an MP4 file discards, as it may at its beginning and end, are counted apart.
    """

    def __init__(self) -> None:
        self.num_packets = 0
        self.num_frames = 0
        self.num_discarded = 0
        self.num_leading = 0
        self.num_left_out = 0
        self.steps_back = False
        self.first_key: int | None = None
        self.earliest: int | None = None
        self.duration = 0
        self.end = 0
        self.times: list[int] | None = []
        self.starts: set[int] = set()

    def add(self, placed: PlacedPacket, stream: VideoStream) -> None:
        """Count one packet.

        Empty ones (a repeated frame, the end) hold no frame.
        """
        packet = placed.packet
        place = placed.place
        self.num_packets += packet.dts is not None or packet.size > 0
        duration = packet.duration or 0
        if packet.pts is not None:
            self.end = max(self.end, packet.pts + duration)
        if not packet.size:
            return
        self.steps_back = self.steps_back or placed.steps_back
        if place is Place.LEFT_OUT:
            self.num_left_out += 1
            return
        if place is Place.BEGINS:
            self.first_key = None
        if packet.is_discard:
            self.num_discarded += 1
        else:
            self.num_frames += 1
            self.duration += duration
            if packet.pts is not None and (self.earliest is None or packet.pts < self.earliest):
                self.earliest = packet.pts
        self._count_leading(packet)
        self._add_time(packet, stream)

    def _count_leading(self, packet: Packet) -> None:
        if packet.pts is None:
            return
        if packet.is_keyframe and self.first_key is None:
            self.first_key = packet.pts
        elif self.first_key is not None and not packet.is_discard:
            self.num_leading += packet.pts < self.first_key

    def _add_time(self, packet: Packet, stream: VideoStream) -> None:
        if packet.is_discard or packet.pts is None:
            # Without the times of all frames, none can be found by its time.
            self.times = None
        if self.times is None or packet.pts is None:
            return
        self.times.append(packet.pts)
        if packet.is_keyframe:
            context = stream.codec_context
            codec, header = context.codec.canonical_name, context.extradata or b""
            if is_random_access_point(codec, header, memoryview(packet)):
                self.starts.add(packet.pts)

    def fault(self, stream: VideoStream) -> str:
        """Compare the packets with the promises of the header.

        Returns:
            The fault, or an empty text.
        """
        if self.num_frames == 0 and self.num_left_out:
            return "begins between key frames and holds none: no frame can be decoded"
        if self.num_frames == 0:
            return "no frame in it"
        if self.num_packets < stream.frames - SLACK_PACKETS:
            return f"cut short: holds {self.num_packets} of {stream.frames} frames"
        promised_sec = _seconds(stream.metadata.get("DURATION", ""))
        end_sec = float(self.end * (stream.time_base or 0))
        if end_sec < LEAST_DURATION * promised_sec:
            return f"cut short: ends at {end_sec:.1f} of {promised_sec:.1f} seconds"
        if self.num_discarded and stream.duration:
            missing = stream.duration - self.duration
            frame = self.duration / self.num_frames
            if missing > SLACK_DURATION * frame or self.duration > 2 * stream.duration:
                return "damaged: the times of frames do not add up to the duration"
        return ""

    def stream_info(self, stream: VideoStream) -> StreamInfo:
        """Return the properties of the stream after its last packet."""
        context = stream.codec_context
        bits = 0
        if context.format:
            bits = max((component.bits for component in context.format.components), default=0)
        info = StreamInfo(
            num_frames=self.num_frames,
            codec=context.codec.canonical_name,
            bits=bits,
            fps=float(stream.average_rate or 0),
            start_sec=float((self.earliest or 0) * (stream.time_base or 0)),
            num_leading=self.num_leading,
            num_left_out=self.num_left_out,
            steps_back=self.steps_back,
        )
        # Packets come in order of decoding, frames in order of presentation. Times of recordings
        # that were joined are in neither.
        times = sorted(set(self.times or ()))
        if len(times) < self.num_frames or self.num_leading or self.steps_back:
            return info
        starts = tuple(number for number, time in enumerate(times) if time in self.starts)
        return replace(info, times=array("q", times), starts=starts)


def _seconds(text: str) -> float:
    """Parse a Matroska duration such as `00:00:02.400000000` to seconds.

    Any other text gives 0.
    """
    match = re.fullmatch(r"(\d+):(\d+):(\d+(?:\.\d+)?)", text)
    if match is None:
        return 0.0
    return float(match[1]) * 3600 + float(match[2]) * 60 + float(match[3])
