"""Undetected damage: bytes of a file are changed, and its frames compared with the clean ones."""

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

# Numbers of changed bytes.
COUNTS = (1, 20, 200)
REFUSED = "refused"
EQUAL = "equal"
WRONG = "wrong"

Reader = Callable[[str], Decoded]


def read_all(path: str) -> Decoded:
    """Read every frame as data sets do without checksums."""
    return read_frames(FileReader(), path, range)


def damaged(content: bytes, num_bytes: int, seed: int) -> bytes:
    """Return a file's content with some bytes changed, anywhere in it.

    Args:
        content: of the file.
        num_bytes: number of changed bytes.
        seed: of their places and values.
    """
    rng = random.Random(seed)
    changed = bytearray(content)
    for place in rng.sample(range(len(changed)), num_bytes):
        # Not 0, which would change nothing.
        changed[place] ^= rng.randrange(1, 256)
    return bytes(changed)


def outcome(path: Path, clean: Decoded, read: Reader = read_all) -> str:
    """Return `refused`, `equal` or `wrong` for the frames of a damaged file.

    Args:
        path: the damaged file.
        clean: frames of the clean file.
        read: reads every frame.
    """
    try:
        found = read(str(path))
    except VideoError:
        return REFUSED
    return EQUAL if np.array_equal(found.frames, clean.frames) else WRONG


def checked_reader(path: Path, like: Path) -> Reader:
    """Return a function that reads every frame of a file whose checksum is known.

    Args:
        path: the file to read.
        like: the clean file, which has the checksum.
    """
    # Keys are resolved paths, as `read_checksums` makes them.
    checksums = {os.path.realpath(path): sha256_file(like)}
    reader = ChecksumReader(FileReader(), checksums)
    return lambda name: read_frames(reader, name, range)


def outcomes(
    path: Path, copy: Path, counts: Sequence[int], seeds: Iterable[int], read: Reader = read_all
) -> Counter[tuple[int, str]]:
    """Count the outcomes of damaged copies by (damaged bytes, outcome).

    Args:
        path: a video.
        copy: place of its damaged copies, one after the other.
        counts: numbers of damaged bytes. All bytes are damaged if a video has fewer.
        seeds: of the damage, one copy each.
        read: reads every frame of a copy.

    Raises:
        VideoError: if the video itself cannot be read.
    """
    content = path.read_bytes()
    clean = read_all(str(path))
    found: Counter[tuple[int, str]] = Counter()
    for num_bytes in counts:
        for seed in seeds:
            copy.write_bytes(damaged(content, min(num_bytes, len(content)), seed))
            found[num_bytes, outcome(copy, clean, read)] += 1
    return found


def study(paths: Sequence[Path]) -> Iterator[str]:
    """Damage every video once with each number of bytes, and count the outcomes.

    Args:
        paths: of videos. Those that cannot be read undamaged are left out.

    Yields:
        Lines of counts by codec and container, and with checksums.
    """
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
    # The row with checksums is last.
    for kind in sorted(found, key=lambda kind: (kind == "with checksums", kind)):
        yield f"{kind}: {found[kind].total() // len(COUNTS)} videos"
        for count in COUNTS:
            parts = []
            for result in (REFUSED, EQUAL, WRONG):
                parts.append(f"{found[kind][count, result]} {result}")
            yield f"  {count:3d} damaged bytes: {', '.join(parts)}"
