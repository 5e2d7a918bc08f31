"""Results in their written forms; part files of version 0.1 are read."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import numpy as np
import pytest

from nightcrawler.data.lists import VideoItem
from nightcrawler.predict import parts
from nightcrawler.predict.merge import merge
from nightcrawler.predict.part_table import PartRow, table_of
from nightcrawler.predict.shards import Worker
from nightcrawler.predict.sliding_windows import Segment
from nightcrawler.predict.video_result import (
    TimelineEntry,
    VideoResult,
    csv_rows,
    format_clock,
    from_plain,
    table_lines,
    timeline_rows,
    to_plain,
    to_record,
)
from nightcrawler.utils.errors import UserError

CLASSES = ("Run", "Sit", "Wave")
# A part as version 0.1 wrote it, byte for byte.
OLD_PART = (
    '{"run": "KEY", "row": {"name": "a.mp4", "label": -1, "status": "ok", "class_id": 2, '
    '"probs": [0.25, 0.125, 0.625], "logits": [-1.0, -2.0, 0.5], "num_clips": 3, "votes": [2, 0], '
    '"segments": [{"start_sec": 0.0, "end_sec": 2.5, "label": 2, "prob": 0.75}]}}'
)
RESULT = VideoResult(
    name="a.mp4",
    label=-1,
    status="sure",
    class_names=CLASSES,
    class_id=2,
    probs=(0.25, 0.125, 0.625),
    logits=(-1.0, -2.0, 0.5),
    num_clips=3,
    votes=(2, 0),
    segments=(Segment(0.0, 2.5, 2, 0.75, "sure"),),
)
# As version 0.1 knew it: not judged.
OLD = dataclasses.replace(RESULT, status="ok", segments=(Segment(0.0, 2.5, 2, 0.75),))
FAILED = VideoResult("b.mp4", 1, "error: cut short (decode)", CLASSES)


def test_parts_of_version_0_1_are_merged_and_taken_over(tmp_path: Path) -> None:
    about = {"models": [], "class_names": list(CLASSES), "labels": "label-free", "mixture": {}}
    key = parts.open_run(tmp_path, about)
    path = parts.old_part_path(tmp_path, "a.mp4")
    path.parent.mkdir(parents=True)
    path.write_text(OLD_PART.replace("KEY", key))
    items = [VideoItem("a.mp4", -1, tmp_path / "a.mp4", 1)]
    found = [file.name for file in merge(tmp_path, items, 2).files]
    assert found == ["predictions.csv", "predictions.npz", "timeline.csv"]
    before = [(tmp_path / name).read_bytes() for name in found]
    run = parts.open_parts(tmp_path, key, CLASSES, 1)
    Worker(run, items, (0, 1), lambda due: iter([OLD] * len(due)), print).run()
    assert [row.result for row in run.rows(0, items).values()] == [OLD]
    path.unlink()
    merge(tmp_path, items, 2)
    assert [(tmp_path / name).read_bytes() for name in found] == before
    path.write_text(OLD_PART.replace("KEY", key))
    with pytest.raises(UserError, match="1 parts are of videos that the list does not have"):
        merge(tmp_path, [VideoItem("b.mp4", -1, tmp_path / "b.mp4", 1)], 2)


def test_a_result_survives_plain_values() -> None:
    for result in (RESULT, OLD, FAILED):
        assert from_plain(json.loads(json.dumps(to_plain(result))), CLASSES) == result
    with pytest.raises(KeyError):
        from_plain({"name": "a"}, CLASSES)


def test_classes_fall_by_probability_and_the_predicted_one_leads() -> None:
    assert RESULT.classes == ["Wave", "Run", "Sit"]
    switched = VideoResult("a", -1, "sure", CLASSES, 1, (0.5, 0.2, 0.3))
    assert switched.classes == ["Sit", "Run", "Wave"]
    assert switched.top(2) == [1, 0]
    np.testing.assert_array_equal(switched.probabilities, np.float32([0.5, 0.2, 0.3]))
    assert RESULT.timeline == [TimelineEntry(0.0, 2.5, "Wave", 0.75, "sure")]


def test_trust_is_of_the_predicted_class_and_nothing_without_one() -> None:
    switched = VideoResult("a", -1, "sure", CLASSES, 1, (0.5, 0.2, 0.3))
    unsure = VideoResult("a", -1, "unsure", CLASSES, 0, (0.9, 0.05, 0.05))
    assert switched.trust > unsure.trust > FAILED.trust == 0
    assert VideoResult("a", -1, "sure", CLASSES, 2, (0.5, 0.2, 0.3)).trust > switched.trust


def test_a_failed_result_has_a_reason_and_no_classes() -> None:
    assert FAILED.classes == FAILED.timeline == []
    assert np.isnan(FAILED.probabilities).tolist() == [True] * 3
    assert to_record(FAILED, 2) == {"video": "b.mp4", "status": "error: cut short (decode)"}
    assert table_of([PartRow(RESULT), PartRow(FAILED)], 3).plain_status == ["ok", FAILED.status]


def test_tables_and_records() -> None:
    assert list(csv_rows([RESULT, FAILED], 4)) == [
        ["video", "status"]
        + [f"{name}_{place}" for place in range(1, 5) for name in ("class", "probability")],
        ["a.mp4", "sure", "Wave", "0.625", "Run", "0.25", "Sit", "0.125", "", ""],
        ["b.mp4", "error: cut short (decode)"] + [""] * 8,
    ]
    assert list(table_lines(RESULT, 2)) == [
        "a.mp4  Wave 100 % of 0:00:02.5  (1 of 2 models)  sure",
        "  0:00:00.0 - 0:00:02.5  Wave 0.750  sure",
    ]
    assert to_record(RESULT, 1, ["first", "second"]) == {
        "video": "a.mp4",
        "status": "sure",
        "top": [{"class": "Wave", "probability": 0.625}],
        "models": {"first": "Wave", "second": "Run"},
        "timeline": [
            {
                "start_sec": 0.0,
                "end_sec": 2.5,
                "class": "Wave",
                "probability": 0.75,
                "status": "sure",
            }
        ],
    }
    assert format_clock(3725.96) == "1:02:05.9"


def test_the_headline_of_a_timeline_is_how_long_each_class_lasts() -> None:
    segments = (Segment(0, 6, 0, 0.9), Segment(6, 9, 2, 0.8), Segment(9, 12, 0, 0.7))
    long = dataclasses.replace(RESULT, segments=segments, class_id=0, votes=())
    assert next(table_lines(long, 2)) == "a.mp4  Run 75 %, Wave 25 % of 0:00:12.0  sure"
    whole = dataclasses.replace(RESULT, segments=())
    assert next(table_lines(whole, 2)) == "a.mp4  Wave 0.625  Run 0.250  (1 of 2 models)  sure"


def test_an_answer_that_is_not_sure_names_no_class_where_that_is_asked_for() -> None:
    segments = (
        Segment(0, 2, 0, 0.9, "sure"),
        Segment(2, 3, 1, 0.4, "unsure"),
        Segment(3, 5, 2, 0.3, "no person"),
        Segment(6, 7, 2, 0.3, "no person"),
    )
    unsure = dataclasses.replace(RESULT, status="unsure", segments=segments)
    nothing = {"class": "nothing known", "probability": None}
    assert to_record(RESULT, 2, reject=True) == to_record(RESULT, 2)
    record = to_record(unsure, 2, reject=True)
    assert (record["status"], record["top"]) == ("unsure", [nothing])
    # What is not known is one stretch, up to the next gap.
    assert [(one["start_sec"], one["end_sec"], one["class"]) for one in record["timeline"]] == [
        (0, 2, "Run"),
        (2, 5, "nothing known"),
        (6, 7, "nothing known"),
    ]
    _, row, failed = csv_rows([unsure, FAILED], 2, reject=True)
    assert row == ["a.mp4", "unsure", "nothing known", "", "", ""]
    assert failed == ["b.mp4", "error: cut short (decode)", "", "", "", ""]
    assert list(timeline_rows([unsure], reject=True))[2] == [
        *("a.mp4", "2.000", "5.000", "nothing known", "", "unsure")
    ]
    whole = dataclasses.replace(unsure, segments=())
    assert list(table_lines(whole, 2, reject=True)) == ["a.mp4  nothing known  unsure"]


def test_statuses_of_trust_are_no_failures() -> None:
    for status in ("sure", "unsure", "no person", "too short", "models disagree", "ok"):
        result = dataclasses.replace(RESULT, status=status)
        assert (result.ok, result.failed, result.is_damaged) == (True, False, False)
        assert table_of([PartRow(result)], 3).plain_status == ["ok"]
    damaged = dataclasses.replace(RESULT, status="damaged: 3 frames")
    assert (damaged.ok, damaged.failed, damaged.is_damaged) == (True, True, True)
    nobody = VideoResult("c.mp4", -1, "no person", CLASSES)
    assert (nobody.ok, nobody.failed) == (False, False)
    assert (FAILED.ok, FAILED.failed) == (False, True)


def test_a_whole_video_is_one_segment_of_a_timeline() -> None:
    whole = dataclasses.replace(RESULT, segments=())
    unsure = dataclasses.replace(whole, status="unsure")
    lengths = [3.25, None, None, None]
    _, *rows = timeline_rows([whole, RESULT, FAILED, unsure], True, lengths)
    assert [row[:5] for row in rows] == [
        ["a.mp4", "0.000", "3.250", "Wave", "0.625"],
        ["a.mp4", "0.000", "2.500", "Wave", "0.75"],
        ["a.mp4", "0.000", "", "nothing known", ""],
    ]
    assert rows[0][5] == "sure"
    assert rows[2][5] == "unsure"
    assert len(list(timeline_rows([whole]))) == 1
