"""A made run of two rounds on five classes, some of whose names would like to be markup, and its report."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from nightcrawler.report.page import write_report
from tests import tiny
from tests.paths import ROOT
from tests.report.made_run import CLASSES, MODELS, NUM_ARID, NUM_DARK, NUM_TEST, NUM_VAL, Made, make


def write_data(folder: Path) -> Path:
    """Bright, unlabelled and test clips of five classes; truth files hold what the chain does not know."""
    parts = {"dry_run/Validation": NUM_VAL, "dark_train/Train": NUM_DARK, "Test": NUM_TEST}
    for place, count in parts.items():
        for number in range(count):
            tiny.write_video(
                folder / place / f"{number}.mp4", number % 5, number, dark="dry" not in place
            )
    arid = [(f"Row/Row_1_{number}.mp4", number % 5) for number in range(NUM_ARID)]
    for number, (name, label) in enumerate(arid):
        tiny.write_video(folder / "dark_train/Train" / name, label, number, dark=True)
    rows = {
        place: [(f"{number}.mp4", number % 5) for number in range(count)]
        for place, count in parts.items()
    }
    unknown = {place: [(name, -1) for name, _ in found] for place, found in rows.items()}
    tiny.write_rows(folder / "val_dry.csv", rows["dry_run/Validation"])
    tiny.write_rows(folder / "arid.csv", arid)
    tiny.write_rows(folder / "dark_unlabel.csv", unknown["dark_train/Train"])
    tiny.write_rows(
        folder / "total_unlabel.csv", unknown["dark_train/Train"] + [(name, -1) for name, _ in arid]
    )
    tiny.write_rows(folder / "test.csv", unknown["Test"])
    tiny.write_rows(folder / "truth/dark_unlabel.csv", rows["dark_train/Train"])
    tiny.write_rows(folder / "truth/test.csv", rows["Test"])
    return folder


@pytest.fixture(scope="session")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_data(tmp_path_factory.mktemp("data"))


@pytest.fixture(scope="session")
def run(data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A whole run of two rounds, with a control of one model."""
    beside = {"source_none": -0.3, "source_gamma": -0.15, "ceiling": 0.4}
    folder = tmp_path_factory.mktemp("run")
    return make(Made(folder, data, CLASSES, MODELS, control=["one"], beside=beside))


@pytest.fixture(scope="session")
def figures(run: Path) -> dict[str, Any]:
    """Of its report, which is written beside it."""
    return write_report(run, ROOT, {}, run / "report.html")
