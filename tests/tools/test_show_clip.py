"""The contact sheet: a row an enhancement, readable by any picture viewer, errors in one line."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from nightcrawler.data.fingerprint import hash_ends
from nightcrawler.data.lowlight.enhance.gamma import gamma_lut
from nightcrawler.data.lowlight.enhance.zero_dce import DCENet
from nightcrawler.pose.files import Pose, write_pose
from nightcrawler.utils import command_line
from tests import tiny
from tests.conftest import MakeClip
from tests.pose.people import person_at
from tests.reading import read_file

LABEL_PX = 130


@pytest.fixture(scope="module")
def video(make_clip: MakeClip, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_clip(tmp_path_factory.mktemp("show") / "Run" / "a.mp4", 12, (64, 48))


def show(*argv: object) -> int:
    return command_line.run(tiny.load_tool("show_clip").main, list(map(str, argv)))


def test_each_enhancement_is_a_row_of_frames(
    video: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Frames of 64x48 shown as they are: the picture's pixels are the frames'."""
    assert (
        show(
            video,
            "--out",
            tmp_path / "new" / "a.png",
            "--columns",
            3,
            "--width",
            64,
            "--gamma",
            0.5,
        )
        == 0
    )
    sheet = np.asarray(Image.open(tmp_path / "new" / "a.png"))
    frames = read_file(video, lambda _: [0, 5, 11]).frames
    assert sheet.shape == (20 + 5 * 48, LABEL_PX + 3 * 64, 3)
    for row, expected in ((0, frames), (1, gamma_lut(0.5)[frames])):
        shown = sheet[20 + 48 * row : 20 + 48 * (row + 1), LABEL_PX:]
        assert (shown == np.concatenate(list(expected), axis=1)).all()
        assert sheet[20 + 48 * row : 20 + 48 * (row + 1), :LABEL_PX].max() > 200
    said = capsys.readouterr().out
    names = ("original", "gamma", "auto_gamma", "clahe", "retinex")
    assert re.findall(r"([a-z][a-z_ ]+) \d+\.\d", said.split(": ", 1)[1].splitlines()[0]) == list(
        names
    )
    assert f"gamma {gamma_lut(0.5)[frames].mean():.1f}" in said
    assert "zero_dce is left out: give its weights with --zero-dce-weights" in said


def test_several_videos_a_network_and_denoising(
    video: Path, make_clip: MakeClip, tmp_path: Path
) -> None:
    other = make_clip(tmp_path / "b.mp4", 2, (32, 64))
    torch.save(DCENet().state_dict(), tmp_path / "dce.pth")
    options = (
        "--zero-dce-weights",
        tmp_path / "dce.pth",
        "--denoise-frames",
        3,
        "--columns",
        4,
        "--width",
        64,
    )
    assert show(video, other, "--out", tmp_path / "two.png", *options) == 0
    with Image.open(tmp_path / "two.png") as sheet:
        assert (sheet.format, sheet.size) == (
            "PNG",
            (LABEL_PX + 4 * 64, 20 + 7 * 48 + 20 + 7 * 128),
        )


def test_only_what_is_asked_for_is_shown(
    video: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert (
        show(
            video,
            "--out",
            tmp_path / "a.png",
            "--only",
            "clahe",
            "--clahe-tiles",
            2,
            2,
            "--columns",
            1,
        )
        == 0
    )
    said = capsys.readouterr().out
    assert re.findall(r"(original|\w+) \d+\.\d", said.splitlines()[0]) == ["original", "clahe"]
    assert "zero_dce" not in said


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (("--only", "gama"), "unknown enhancement 'gama'; did you mean 'gamma'?"),
        (
            ("--only", "zero_dce", "--zero-dce-weights", "gone.pth"),
            "gone.pth: no such file; get Epoch99.pth",
        ),
        (
            ("--clahe-clip", "0"),
            "ENHANCE.CLAHE_CLIP: 0.0 is out of range, expected between 1 and 256",
        ),
        (("--only", "clahe", "--gamma", "3"), "--gamma is of gamma: add gamma to --only"),
        (
            ("--only", "none", "--retinex-sigmas", "5"),
            "--retinex-sigmas is of retinex: add retinex to --only",
        ),
        (
            ("--only", "gamma", "clahe", "--target-mean", "90"),
            "--target-mean is of auto_gamma: add auto_gamma to --only",
        ),
        (("--denoise-frames", "2"), "ENHANCE.DENOISE_FRAMES: 2 is even"),
        (("--columns", "0"), "--columns 0: expected 1 to 64"),
        (("--width", "9"), "--width 9: expected 16 pixels or more"),
        (("--columns", "64", "--width", "4096"), "and 16384 or less in all columns together"),
        (("--out", "a.txt"), "--out a.txt: expected a name that ends in .png"),
        (
            ("--out", __file__ + "/a.png"),
            "test_show_clip.py: is a file, expected a folder to write into",
        ),
    ],
)
def test_faults_are_one_line(
    video: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    options: tuple[str, ...],
    said: str,
) -> None:
    assert show(video, "--out", tmp_path / "a.png", *options) == 2
    error = capsys.readouterr().err
    assert said in error
    assert len(error.splitlines()) == 1
    assert not (tmp_path / "a.png").exists()


def test_a_video_that_cannot_be_read_is_named(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "a.mp4").write_text("not a video")
    assert show(tmp_path / "a.mp4", "--out", tmp_path / "a.png") == 2
    assert re.fullmatch(r"error: .*a\.mp4: not a video .*\n", capsys.readouterr().err)
    assert not (tmp_path / "a.png").exists()


def test_poses_are_drawn_on_the_lit_frames(
    video: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    points = person_at(32.0, 28.0, 0.25)[None].repeat(6, axis=1)
    pose = Pose(points, 12.5, "coco17", width=64, height=48, fingerprint=hash_ends(video))
    write_pose(tmp_path / "a.pose.npz", pose)
    options = ("--columns", 3, "--width", 64, "--only", "gamma", "--poses", tmp_path / "a.pose.npz")
    assert show(video, "--out", tmp_path / "a.png", *options) == 0
    sheet = np.asarray(Image.open(tmp_path / "a.png"))
    assert sheet.shape[0] == 20 + 3 * 48
    lit, drawn = (sheet[20 + 48 * row : 68 + 48 * row, LABEL_PX:] for row in (1, 2))
    assert 0.02 < (lit != drawn).any(-1).mean() < 0.3
    write_pose(tmp_path / "b.pose.npz", replace(pose, fingerprint="0"))
    assert show(video, "--out", tmp_path / "a.png", *options[:-1], tmp_path / "b.pose.npz") == 2
    assert "b.pose.npz: is the pose of another video" in capsys.readouterr().err
    assert show(video, video, "--out", tmp_path / "b.png", *options) == 2
    assert "--poses: 1 files for 2 videos" in capsys.readouterr().err


def test_a_video_that_cannot_be_read_costs_no_other(
    video: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    bad = tmp_path / "bad.mp4"
    bad.write_bytes(b"noise" * 100)
    out = tmp_path / "x.png"
    options = ("--out", out, "--only", "gamma", "--columns", 1, "--width", 64)
    assert show(bad, video, *options) == 3
    shown = capsys.readouterr()
    assert f"picture: {out}" in shown.out
    assert shown.err.startswith(f"error: {bad}: ")
    assert out.is_file()
    out.unlink()
    assert show(bad, *options) == 2
    assert len(capsys.readouterr().err.splitlines()) == 1
    assert not out.exists()
