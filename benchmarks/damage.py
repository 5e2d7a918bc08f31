"""What damage to files nobody notices: bytes are changed, and what is read then is compared with the clean file."""

from __future__ import annotations

import os
import random
import tempfile
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path

import numpy as np

from nightcrawler.data.video.decode import Decoded, FileReader, read_frames
from nightcrawler.data.video.integrity.checksums import ChecksumReader
from nightcrawler.data.video.integrity.limits import Limits
from nightcrawler.data.video.probe import probe
from nightcrawler.utils.errors import VideoError
from nightcrawler.utils.io import sha256_file

COUNTS = (1, 20, 200)
REFUSED, EQUAL, WRONG = "refused", "equal", "wrong"

Reader = Callable[[str], Decoded]


def read_all(path: str) -> Decoded:
    """Every frame, as data sets read it without checksums."""
    return read_frames(FileReader(), path, range)


def damaged(content: bytes, num_bytes: int, seed: int) -> bytes:
    """`content` with that many other bytes, anywhere in it."""
    rng, changed = random.Random(seed), bytearray(content)
    for place in rng.sample(range(len(changed)), num_bytes):
        changed[place] ^= rng.randrange(1, 256)
    return bytes(changed)


def outcome(path: Path, clean: Decoded, read: Reader = read_all) -> str:
    """What comes of a damaged file: it is refused, its frames equal the clean file's, or they are wrong."""
    try:
        found = read(str(path))
    except VideoError:
        return REFUSED
    return EQUAL if np.array_equal(found.frames, clean.frames) else WRONG


def checked_reader(path: Path, like: Path) -> Reader:
    """Reads every frame of a file of which the checksum is known: that of another."""
    checksums = {os.path.realpath(path): sha256_file(like)}
    reader = ChecksumReader(FileReader(), checksums)
    return lambda name: read_frames(reader, name, range)


def outcomes(
    path: Path, copy: Path, counts: Sequence[int], seeds: Iterable[int], read: Reader = read_all
) -> Counter[tuple[int, str]]:
    """How often which outcome by (damaged bytes, outcome).

    Args:
        path: a video.
        copy: where its damaged copies are written, one after the other.
        counts: how many bytes are damaged; all of them where a video has fewer.
        seeds: of the damage, one copy each.
        read: reads every frame of a copy.

    Raises:
        VideoError: if the video itself cannot be read.
    """
    content, clean, found = path.read_bytes(), read_all(str(path)), Counter[tuple[int, str]]()
    for num_bytes in counts:
        for seed in seeds:
            copy.write_bytes(damaged(content, min(num_bytes, len(content)), seed))
            found[num_bytes, outcome(copy, clean, read)] += 1
    return found


def study(paths: Sequence[Path]) -> Iterator[str]:
    """Damage every video once with each number of bytes; lines of counts by codec and container, and with checksums."""
    found: dict[str, Counter[tuple[int, str]]] = {}
    with tempfile.TemporaryDirectory() as folder:
        for seed, path in enumerate(paths):
            try:
                read_all(str(path))
            except VideoError as error:
                yield f"left out: {error}"
                continue
            kind = f"{probe(str(path), Limits()).codec} in {path.suffix[1:]}"
            copy = Path(folder) / path.name
            found.setdefault(kind, Counter()).update(outcomes(path, copy, COUNTS, [seed]))
            checked = outcomes(path, copy, COUNTS, [seed], checked_reader(copy, path))
            found.setdefault("with checksums", Counter()).update(checked)
    for kind in sorted(found, key=lambda kind: (kind == "with checksums", kind)):
        yield f"{kind}: {found[kind].total() // len(COUNTS)} videos"
        for count in COUNTS:
            parts = (f"{found[kind][count, result]} {result}" for result in (REFUSED, EQUAL, WRONG))
            yield f"  {count:3d} damaged bytes: {', '.join(parts)}"
