import re
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from benchmarks.pose_speed import (
    _most_of_thirds,
    _watch,
    measure_poses,
    measure_predictions,
    repeat_video,
)
from nightcrawler.utils.errors import UserError
from tests.prepare.test_extract_poses import dots, walk
from tests.reading import read_file


def test_each_step_has_its_speed_and_an_estimator_that_is_absent_is_told(tmp_path):
    videos = [dots(tmp_path / f"{name}.mp4", walk(20)) for name in "ab"]
    lines = list(measure_poses(videos, "blind", "", 1, 1))
    assert [line.split("  ")[0] for line in lines][:2] == ["decoding", "and lighting"]
    assert len(lines) == 4
    form = r" \d+\.\d frames/s, +\d+\.\d CPU ms a frame, +\d+\.\d x decoding$"
    assert all(re.search(form, line) for line in lines)
    with pytest.raises(UserError, match="unknown estimator 'blin'"):
        list(measure_poses(videos, "blin", "", 1, 1))


def test_a_video_is_repeated_until_it_lasts_so_long(tmp_path):
    path = dots(tmp_path / "a.mp4", walk(20), 10)
    repeat_video(path, tmp_path / "long.mp4", 7.0)
    read = read_file(tmp_path / "long.mp4", range)
    assert len(read.frames) == 70
    # Every second begins anew.
    frames = read.frames.astype(float)
    assert abs(frames[0] - frames[20]).mean() < abs(frames[0] - frames[10]).mean()


def test_predictions_have_their_cost_and_one_that_fails_is_told(tmp_path):
    video = dots(tmp_path / "a.mp4", walk(20), 10)
    model = "demo/uniformer_b32_k600"
    lines = list(measure_predictions(video, 0.05, [model], tmp_path))
    form = (
        r"prediction of {} s: \d+\.\d CPU s, largest process \d+ MiB, all together at most "
        r"\d+, \d+, \d+ MiB in each third of its time"
    )
    assert [
        bool(re.fullmatch(form.format(s), line)) for s, line in zip((2, 3), lines, strict=True)
    ] == [True] * 2
    with pytest.raises(UserError, match="nightcrawler predict failed over 2 s"):
        list(measure_predictions(video, 0.05, ["no/model"], tmp_path))


def test_memory_is_that_of_a_process_and_of_those_that_it_starts():
    program = (
        "import subprocess, sys, time\n"
        "held = bytearray(b'x') * (40 << 20)\n"
        "if len(sys.argv) < 2:\n"
        "    subprocess.run([sys.executable, __file__, 'child'], check=True)\n"
        "else:\n"
        "    time.sleep(1.0)\n"
    )
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "held.py"
        path.write_text(program)
        process = subprocess.Popen([sys.executable, str(path)])
        _, resident = _watch(process)
    assert process.returncode == 0
    assert 80 < max(resident) < 140
    assert _most_of_thirds([1, 2, 1, 5, 4, 3]) == [2, 5, 4]
