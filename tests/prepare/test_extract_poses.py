import weakref
from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest

from nightcrawler.data.video.integrity.limits import Limits
from nightcrawler.pose.estimators.base import UNRELATED
from nightcrawler.pose.people import seen_frames
from nightcrawler.pose.posture import is_upside_down
from nightcrawler.prepare import extract_poses
from nightcrawler.prepare.extract_poses import ExtractionOptions, extract_pose
from nightcrawler.synthetic.video import write_video
from nightcrawler.utils.errors import UserError, VideoError
from tests.paths import shared
from tests.pose.estimators import DOT_PX, SHAPE, DotEstimator, FailingEstimator

PLAIN = ExtractionOptions(search_crops=False)


def dots(path, positions, fps=30, size=(320, 240), color=(250, 20, 20), corner=0):
    """A video of a dot at each position (x, y) in turn, `None` for nobody."""
    width, height = size
    frames = []
    for position in positions:
        frame = np.full((height, width, 3), 20, np.uint8)
        frame[:16, :16] = corner
        if position is not None:
            x, y = position
            frame[y - DOT_PX : y + DOT_PX, x - DOT_PX : x + DOT_PX] = color
        frames.append(frame)
    write_video(path, frames, fps)
    return str(path)


def extract(path, options=PLAIN, estimator=None):
    return extract_pose(path, estimator or DotEstimator("dots"), lambda frames: frames, options)


def middle(pose, person=0):
    """Middle of the shoulders of a person `[T, 2]`."""
    return pose.points[person, :, 5:7, :2].mean(axis=1)


def walk(count, start=40, end=280, y=120):
    return [(int(x), y) for x in np.linspace(start, end, count)]


@pytest.mark.parametrize(
    ("fps", "count", "looked_at"),
    [
        (10, 20, 20),
        (Fraction(151, 10), 20, 20),
        (16, 20, 10),
        (20, 40, 20),
        (Fraction(30000, 1001), 60, 30),
        (30, 60, 30),
        (Fraction(61, 2), 60, 30),
        (Fraction(240), 240, 15),
        (Fraction(24000, 1001), 24, 12),
    ],
)
def test_at_most_fifteen_frames_a_second_are_looked_at_and_their_rate_is_told(
    tmp_path, fps, count, looked_at
):
    path = dots(tmp_path / "a.mp4", walk(count), fps)
    pose = extract(path)
    step = count // looked_at
    assert pose.num_frames == looked_at
    assert pose.fps == pytest.approx(float(fps) / step)
    expected = [x for x, _ in walk(count)[::step]]
    np.testing.assert_allclose(middle(pose)[:, 0], expected, atol=1.5)
    assert (pose.width, pose.height, pose.layout) == (320, 240, "coco17")


def at_times(path, source, times_ms):
    """Copy the frames of a video to other times."""
    with av.open(source) as given, av.open(str(path), "w", format="matroska") as made:
        stream = made.add_stream("libx264", options={"crf": "18", "bf": "0", "threads": "1"})
        stream.width, stream.height, stream.pix_fmt = 320, 240, "yuv420p"
        stream.codec_context.time_base = stream.time_base = Fraction(1, 1000)
        for frame, time_ms in zip(given.decode(video=0), times_ms, strict=True):
            frame.pts, frame.time_base, frame.pict_type = time_ms, Fraction(1, 1000), 0
            made.mux(stream.encode(frame))
        made.mux(stream.encode(None))
    return str(path)


def test_frames_are_placed_by_their_times_where_the_rate_varies(tmp_path):
    # Two seconds at 30 a second, then two at 10, of a dot of constant speed.
    times = [*(round(1000 * n / 30) for n in range(60)), *range(2000, 4001, 100)]
    source = dots(tmp_path / "even.mp4", [(40 + time // 20, 120) for time in times])
    pose = extract(at_times(tmp_path / "varies.mkv", source, times))
    seconds = np.arange(pose.num_frames) / pose.fps
    assert seconds[-1] == pytest.approx(4, abs=0.1)
    np.testing.assert_allclose(middle(pose)[:, 0], 40 + 50 * seconds, atol=3)
    # Between two pictures nobody was missed.
    assert (pose.points[0, ..., 2] > 0.85).all()


def test_nobody_is_seen_while_a_camera_gives_no_picture(tmp_path):
    times = [*range(0, 1000, 100), *range(4000, 5000, 100)]
    source = dots(tmp_path / "even.mp4", [(100, 120)] * 20)
    pose = extract(at_times(tmp_path / "gap.mkv", source, times))
    seconds = np.arange(pose.num_frames) / pose.fps
    seen = np.isfinite(pose.points[0, :, 0, 0])
    assert not seen[(seconds > 1.2) & (seconds < 3.8)].any()
    assert seen[seconds < 0.9].all()
    assert seconds[-1] == pytest.approx(4.9, abs=0.2)


def test_times_that_no_video_lasts_are_refused(tmp_path):
    source = dots(tmp_path / "even.mp4", [(100, 120)] * 3)
    path = at_times(tmp_path / "long.mkv", source, [0, 100, 60_000])
    options = replace(PLAIN, limits=Limits(frames=100))
    with pytest.raises(VideoError, match="lasts longer than"):
        extract(path, options)


def cut_short(path, source):
    """Copy two thirds of a video's bytes, as Matroska."""
    with av.open(source) as given, av.open(str(path), "w") as made:
        stream = made.add_stream_from_template(given.streams.video[0])
        for packet in given.demux(video=0):
            if packet.dts is not None:
                packet.stream = stream
                made.mux(packet)
    data = path.read_bytes()
    path.write_bytes(data[: len(data) * 2 // 3])
    return str(path)


def test_the_sound_part_of_a_damaged_video_has_its_pose(tmp_path):
    source = dots(tmp_path / "whole.mp4", walk(90), 30)
    whole = extract(source)
    pose = extract(cut_short(tmp_path / "cut.mkv", source))
    assert whole.damage == ""
    assert "lost" in pose.damage
    assert 15 < pose.num_frames < whole.num_frames
    np.testing.assert_allclose(middle(pose)[:-1], middle(whole)[: pose.num_frames - 1], atol=1.5)


def test_nobody_and_somebody_who_leaves(tmp_path):
    pose = extract(dots(tmp_path / "none.mp4", [None] * 30))
    assert pose.points.shape == (1, 15, 17, 3)
    assert not seen_frames(pose.points[0]).any()
    pose = extract(dots(tmp_path / "leaves.mp4", [*walk(40), *[None] * 40]))
    assert seen_frames(pose.points[0]).tolist() == [True] * 20 + [False] * 20
    assert np.isnan(pose.points[0, 20:]).all()


def test_one_frame(tmp_path):
    pose = extract(dots(tmp_path / "one.mp4", [(100, 100)]))
    assert pose.points.shape == (1, 1, 17, 3)
    assert seen_frames(pose.points[0]).all()


def test_two_people_who_cross_keep_their_index(tmp_path):
    frames = np.full((60, 240, 320, 3), 20, np.uint8)
    for number, (x, _) in enumerate(walk(60)):
        frames[number, 90:130, x - 10 : x + 10] = (250, 20, 20)
        frames[number, 140:170, 320 - x - 10 : 320 - x + 10] = (20, 250, 20)
    write_video(tmp_path / "two.mp4", frames, 30)
    pose = extract(str(tmp_path / "two.mp4"))
    expected = np.array([x for x, _ in walk(60)[::2]])
    np.testing.assert_allclose(middle(pose, 0)[:, 0], expected, atol=2)
    np.testing.assert_allclose(middle(pose, 1)[:, 0], 320 - expected, atol=2)
    assert len(extract(str(tmp_path / "two.mp4"), replace(PLAIN, max_people=1)).points) == 1


def test_a_turned_and_mirrored_video_gives_joints_of_the_upright_picture(tmp_path):
    source = dots(tmp_path / "plain.mp4", [(60, 40)] * 10, size=(320, 240))
    # The middle of the dot in the picture that a player shows: turned left, mirrored.
    for name, matrix, size, where in (
        ("turned", (0, -1, 1, 0), (240, 320), (40, 260)),
        ("mirrored", (-1, 0, 0, 1), (320, 240), (260, 40)),
    ):
        path = with_matrix(source, tmp_path / f"{name}.mp4", matrix)
        pose = extract(str(path))
        assert (pose.width, pose.height) == size
        joints = pose.points[0, :, :, :2]
        np.testing.assert_allclose(joints[0, 5:7].mean(0)[0], where[0], atol=1.5)
        assert joints[0, 0, 1] < where[1] < joints[0, 15, 1]
        assert abs(joints[0, 9:11, 1].mean() + 12 * 0.3 - where[1]) < 1.5


def with_matrix(source, path, matrix):
    """Copy a video with a display matrix `a b c d` in its track header."""
    data = bytearray(Path(source).read_bytes())
    at = data.index(b"tkhd") + 4 + 40
    a, b, c, d = (value * 65536 for value in matrix)
    for place, value in zip((0, 1, 3, 4), (a, b, c, d), strict=True):
        data[at + 4 * place : at + 4 * place + 4] = value.to_bytes(4, "big", signed=True)
    path.write_bytes(data)
    with av.open(str(path)) as container:
        assert next(container.decode(video=0)).side_data.get("DISPLAYMATRIX") is not None
    return path


def test_4k_is_looked_at_small_and_in_parts_and_told_in_its_own_pixels(tmp_path, monkeypatch):
    monkeypatch.setattr(extract_poses, "PART_BYTES", 4 * 1280 * 720 * 3)
    path = dots(tmp_path / "4k.mp4", [(1800, 1000)] * 7, fps=10, size=(3840, 2160))
    estimator = DotEstimator("dots")
    pose = extract(path, estimator=estimator)
    assert (pose.width, pose.height) == (3840, 2160)
    np.testing.assert_allclose(middle(pose)[:, 0], 1800, atol=5)
    assert estimator.largest == 4 * 1280 * 720 * 3
    assert pose.num_frames == 7


def test_parts_of_a_long_video_are_joined(tmp_path, monkeypatch):
    monkeypatch.setattr(extract_poses, "PART_SEC", 1.0)
    path = dots(tmp_path / "long.mp4", [*walk(60), *[None] * 30], 30)
    pose = extract(path)
    assert pose.num_frames == 45
    assert len(pose.points) == 1
    np.testing.assert_allclose(middle(pose)[:30, 0], [x for x, _ in walk(60)[::2]], atol=1.5)


def test_frames_of_a_part_are_gone_before_those_of_the_next_are_lit(tmp_path, monkeypatch):
    monkeypatch.setattr(extract_poses, "PART_SEC", 1.0)
    kept = []
    left = []

    def light(frames):
        left.append(sum(part() is not None for part in kept))
        lit = frames.copy()
        kept.extend([weakref.ref(frames), weakref.ref(lit)])
        return lit

    path = dots(tmp_path / "long.mp4", walk(90), 30)
    extract_pose(path, DotEstimator("dots"), light, PLAIN)
    assert left == [0, 0, 0]


class NearSighted(DotEstimator):
    """See people in pictures of less than 200 columns only, as detectors miss small ones."""

    def estimate(self, frames, fps):
        points = super().estimate(frames, fps)
        if frames.shape[2] > 200:
            points[:] = np.nan
        elif fps == UNRELATED:
            assert len(frames) <= extract_poses.TRIED_FRAMES
        return points


def test_a_person_too_small_for_the_whole_picture_is_found_in_a_crop(tmp_path):
    path = dots(tmp_path / "small.mp4", walk(40, 220, 280, 180))
    assert not seen_frames(extract(path, estimator=NearSighted("near")).points[0]).any()
    pose = extract(path, ExtractionOptions(), NearSighted("near"))
    assert seen_frames(pose.points[0]).all()
    np.testing.assert_allclose(
        middle(pose)[:, 0], [x for x, _ in walk(40, 220, 280, 180)[::2]], atol=1.5
    )


class Surer(NearSighted):
    """See more in crops than in the whole picture, by so much."""

    def __init__(self, gain):
        super().__init__("surer")
        self.gain = gain

    def estimate(self, frames, fps):
        points = DotEstimator.estimate(self, frames, fps)
        points[..., 2] *= 0.5
        if frames.shape[2] <= 200:
            points[..., 2] += self.gain
            points[..., 1] += 5
        return points


@pytest.mark.parametrize(("gain", "is_taken"), [(0.05, False), (0.15, True), (-0.05, False)])
def test_a_crop_must_show_clearly_more_than_the_whole_picture(tmp_path, gain, is_taken):
    path = dots(tmp_path / "near.mp4", walk(40, 220, 280, 180))
    pose = extract(path, ExtractionOptions(), Surer(gain))
    assert np.nanmax(pose.points[0, ..., 2]) == pytest.approx(0.45 + gain * is_taken)
    shift = middle(pose)[:, 1] - middle(extract(path))[:, 1]
    np.testing.assert_allclose(shift, 5 * is_taken, atol=0.5)


def test_the_frames_are_lit_and_the_work_is_told_to_go_on(tmp_path):
    path = dots(tmp_path / "dark.mp4", walk(30), color=(60, 10, 10))
    steps = []
    for gain, is_seen in ((1, False), (4, True)):
        pose = extract_pose(
            path,
            DotEstimator("dots"),
            lambda frames, gain=gain: np.minimum(frames.astype(int) * gain, 255).astype(np.uint8),
            PLAIN,
            lambda: steps.append(1),
        )
        assert seen_frames(pose.points[0]).any() == is_seen
    assert len(steps) >= 30


def test_an_answer_of_another_shape_is_told(tmp_path):
    path = dots(tmp_path / "a.mp4", walk(30), corner=SHAPE)
    with pytest.raises(
        UserError, match=r"dots gives points of shape \[1, 3, 17, 3\], expected \[P"
    ):
        extract(path, estimator=FailingEstimator("dots"))


def test_what_is_no_video_is_a_video_error(tmp_path):
    (tmp_path / "a.mp4").write_bytes(b"no video")
    with pytest.raises(VideoError):
        extract(str(tmp_path / "a.mp4"))


def test_odd_clips_are_poses_or_video_errors():
    for path in sorted((shared() / "clips/odd").iterdir()):
        try:
            pose = extract(str(path))
        except VideoError:
            continue
        assert pose.num_frames > 0
        assert pose.width > 0


class UpsideDown(Surer):
    """See people upside down in the whole picture, as in a tree, and as they are in crops."""

    def estimate(self, frames, fps):
        points = DotEstimator.estimate(self, frames, fps)
        if frames.shape[2] > 200:
            points[..., 1] = 120 - points[..., 1]
        return points


def test_a_crop_that_shows_people_is_taken_for_a_whole_picture_with_somebody_upside_down(tmp_path):
    """Though the estimator is as sure of both."""
    path = dots(tmp_path / "tree.mp4", walk(40, 220, 280, 180))
    pose = extract(path, ExtractionOptions(), UpsideDown(0))
    assert not is_upside_down(pose.points[0], "coco17")
    assert seen_frames(pose.points[0]).all()
    assert is_upside_down(extract(path, estimator=UpsideDown(0)).points[0], "coco17")


class Careless(DotEstimator):
    """Give an answer of another shape for single pictures."""

    def estimate(self, frames, fps):
        points = super().estimate(frames, fps)
        return points[0] if fps == UNRELATED else points


def test_an_answer_of_another_shape_is_told_of_second_looks_too(tmp_path):
    path = dots(tmp_path / "a.mp4", walk(30))
    with pytest.raises(UserError, match=r"careless gives points of shape \[1, 17, 3\]"):
        extract(path, estimator=Careless("careless"))
