import re

import pytest

from benchmarks.pose_speed import measure_poses
from nightcrawler.utils.errors import UserError
from tests.prepare.test_extract_poses import dots, walk


def test_each_step_has_its_speed_and_an_estimator_that_is_absent_is_told(tmp_path):
    videos = [dots(tmp_path / f"{name}.mp4", walk(20)) for name in "ab"]
    lines = list(measure_poses(videos, "blind", "", 1, 1))
    assert [line.split("  ")[0] for line in lines][:2] == ["decoding", "and lighting"]
    assert len(lines) == 4
    assert all(re.search(r" \d+\.\d frames/s, +\d+\.\d x decoding$", line) for line in lines)
    with pytest.raises(UserError, match="unknown estimator 'blin'"):
        list(measure_poses(videos, "blin", "", 1, 1))
