"""Fonts that have the letters of a text: for names in any script, drawn into pictures."""

from __future__ import annotations

import functools
import unicodedata
from collections.abc import Iterable, Sequence
from pathlib import Path

from PIL import ImageFont

from nightcrawler.utils.logging import get_logger

# matplotlib is imported where it is used: predictions with names in ASCII need not wait for it.

logger = get_logger(__name__)

Font = ImageFont.FreeTypeFont | ImageFont.ImageFont
# Comes with matplotlib. Latin, Cyrillic, Greek, and more.
FIRST_FAMILY = "DejaVu Sans"
# Has a picture of the script's name in place of every letter.
NOT_FONTS = ("lastresort", "emoji")


def _letters(text: str) -> set[int]:
    """Return the code points that a font must have, without those that are not drawn."""
    return {ord(letter) for letter in text if unicodedata.category(letter) != "Cf"}


@functools.cache
def _charmap(path: str) -> frozenset[int]:
    """Return the code points of a font file, none for a file that cannot be read."""
    from matplotlib.ft2font import FT2Font

    try:
        return frozenset(FT2Font(path).get_charmap())
    except (OSError, RuntimeError, ValueError):
        return frozenset()


@functools.cache
def _font_files() -> tuple[str, ...]:
    """Return the font files to try: matplotlib's own first, then the system's, sans serif first."""
    from matplotlib import font_manager

    found = []
    for path in font_manager.findSystemFonts():
        name = Path(path).name.lower()
        if not any(word in name for word in NOT_FONTS):
            found.append(("sans" not in name, "bold" in name or "italic" in name, name, path))
    return (font_manager.findfont(FIRST_FAMILY), *(entry[-1] for entry in sorted(found)))


@functools.cache
def find_font(text: str) -> str | None:
    """Return a font file that has all letters of a text, `None` if this machine has none.

    Args:
        text: one line.
    """
    letters = _letters(text)
    for path in _font_files():
        if letters <= _charmap(path):
            return path
    return None


@functools.lru_cache(maxsize=256)
def load_font(text: str, size_px: int) -> Font:
    """Return a font to draw a text with Pillow.

    Args:
        text: one line, see `readable`.
        size_px: height in pixels.
    """
    path = None if text.isascii() else find_font(text)
    if path is None:
        return ImageFont.load_default(size_px)
    return ImageFont.truetype(path, size_px)


def readable(text: str, otherwise: str) -> str:
    """Return a text if a font here has its letters, or else another text, with a warning.

    Args:
        text: one line.
        otherwise: text in ASCII.
    """
    if text.isascii() and text.isprintable():
        return text
    if find_font(text) is not None:
        return text
    _warn(text, otherwise)
    return otherwise


@functools.cache
def _warn(text: str, otherwise: str) -> None:
    """Warn once of each text."""
    logger.warning(
        "no font here has the letters of '%s', drawn as '%s'; install one, such as Noto Sans of "
        "its script",
        text,
        otherwise,
    )


def readable_names(names: Sequence[str]) -> list[str]:
    """Return class names that can be drawn: the class's number in place of others.

    Example:
        >>> readable_names(["run", "walk"])
        ['run', 'walk']
    """
    return [readable(name, f"class {number}") for number, name in enumerate(names)]


def families_for(texts: Iterable[str]) -> list[str]:
    """Return font families for matplotlib that together have the letters of some texts.

    Args:
        texts: those that a figure will show, see `readable`.
    """
    from matplotlib import font_manager
    from matplotlib.ft2font import FT2Font

    families = [FIRST_FAMILY]
    for text in texts:
        path = find_font(text)
        if path is None or path == _font_files()[0]:
            continue
        font_manager.fontManager.addfont(path)
        families.append(FT2Font(path).family_name)
    return list(dict.fromkeys(families))
