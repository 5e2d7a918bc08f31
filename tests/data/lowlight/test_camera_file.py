"""Camera ranges of a file: every fault is named with its line."""

from __future__ import annotations

from pathlib import Path

import pytest

from nightcrawler.data.lowlight.camera import CameraRanges
from nightcrawler.data.lowlight.camera_file import read_camera_ranges
from nightcrawler.utils.errors import ConfigError

GIVEN = "MEAN: [4, 12]\nELECTRONS: [10, 20.5]\nREAD_NOISE: [0, 2]\nCAST: 0.3\n"


def test_ranges_are_read(tmp_path: Path) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text(GIVEN)
    found = read_camera_ranges(path)
    assert found == CameraRanges((4.0, 12.0), (10.0, 20.5), (0.0, 2.0), 0.3)
    path.write_text(GIVEN + "SMOOTHING: 0.8\n")
    assert read_camera_ranges(path).smoothing == 0.8


@pytest.mark.parametrize(
    ("old", "new", "fault"),
    [
        (
            "CAST: 0.3",
            "",
            ":1: CAST: expected MEAN, ELECTRONS, READ_NOISE, CAST, SMOOTHING, and nothing else",
        ),
        ("CAST: 0.3", "CAST: 0.3\nTINT: 1", ":5: TINT: expected MEAN"),
        ("[4, 12]", "[12, 4]", r":1: MEAN: \[12, 4\], expected \[least, most\] from 0.01"),
        ("[4, 12]", "[0, 4]", ":1: MEAN: "),
        ("[0, 2]", "[0, 1, 2]", ":3: READ_NOISE: "),
        ("0.3", "[0.1, 0.3]", r":4: CAST: \[0.1, 0.3\], expected a number from 0"),
        ("0.3", "warm", ":4: CAST: 'warm'"),
        ("CAST: 0.3", "CAST: 0.3\nSMOOTHING: -1", ":5: SMOOTHING: -1, expected a number from 0"),
        (
            "CAST: 0.3",
            "CAST: 0.3\nSMOOTHING: 1e6",
            ":5: SMOOTHING: 1e[+]06 pixels, expected at most 10",
        ),
    ],
)
def test_faults_of_a_file_of_cameras_are_named(
    tmp_path: Path, old: str, new: str, fault: str
) -> None:
    path = tmp_path / "cameras.yaml"
    path.write_text(GIVEN.replace(old, new))
    with pytest.raises(ConfigError, match=fault):
        read_camera_ranges(path)
