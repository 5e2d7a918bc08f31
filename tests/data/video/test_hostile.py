"""Hostile inputs: refused before a frame is decoded, without a connection and without much memory."""

from __future__ import annotations

import json
import os
import socket
import struct
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import av
import numpy as np
import pytest
from av.codec import Codec

import nightcrawler.data.video.decode as decode_module
from nightcrawler.data.lists import read_list
from nightcrawler.data.video.integrity.limits import EMPTY_TABLE, Limits, check_file
from nightcrawler.data.video.reader import CODECS, open_video
from nightcrawler.utils.errors import UserError, VideoError
from tests.conftest import MakeClip
from tests.reading import read_file

MOST_MEMORY_MB = 50
MOST_SEC = 0.1


@pytest.fixture
def clip(make_clip: MakeClip, tmp_path: Path) -> Path:
    return make_clip(tmp_path / "clip.mp4", 5)


@pytest.fixture
def port() -> Iterator[int]:
    """A local server that must never be asked for anything."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield server.getsockname()[1]
        server.setblocking(False)
        with pytest.raises(BlockingIOError):
            server.accept()


def cause_of(path: str | Path, monkeypatch: pytest.MonkeyPatch, **more: Limits) -> str:
    """Why a file is refused, which must be before decoding."""
    with monkeypatch.context() as patch:
        patch.setattr(decode_module, "decoded_frames", None)
        with pytest.raises(VideoError) as caught:
            read_file(path, range, **more)
    assert "\n" not in str(caught.value)
    return caught.value.cause


@pytest.mark.parametrize(
    "path",
    [
        "tcp://127.0.0.1:{port}",
        "concat:{clip}|{clip}",
        "file:{clip}",
        "pipe:0",
    ],
)
def test_a_protocol_for_a_path(
    path: str, port: int, clip: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cause = cause_of(path.format(port=port, clip=clip), monkeypatch)
    assert cause == "cannot be opened: No such file or directory"


def test_an_address_is_fetched_by_ourselves_or_not_at_all(
    port: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Tests are offline; FFmpeg never sees the address."""
    cause = cause_of(f"http://127.0.0.1:{port}/a.mp4", monkeypatch)
    assert cause.startswith("is not fetched, as NIGHTCRAWLER_OFFLINE is set")


@pytest.mark.parametrize(
    ("name", "codec", "pix_fmt"),
    [
        ("a.avi", "huffyuv", "yuv422p"),
        ("a.mov", "png", "rgb24"),
        ("a.mov", "qtrle", "rgb24"),
        ("a.avi", "cinepak", "rgb24"),
        ("a.mkv", "snow", "yuv420p"),
        ("a.flv", "flashsv", "bgr24"),
        ("a.mp4", "jpeg2000", "yuv420p"),
    ],
)
def test_a_codec_that_no_camera_writes(
    make_clip: MakeClip,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    name: str,
    codec: str,
    pix_fmt: str,
) -> None:
    path = make_clip(tmp_path / name, 3, codec=codec, pix_fmt=pix_fmt, options={"strict": "-2"})
    cause = cause_of(path, monkeypatch)
    assert f"its codec {codec} is none of" in cause
    assert "convert it to H.264" in cause


@pytest.mark.parametrize(
    ("name", "codec", "pix_fmt"),
    [
        ("a.avi", "mjpeg", "yuvj420p"),
        ("a.avi", "msmpeg4v2", "yuv420p"),
        ("a.wmv", "wmv2", "yuv420p"),
        ("a.flv", "flv", "yuv420p"),
        ("a.mov", "prores_ks", "yuv422p10le"),
        ("a.mkv", "ffv1", "yuv420p"),
        ("a.avi", "rawvideo", "yuv420p"),
        ("a.gif", "gif", "rgb8"),
        ("a.mpg", "mpeg1video", "yuv420p"),
        ("a.webm", "libvpx-vp9", "yuv420p"),
    ],
)
def test_codecs_of_cameras_recorders_and_the_web(
    make_clip: MakeClip, tmp_path: Path, name: str, codec: str, pix_fmt: str
) -> None:
    path = make_clip(tmp_path / name, 3, codec=codec, pix_fmt=pix_fmt)
    assert len(read_file(path, range).frames) == 3


def test_codecs_are_names_of_decoders() -> None:
    """The list is a white list of FFmpeg too, which ignores names that it does not know."""
    assert {Codec(name, "r").name for name in CODECS} == set(CODECS)


def test_no_source_is_opened_with_another_decoder(monkeypatch: pytest.MonkeyPatch) -> None:
    opened: dict[str, str] = {}

    def refuse(name: str, *, options: dict[str, str], **_: object) -> None:
        opened[name] = options["codec_whitelist"]
        raise OSError

    monkeypatch.setattr(av, "open", refuse)
    for source in ("a.mp4", "rtsp://camera/1", "/dev/video0"):
        with pytest.raises(VideoError), open_video(source, Limits()):
            pass
    assert list(opened) == ["file:a.mp4", "rtsp://camera/1", "/dev/video0"]
    assert set(opened.values()) == {",".join(CODECS)}


@pytest.mark.parametrize(
    "name", ["concat:a.mp4|b.mp4", "http:a.mp4", "file:a.mp4", "-i", "%03d.mp4", "a?b#c.mp4"]
)
def test_a_file_that_is_named_like_a_protocol(
    make_clip: MakeClip, clip: Path, tmp_path: Path, name: str
) -> None:
    """It is that file, from where one stands too."""
    clip.rename(tmp_path / name)
    before = Path.cwd()
    os.chdir(tmp_path)
    try:
        assert read_file(name, lambda num_frames: [0]).num_frames == 5
    finally:
        os.chdir(before)


PLAYLISTS = {
    "ffconcat": "ffconcat version 1.0\nfile {target}\n",
    "hls": "#EXTM3U\n#EXT-X-TARGETDURATION:1\n#EXTINF:1,\n{target}\n#EXT-X-ENDLIST\n",
    "dash": '<?xml version="1.0"?><MPD xmlns="urn:mpeg:dash:schema:mpd:2011"><BaseURL>{target}</BaseURL></MPD>',
    "sdp": "v=0\no=- 0 0 IN IP4 127.0.0.1\nc=IN IP4 127.0.0.1\nm=video {port} RTP/AVP 96\na=rtpmap:96 H264/90000\n",
    "rtsp": "rtsp://127.0.0.1:{port}/a\n",
    "smil": '<smil><body><video src="{target}"/></body></smil>',
}


@pytest.mark.parametrize("target", ["http://127.0.0.1:{port}/a.mp4", "{clip}", "/etc/passwd"])
@pytest.mark.parametrize("kind", PLAYLISTS)
def test_a_playlist_named_mp4(
    kind: str, target: str, port: int, clip: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    text = PLAYLISTS[kind].replace("{target}", target).format(port=port, clip=clip)
    (tmp_path / "list.mp4").write_text(text)
    assert cause_of(tmp_path / "list.mp4", monkeypatch).startswith("not a video that can be read")


def test_nul_in_a_path(clip: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert cause_of(f"{clip}\0.txt", monkeypatch) == "the path holds a NUL character"


def test_a_link_out_of_the_folder(clip: Path, tmp_path: Path) -> None:
    folder = tmp_path / "data"
    folder.mkdir()
    (folder / "a.mp4").symlink_to(clip)
    (tmp_path / "list.csv").write_text("path,label\na.mp4,0\n")
    with pytest.raises(UserError, match="row 2"):
        read_list(tmp_path / "list.csv", [folder], 2)


def with_frames_promised(content: bytes, count: int) -> bytes:
    """An MP4 file whose tables promise `count` frames of 100 bytes in one chunk, without a byte more."""
    changed = bytearray(content)
    for table, place, values in (
        (b"stsz", 8, (100, count)),
        (b"stts", 12, (count,)),
        (b"stsc", 16, (count,)),
    ):
        struct.pack_into(f">{len(values)}I", changed, changed.index(table) + place, *values)
    return bytes(changed)


@pytest.mark.parametrize("count", [10**9, 50_000_000, 5_000_000])
def test_an_mp4_that_promises_frames(
    clip: Path, count: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    clip.write_bytes(with_frames_promised(clip.read_bytes(), count))
    assert cause_of(clip, monkeypatch).startswith(f"its header promises {count} frames, more than")


def test_a_fragment_that_promises_frames(
    make_clip: MakeClip, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Tables of fragments take no space either; a good file of fragments is read."""
    path = make_clip(tmp_path / "clip.mp4", 12, container={"movflags": "frag_keyframe+empty_moov"})
    assert read_file(path, range).num_frames == 12
    content = bytearray(path.read_bytes())
    struct.pack_into(">I", content, content.index(b"trun") + 8, 10**9)
    path.write_bytes(content)
    assert "promises 1000000000 frames" in cause_of(path, monkeypatch)


def test_an_avi_that_promises_frames(
    make_clip: MakeClip, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = make_clip(tmp_path / "clip.avi", 5, codec="mpeg4")
    content = bytearray(path.read_bytes())
    struct.pack_into("<I", content, content.index(b"avih") + 24, 10**9)
    struct.pack_into("<I", content, content.index(b"strh") + 40, 10**9)
    path.write_bytes(content)
    assert cause_of(path, monkeypatch) == "cut short: holds 5 of 1000000000 frames"


def test_equal_samples_within_the_limit_are_no_promise(clip: Path) -> None:
    """Uncompressed streams have them: the size of the file bounds their number."""
    content = with_frames_promised(clip.read_bytes(), clip.stat().st_size)
    assert EMPTY_TABLE.search(content)
    clip.write_bytes(content)
    check_file(str(clip), Limits())


def test_a_header_that_is_too_long(tmp_path: Path) -> None:
    path = tmp_path / "long.mp4"
    with open(path, "wb") as file:
        file.write(struct.pack(">I4s", 100 << 20, b"moov"))
        file.truncate(100 << 20)
    with pytest.raises(VideoError, match="a header of 104857600 bytes"):
        check_file(str(path), Limits())


def bomb(path: Path, side: int) -> Path:
    """One black picture in a few kilobytes."""
    with av.open(str(path), "w") as output:
        stream = output.add_stream(
            "libx264", rate=25, options={"preset": "veryfast", "threads": "1"}
        )
        stream.width = stream.height = side
        stream.pix_fmt = "yuv420p"
        frame = av.VideoFrame(side, side, "yuv420p")
        for plane in frame.planes:
            plane.update(bytes(plane.buffer_size))
        output.mux(stream.encode(frame))
        output.mux(stream.encode())
    assert path.stat().st_size < 40_000
    return path


def test_more_memory_than_allowed(clip: Path) -> None:
    """Counted for the frames as they come out, scaled down or not."""
    need = 5 * 64 * 48 * 3
    assert read_file(clip, range, limits=Limits(memory_bytes=need)).frames.nbytes == need
    with pytest.raises(VideoError, match="5 frames of 64x48 pixels take 0 MiB, over the limit"):
        read_file(clip, range, limits=Limits(memory_bytes=need - 1))
    assert (
        read_file(clip, range, short_side=24, limits=Limits(memory_bytes=need // 4)).frames.nbytes
        == need // 4
    )


CHILD = """
import json, sys, time
from nightcrawler.data.video.decode import FileReader, read_frames
from nightcrawler.utils.errors import VideoError

def peak_mb(name):
    lines = dict(line.split(":", 1) for line in open("/proc/self/status"))
    return int(lines[name].split()[0]) / 1024

good, *hostile = json.load(sys.stdin)
read_frames(FileReader(), good, range)
sockets = []
sys.addaudithook(lambda event, _: sockets.append(event) if event.startswith("socket.") else None)
found = []
for path in hostile:
    open("/proc/self/clear_refs", "w").write("5")
    before, start = peak_mb("VmRSS"), time.process_time()
    try:
        cause = str(read_frames(FileReader(), path, range).num_frames)
    except VideoError as error:
        cause = error.cause
    found.append([cause, peak_mb("VmHWM") - before, time.process_time() - start, len(sockets)])
json.dump(found, sys.stdout)
"""


@pytest.mark.skipif(
    not os.path.exists("/proc/self/clear_refs"), reason="measures memory as Linux tells it"
)
def test_refusing_takes_little_time_and_memory(clip: Path, tmp_path: Path) -> None:
    """A process of its own tells the peak, the processor time and the sockets of each."""
    (tmp_path / "list.mp4").write_text(f"ffconcat version 1.0\nfile {clip}\n")
    expected = {
        str(bomb(tmp_path / "bomb.mp4", 8192)): "8192x8192 pixels, over the limit",
        str(tmp_path / "list.mp4"): "not a video that can be read",
        "http://127.0.0.1:9/a.mp4": "is not fetched",
        f"concat:{clip}|{clip}": "cannot be opened",
        f"{clip}\0.txt": "the path holds a NUL character",
    }
    for count in (10**9, 50_000_000, 5_000_000):
        path = tmp_path / f"{count}.mp4"
        path.write_bytes(with_frames_promised(clip.read_bytes(), count))
        expected[str(path)] = f"its header promises {count} frames"
    root = Path(__file__).resolve().parents[3]
    told = json.dumps([str(clip), *expected])
    command = [sys.executable, "-c", CHILD]
    done = subprocess.run(
        command, input=told, capture_output=True, text=True, check=True, cwd=root, timeout=60
    )
    for (path, cause), (found, peak_mb, seconds, sockets) in zip(
        expected.items(), json.loads(done.stdout), strict=True
    ):
        assert cause in found, path
        assert peak_mb < MOST_MEMORY_MB, path
        assert seconds < MOST_SEC, path
        assert sockets == 0, path


def test_a_side_at_the_limit(tmp_path: Path) -> None:
    """The size is refused by its header, a picture of the largest allowed size is read."""
    path = bomb(tmp_path / "large.mp4", 1024)
    assert read_file(path, range).frames.shape == (1, 1024, 1024, 3)
    with pytest.raises(VideoError, match="1024x1024 pixels, over the limit"):
        read_file(path, range, limits=Limits(pixels=1024 * 1024 - 1))
    assert np.all(read_file(path, range, limits=Limits(pixels=1024 * 1024)).indices == [0])
