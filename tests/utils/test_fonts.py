"""Names in any script are drawn with a font that has their letters, or else as numbers."""

from __future__ import annotations

import warnings
from pathlib import Path

import numpy as np
import pytest
from matplotlib import font_manager

from nightcrawler.predict.annotate import draw
from nightcrawler.predict.sliding_windows import ScoredSpan
from nightcrawler.prepare import page
from nightcrawler.report.plot_style import svg
from nightcrawler.utils import fonts

RUSSIAN = "\u0431\u0435\u0433"
GREEK = "\u03c4\u03c1\u03ad\u03be\u03b9\u03bc\u03bf"
CHINESE = "\u8dd1\u6b65"
SPAN = ScoredSpan(0.0, 1.0, ((0, 0.9), (1, 0.1)))


@pytest.fixture
def only_own(monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine without fonts but matplotlib's."""
    own = font_manager.findfont(fonts.FIRST_FAMILY)
    monkeypatch.setattr(fonts, "_font_files", lambda: (own,))
    for cached in (fonts.find_font, fonts._warn, fonts.load_font):
        cached.cache_clear()


def picture(names: list[str]) -> np.ndarray:
    return draw(np.zeros((120, 320, 3), np.uint8), SPAN, names)


@pytest.mark.parametrize("name", [RUSSIAN, GREEK, "L\u00e4ufer"])
def test_letters_of_the_own_font_are_drawn(
    only_own: None, name: str, caplog: pytest.LogCaptureFixture
) -> None:
    assert fonts.readable_names([name, "x"]) == [name, "x"]
    assert caplog.text == ""
    # A font without the letters draws the same box for each of them.
    missing = {letter: picture([letter, "x"]).tobytes() for letter in dict.fromkeys(name)}
    assert len(set(missing.values())) == len(missing)


def test_letters_of_no_font_are_the_number_and_a_warning_once(
    only_own: None, caplog: pytest.LogCaptureFixture
) -> None:
    for _ in range(2):
        assert fonts.readable_names(["run", CHINESE]) == ["run", "class 1"]
    assert caplog.text.count("no font here has the letters") == 1
    assert CHINESE in caplog.text


def test_a_system_font_with_the_letters_is_found(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The system's only font here has what the first lacks."""
    system = str(Path(font_manager.findfont("STIXGeneral")))
    first = str(Path(font_manager.findfont("cmr10")))
    monkeypatch.setattr(fonts, "_font_files", lambda: (first, system))
    fonts.find_font.cache_clear()
    assert fonts.find_font("run") == first
    assert fonts.find_font(RUSSIAN) == system
    fonts.find_font.cache_clear()


def test_a_font_that_draws_every_letter_as_its_script_is_none() -> None:
    assert not any("lastresort" in path.lower() for path in fonts._font_files())


def test_pictures_of_latin_names_are_as_before() -> None:
    from PIL import ImageFont

    default = ImageFont.load_default(12)
    found = fonts.load_font("Run 0.90", 12)
    assert found.getbbox("Run 0.90") == default.getbbox("Run 0.90")


def test_plots_of_a_report_keep_names_as_text_without_a_word(only_own: None) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        shown = svg(lambda figure: figure.subplots().set_title(CHINESE))
    assert CHINESE in shown


@pytest.mark.parametrize("name", [RUSSIAN, CHINESE])
def test_legends_of_an_audit_have_no_missing_letters(only_own: None, name: str) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert page._histogram("mean", {name: [1.0, 2.0], "x": [2.0]}).startswith("data:image/png")


def test_a_contact_sheet_shows_names_of_any_script(only_own: None) -> None:
    from nightcrawler.cli.show import draw as draw_sheet

    rows = {"original": np.zeros((2, 20, 20, 3), np.uint8)}
    sheets = [draw_sheet(rows, Path("f", f"{name}.mp4"), 64) for name in (RUSSIAN, GREEK, CHINESE)]
    assert len({sheet.tobytes() for sheet in sheets}) == 3
