"""Readers of videos for tests: frames by a choice, calls counted, a container that promises too many frames."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

import nightcrawler.data.video.decode as decode_module
from nightcrawler.data.video.convert import EXACT
from nightcrawler.data.video.decode import (
    Decoded,
    FileReader,
    FrameCountError,
    VideoReader,
    read_frames,
)
from nightcrawler.data.video.integrity.limits import Limits
from nightcrawler.data.video.probe import StreamInfo


def read_file(
    path: str | os.PathLike[str],
    choose: Callable[[int], Sequence[int]],
    short_side: int = 0,
    limits: Limits | None = None,
    color: str = EXACT,
) -> Decoded:
    """The frames that `choose` wants, by PyAV."""
    return read_frames(FileReader(short_side, limits or Limits(), color), path, choose)


class CountingReader:
    """Reads files and notes which are probed, and which frames of which are decoded."""

    def __init__(self, reader: VideoReader | None = None) -> None:
        self.reader = reader or FileReader()
        self.probed: list[str] = []
        self.paths: list[str] = []
        self.asked: list[list[int]] = []

    def probe(self, path: str) -> StreamInfo:
        self.probed.append(path)
        return self.reader.probe(path)

    def decode(self, path: str, indices: Sequence[int], info: StreamInfo) -> Decoded:
        self.paths.append(path)
        decoded = self.reader.decode(path, indices, info)
        self.asked.append(decoded.indices)
        return decoded


class PromisingReader:
    """Reads files whose containers promise `promised` frames, whatever they hold."""

    def __init__(self, promised: int) -> None:
        self.promised = promised

    def probe(self, path: str) -> StreamInfo:
        return FileReader().probe(path).with_num_frames(self.promised)

    def decode(self, path: str, indices: Sequence[int], info: StreamInfo) -> Decoded:
        true = FileReader().probe(path)
        if info.num_frames != true.num_frames:
            raise FrameCountError(path, true.num_frames)
        return FileReader().decode(path, indices, true)


def count_decodes(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Names of the files that are decoded from now on, one for each time."""
    names: list[str] = []
    real = decode_module.decode

    def counted(path: str, indices: Sequence[int], info: StreamInfo, **more: object) -> Decoded:
        names.append(Path(path).name)
        return real(path, indices, info, **more)

    monkeypatch.setattr(decode_module, "decode", counted)
    return names
