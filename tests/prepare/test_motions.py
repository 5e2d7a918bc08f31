import numpy as np
import pytest

from nightcrawler.pose.files import read_pose
from nightcrawler.prepare import motions
from nightcrawler.prepare.motions import (
    Span,
    read_recording,
    read_table,
    rename_actions,
    write_motions,
)
from nightcrawler.utils.errors import UserError
from tests.pose.recordings.test_amc import made_amc, made_asf
from tests.pose.recordings.test_bvh import channels, made_bvh
from tests.pose.recordings.test_kinect import made_lines


def test_a_table_names_spans(tmp_path):
    table = tmp_path / "t.csv"
    table.write_text("recording,first,last,class\na/b.bvh,3,90,Walk\nc.txt,,,Run\n")
    assert read_table(table) == [Span(2, "a/b.bvh", "Walk", 3, 90), Span(3, "c.txt", "Run")]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a.bvh,1,2\n", "row 1: 3 fields, expected recording,first,last,class"),
        ("a.bvh,one,2,Walk\n", "row 1: frame 'one', expected a number"),
        ("", "no row"),
        ("s01_e01\nwalk 252 390\n", "row 2: 'walk 252 390', expected 'action: first last'"),
    ],
)
def test_wrong_tables_are_told(tmp_path, text, message):
    (tmp_path / "t.csv").write_text(text)
    with pytest.raises(UserError, match=message):
        read_table(tmp_path / "t.csv")


def test_labels_of_utkinect_are_read_and_renamed(tmp_path):
    (tmp_path / "t.txt").write_text("s01_e01\nwalk: 252 390\ncarry: NaN NaN\nsitDown: 572 686 \n")
    spans = read_table(tmp_path / "t.txt")
    assert spans == [
        Span(2, "joints_s01_e01.txt", "walk", 252, 390),
        Span(4, "joints_s01_e01.txt", "sitDown", 572, 686),
    ]
    assert rename_actions(spans, {"sitDown": "Sit"}) == [
        Span(4, "joints_s01_e01.txt", "Sit", 572, 686)
    ]


def test_motions_of_every_form_are_cut_and_one_bad_row_costs_itself(tmp_path):
    folder = tmp_path / "recordings"
    folder.mkdir()
    (folder / "a.bvh").write_text(made_bvh([channels()] * 12))
    (folder / "02.asf").write_text(made_asf())
    (folder / "02_01.amc").write_text(made_amc([{}] * 48))
    (folder / "k.txt").write_text("\n".join(made_lines(range(10, 30))))
    spans = [
        Span(1, "a.bvh", "Walk"),
        Span(2, "02_01.amc", "Run"),
        Span(3, "k.txt", "Walk", 12, 18),
        Span(4, "k.txt", "Walk", 100, 200),
        Span(5, "gone.bvh", "Walk"),
        Span(6, "../k.txt", "Walk"),
        Span(7, "a.bvh", "Fly"),
    ]
    reasons = [
        reason for _, reason in write_motions(spans, folder, tmp_path / "o", ["Walk", "Run"])
    ]
    assert reasons[:3] == ["", "", ""]
    assert "leave 0, expected 5 or more" in reasons[3]
    assert "no such file" in reasons[4]
    assert "leaves its folder" in reasons[5]
    assert reasons[6] == "row 7: class 'Fly' is unknown"
    poses = [read_pose(tmp_path / "o" / span.name) for span in spans[:3]]
    assert [(pose.num_frames, pose.fps) for pose in poses] == [(12, 25), (12, 30), (7, 30)]
    assert all(pose.space == "world" for pose in poses)
    np.testing.assert_array_equal(poses[2].points[0, 0, 0], [21, 22, -23])


def test_other_suffixes_and_lost_skeletons_are_told(tmp_path):
    (tmp_path / "a.c3d").write_text("")
    (tmp_path / "02_01.amc").write_text("")
    with pytest.raises(UserError, match=r"suffix '.c3d', expected .bvh, .amc or .txt"):
        read_recording(tmp_path / "a.c3d")
    with pytest.raises(UserError, match=r"neither 02.asf nor a single .asf"):
        read_recording(tmp_path / "02_01.amc")


@pytest.mark.parametrize("damage", ["dof rq", "dof r", "direction 0 1", "order TX TY RX RY RZ"])
def test_words_that_no_skeleton_has_are_told(tmp_path, damage):
    key = damage.split()[0]
    text = made_asf()
    line = next(line for line in text.splitlines() if line.split()[:1] == [key])
    (tmp_path / "02.asf").write_text(text.replace(line, damage))
    (tmp_path / "02_01.amc").write_text(made_amc([{}] * 8))
    with pytest.raises(UserError, match=r"02_01\.amc: "):
        read_recording(tmp_path / "02_01.amc")


def test_a_recording_that_fails_is_read_once(tmp_path, monkeypatch):
    read = []
    reading = motions.read_recording
    monkeypatch.setattr(
        motions, "read_recording", lambda path: (read.append(path), reading(path))[1]
    )
    (tmp_path / "bad.bvh").write_text("no hierarchy")
    (tmp_path / "a.bvh").write_text(made_bvh([channels()] * 30))
    spans = [Span(row, "bad.bvh", "Walk", row, row + 9) for row in range(1, 6)]
    spans += [Span(row, "a.bvh", "Walk", row, row + 9) for row in range(6, 9)]
    reasons = [reason for _, reason in write_motions(spans, tmp_path, tmp_path / "o", ["Walk"])]
    assert len(set(reasons[:5])) == 1
    assert "bad.bvh" in reasons[0]
    assert reasons[5:] == [""] * 3
    assert len(read) == 2
