"""Suffixes of files: the one list of those of videos, for all tools."""

from __future__ import annotations

import os
from pathlib import Path

# Of phones, cameras, camcorders, recorders and the web. In capitals they mean the same.
VIDEO_SUFFIXES = (
    *(".mp4", ".m4v", ".mov", ".qt", ".3gp", ".3g2", ".mkv", ".webm", ".avi", ".divx", ".flv"),
    *(".f4v", ".wmv", ".asf", ".ogv", ".gif", ".mpg", ".mpeg", ".mpe", ".m1v", ".m2v", ".vob"),
    *(".ts", ".mts", ".m2ts", ".m2t", ".mod", ".tod", ".lrv", ".insv", ".dav"),
    *(".264", ".h264", ".avc", ".265", ".h265", ".hevc", ".ivf", ".obu"),
)
# Files beside videos. All others are tried by tools that read whatever is there, because a video
# with an unusual suffix must not be missing from an audit without a word.
NOT_VIDEOS = frozenset({
    ".csv", ".txt", ".md", ".json", ".jsonl", ".html", ".yaml", ".yml", ".png", ".jpg", ".jpeg",
    ".pdf", ".doc", ".docx", ".xls", ".xlsx", ".odt", ".log", ".xml", ".ini", ".nfo", ".url",
    ".lnk", ".bmp", ".tif", ".tiff", ".webp", ".heic", ".svg", ".thm",
    ".zip", ".gz", ".tar", ".7z", ".rar", ".py", ".sh", ".ipynb", ".tmp", ".part",
    ".crdownload", ".db", ".npy", ".pt", ".onnx", ".pkl", ".npz", ".pyth", ".pth", ".safetensors",
    ".srt", ".vtt", ".dvc", ".sha256",
})  # fmt: skip


def suffix_of(path: str | os.PathLike[str]) -> str:
    """Return the suffix of a file's name in small letters, empty where it has none."""
    return os.path.splitext(os.fspath(path))[1].lower()


def has_video_suffix(path: str | os.PathLike[str]) -> bool:
    """Return whether a file is a video by its name."""
    return suffix_of(path) in VIDEO_SUFFIXES


def is_csv_list(path: Path) -> bool:
    """Return whether a file is a list of `path,label` rows by its name."""
    return suffix_of(path) == ".csv"


def is_text_list(path: Path) -> bool:
    """Return whether a file is a list of one path per line by its name."""
    return suffix_of(path) == ".txt"
