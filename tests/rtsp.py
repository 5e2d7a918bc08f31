"""A small RTSP server (RFC 2326, RFC 6184) that plays a camera: H.264 over the connection itself."""

from __future__ import annotations

import base64
import contextlib
import re
import socket
import struct
import threading
import time
from fractions import Fraction

import av
import numpy as np

FPS = 10
SIZE = (64, 48)


def encoded_frames(num_frames: int = 10) -> list[list[bytes]]:
    """The NAL units of each frame: headers and a key frame, then those that refer to it."""
    codec = av.CodecContext.create("libx264", "w")
    codec.width, codec.height, codec.pix_fmt = *SIZE, "yuv420p"
    codec.framerate, codec.time_base = FPS, Fraction(1, FPS)
    codec.options = {"tune": "zerolatency", "g": str(num_frames), "threads": "1"}
    frames = []
    for number in range(num_frames):
        picture = np.full((SIZE[1], SIZE[0], 3), 20 * number, np.uint8)
        frame = av.VideoFrame.from_ndarray(picture, format="rgb24")
        frame.pts = number
        content = b"".join(bytes(packet) for packet in codec.encode(frame))
        frames.append([unit for unit in re.split(b"\0\0\0?\x01", content) if unit])
    return frames


class Camera:
    """A camera at `rtsp://127.0.0.1:PORT/live`, which can be switched off and on again.

    Every viewer sees the recording from its first frame, again and again, with times from 0.
    """

    def __init__(self) -> None:
        self.frames = encoded_frames()
        self.num_viewers = 0
        self._port = 0
        self._listener: socket.socket | None = None
        self._viewers: list[socket.socket] = []

    @property
    def address(self) -> str:
        return f"rtsp://127.0.0.1:{self._port}/live"

    def switch_on(self) -> None:
        self._listener = socket.create_server(("127.0.0.1", self._port), reuse_port=True)
        self._port = self._listener.getsockname()[1]
        threading.Thread(target=self._listen, args=(self._listener,), daemon=True).start()

    def switch_off(self) -> None:
        assert self._listener is not None
        for one in (self._listener, *self._viewers):
            with contextlib.suppress(OSError):
                one.shutdown(socket.SHUT_RDWR)
            one.close()
        self._viewers.clear()

    def _listen(self, listener: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while True:
                viewer, _ = listener.accept()
                self._viewers.append(viewer)
                threading.Thread(target=self._serve, args=(viewer,), daemon=True).start()

    def _serve(self, viewer: socket.socket) -> None:
        with contextlib.suppress(OSError, ValueError):
            request = b""
            while data := viewer.recv(4096):
                request += data
                while b"\r\n\r\n" in request:
                    head, request = request.split(b"\r\n\r\n", 1)
                    if self._answer(viewer, head.decode()):
                        self.num_viewers += 1
                        self._play(viewer)

    def _answer(self, viewer: socket.socket, head: str) -> bool:
        """Answer a request, and return whether the viewer wants to see pictures now."""
        number = re.search(r"CSeq: *(\d+)", head, re.IGNORECASE)
        lines = ["RTSP/1.0 200 OK", f"CSeq: {number[1] if number else 0}", "Session: 1"]
        body = ""
        kind = head.split()[0]
        if kind == "OPTIONS":
            lines.append("Public: OPTIONS, DESCRIBE, SETUP, PLAY, TEARDOWN")
        if kind == "DESCRIBE":
            headers = [base64.b64encode(unit).decode() for unit in self.frames[0][:2]]
            body = (
                "v=0\r\no=- 0 0 IN IP4 127.0.0.1\r\ns=camera\r\nt=0 0\r\n"
                f"m=video 0 RTP/AVP 96\r\na=rtpmap:96 H264/90000\r\na=framerate:{FPS}\r\n"
                f"a=fmtp:96 packetization-mode=1; sprop-parameter-sets={','.join(headers)}\r\n"
                "a=control:track\r\n"
            )
            lines += ["Content-Type: application/sdp", f"Content-Length: {len(body)}"]
        if kind == "SETUP":
            lines.append("Transport: RTP/AVP/TCP;unicast;interleaved=0-1")
        viewer.sendall("\r\n".join([*lines, "", body]).encode())
        return kind == "PLAY"

    def _play(self, viewer: socket.socket) -> None:
        sequence = 0
        for number in range(10_000):
            units = self.frames[number % len(self.frames)]
            for unit in units:
                marker = 0x80 if unit is units[-1] else 0
                stamp = number * 90_000 // FPS
                header = struct.pack(">BBHII", 0x80, marker | 96, sequence % 65536, stamp, 1)
                packet = header + unit
                viewer.sendall(b"$\0" + struct.pack(">H", len(packet)) + packet)
                sequence += 1
            time.sleep(1 / FPS)
