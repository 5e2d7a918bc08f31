"""Parts of a large prediction: workers are killed, held up and raced; the merge is that of one worker, byte for byte."""

from __future__ import annotations

import json
import multiprocessing
import os
import shutil
import signal
import threading
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import pytest

from nightcrawler.data.lists import VideoItem
from nightcrawler.predict import claims, parts, shards
from nightcrawler.predict.claims import claim_part
from nightcrawler.predict.ensemble import run_hash
from nightcrawler.predict.merge import merge
from nightcrawler.predict.part_table import PartRow, from_arrays, table_of, to_arrays
from nightcrawler.predict.shards import Worker
from nightcrawler.predict.sliding_windows import Segment
from nightcrawler.predict.video_result import VideoResult
from nightcrawler.pseudo.predictions import Predictions, read_results
from nightcrawler.utils.errors import UserError

CLASSES = ("Run", "Sit", "Wave")
ABOUT = {"models": [], "class_names": list(CLASSES), "labels": "label-free", "mixture": {}}


def items_of(count: int) -> list[VideoItem]:
    return [
        VideoItem(f"{row}.mp4", row % 4 - 1, Path(f"/nowhere/{row}.mp4"), row + 1)
        for row in range(count)
    ]


def result_of(item: VideoItem) -> VideoResult:
    """A result that depends on the video alone: every seventh has none, every fifth a timeline."""
    if item.row % 7 == 0:
        return VideoResult(item.name, item.label, "error: cut short (decode)", CLASSES)
    rng = np.random.default_rng(item.row)
    scores = rng.dirichlet([1.0, 1.0, 1.0])
    segments = ()
    if item.row % 5 == 0:
        segments = (Segment(0.0, rng.random() * 9, 1, rng.random(), "sure"),)
    return VideoResult(
        name=item.name,
        label=item.label,
        status="damaged: 3 frames" if item.row % 11 == 0 else "sure",
        class_names=CLASSES,
        class_id=int(scores.argmax()),
        probs=tuple(scores.tolist()),
        logits=tuple(rng.standard_normal(3).tolist()),
        num_clips=item.row,
        votes=(0, 1)[: item.row % 3],
        segments=segments,
    )


def worker_of(
    out: Path,
    items: Sequence[VideoItem],
    shard: tuple[int, int] = (0, 1),
    delay: float = 0,
    most_rows: int | None = None,
) -> tuple[Worker, list[str]]:
    """A worker, and the names of the videos that it is asked for.

    Its process is killed when it is asked for one video more than `most_rows`.
    """
    asked: list[str] = []

    def predict(due: Sequence[VideoItem]) -> Iterator[VideoResult]:
        for item in due:
            if len(asked) == most_rows:
                os.kill(os.getpid(), signal.SIGKILL)
            asked.append(item.name)
            time.sleep(delay)
            yield result_of(item)

    key = parts.open_run(out, ABOUT)
    return Worker(
        parts.open_parts(out, key, CLASSES, len(items)), items, shard, predict, print
    ), asked


def work(
    out: Path, count: int, shard: tuple[int, int], delay: float, most_rows: int | None
) -> None:
    """Entry point of a process."""
    worker_of(out, items_of(count), shard, delay, most_rows)[0].run()


def merged(out: Path, items: Sequence[VideoItem]) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in merge(out, items, 2).files}


@pytest.fixture
def few_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(parts, "MOST_PARTS", 6)
    monkeypatch.setattr(shards, "POLL_SEC", 0.05)


def started(
    out: Path,
    count: int,
    shard: tuple[int, int],
    delay: float = 0.0,
    most_rows: int | None = None,
) -> multiprocessing.Process:
    # Forked, so that the patched sizes hold there, too.
    process = multiprocessing.get_context("fork").Process(
        target=work, args=(out, count, shard, delay, most_rows)
    )
    process.start()
    return process


def test_a_table_holds_results_exactly() -> None:
    rows = [PartRow(result_of(item), (item.row, 5)) for item in items_of(40)]
    table = from_arrays(to_arrays(table_of(rows, 3)), 3)
    assert list(table.rows(CLASSES)) == rows
    with pytest.raises(ValueError, match="shape"):
        from_arrays(to_arrays(table), 4)


def test_the_merged_files_are_those_of_plain_results(tmp_path: Path, few_parts: None) -> None:
    """The results file in blocks is that of the library's writer, of the same predictions."""
    items = items_of(100)
    worker_of(tmp_path, items)[0].run()
    done = merge(tmp_path, items, 2)
    assert (done.num_rows, done.num_without, done.num_damaged) == (100, 14, 8)
    results = [result_of(item) for item in items]
    nan = (float("nan"),) * 3
    whole = Predictions(
        logits=np.array([one.logits or nan for one in results], np.float32),
        probs=np.array([one.probs or nan for one in results], np.float32),
        labels=np.array([item.label for item in items]),
        names=[item.name for item in items],
        num_clips=np.array([one.num_clips for one in results]),
        status=["ok" if one.ok and not one.is_damaged else one.status for one in results],
        meta={**dict(sorted(ABOUT.items())), "run": run_hash(ABOUT)},
    )
    whole.save(tmp_path / "whole.npz")
    assert done.files[1].read_bytes() == (tmp_path / "whole.npz").read_bytes()
    assert read_results(done.files[1]).names == whole.names
    lines = done.files[0].read_text().splitlines()
    first = results[0]
    best = sorted(zip(first.probs, CLASSES, strict=True), reverse=True)[:2]
    texts = [text for prob, name in best for text in (name, f"{prob:.9g}")]
    assert lines[1] == ",".join(["0.mp4", "sure", *texts])
    assert len(lines) == 101
    names = {path.name for path in (tmp_path / "parts").iterdir()}
    assert names == {"layout.json", *(f"{part:06d}.npz" for part in range(6))}


def rows_of(out: Path) -> int:
    """Rows of journals, and of parts that are sealed."""
    rows = sum(path.read_text().count("\n") for path in out.glob("parts/*.jsonl"))
    return rows + 10 * len([*out.glob("parts/*.npz")])


@pytest.mark.fault
def test_workers_that_are_killed_at_any_row(tmp_path: Path, few_parts: None) -> None:
    """The first row of a part, its middle, its end, and in the second part; one that lives on makes the rest."""
    items = items_of(60)
    worker_of(tmp_path / "one", items)[0].run()
    out = tmp_path / "many"
    num_rows = 0
    for most_rows in (0, 1, 6, 10, 14):
        process = started(out, 60, (most_rows % 3, 3), most_rows=most_rows)
        process.join(60)
        assert process.exitcode == -signal.SIGKILL
        num_rows += most_rows
        assert rows_of(out) == num_rows, "rows of workers before are kept"
    survivor = started(out, 60, (1, 3))
    survivor.join(60)
    assert survivor.exitcode == 0
    assert merged(out, items) == merged(tmp_path / "one", items)
    assert not [*out.glob("parts/*.claim"), *out.glob("parts/*.jsonl")]


@pytest.mark.fault
def test_a_worker_that_is_killed_while_another_waits(tmp_path: Path, few_parts: None) -> None:
    items = items_of(6)
    slow = started(tmp_path / "two", 6, (0, 2), 30.0)
    for _ in range(2000):
        if [*tmp_path.glob("two/parts/*.claim")]:
            break
        time.sleep(0.005)
    other = started(tmp_path / "two", 6, (1, 2), 0.0)
    for _ in range(2000):
        if len([*tmp_path.glob("two/parts/*.npz")]) == 5:
            break
        time.sleep(0.005)
    assert other.is_alive(), "the last part is waited for"
    slow.kill()
    slow.join()
    other.join(60)
    assert other.exitcode == 0
    worker_of(tmp_path / "one", items)[0].run()
    assert merged(tmp_path / "two", items) == merged(tmp_path / "one", items)


def test_a_slow_worker_does_not_hold_the_rest(tmp_path: Path, few_parts: None) -> None:
    items = items_of(60)
    slow, fast = worker_of(tmp_path, items, (0, 2), 0.05), worker_of(tmp_path, items, (1, 2))
    thread = threading.Thread(target=slow[0].run)
    thread.start()
    time.sleep(0.02)
    fast[0].run()
    thread.join()
    assert sorted(slow[1] + fast[1], key=lambda name: int(name[:-4])) == [one.name for one in items]
    assert len(fast[1]) == 50, "the slow one has made its first part only"


def test_a_lease_of_another_machine_ends(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = claim_part(tmp_path, 3)
    assert first is not None
    assert claim_part(tmp_path, 3) is None
    first.path.write_text("elsewhere/boot/pid:[1] 17 4711\n")
    assert claim_part(tmp_path, 3) is None
    long_ago = time.time() - claims.LEASE_SEC - 60
    os.utime(first.path, (long_ago, long_ago))
    monkeypatch.setattr(claims, "TOUCH_SEC", 0.01)
    second = claim_part(tmp_path, 3)
    assert second is not None
    assert not first.path.exists()
    second.path.write_text("elsewhere/boot/pid:[1] 17 4711\n")
    with second:
        os.utime(second.path, (long_ago, long_ago))
        time.sleep(0.2)
        assert claim_part(tmp_path, 3) is None, "it is touched while its worker lives"
    assert not list(tmp_path.iterdir())


def test_one_of_many_gets_a_claim(tmp_path: Path) -> None:
    found: list[object] = []
    barrier = threading.Barrier(8)

    def take() -> None:
        barrier.wait()
        found.append(claim_part(tmp_path, 0))

    threads = [threading.Thread(target=take) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sum(claim is not None for claim in found) == 1


def test_a_worker_that_was_thought_dead_writes_on(tmp_path: Path, few_parts: None) -> None:
    """Its journal beside the sealed part changes nothing, and the next recheck removes it."""
    items = items_of(12)
    worker, _ = worker_of(tmp_path, items)
    worker.run()
    before = merged(tmp_path, items)
    with worker.parts.journal(0) as journal:
        journal.append(PartRow(result_of(items[0])))
    assert merged(tmp_path, items) == before


def test_damaged_files_are_made_again(
    tmp_path: Path, few_parts: None, caplog: pytest.LogCaptureFixture
) -> None:
    items = items_of(12)
    worker_of(tmp_path, items)[0].run()
    before = merged(tmp_path, items)
    path = tmp_path / "parts/000002.npz"
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 255
    path.write_bytes(content)
    with pytest.raises(UserError, match=r"2 of 12 videos have no prediction: '4.mp4', '5.mp4'"):
        merge(tmp_path, items, 2)
    assert "000002.npz: the part is made again" in caplog.text
    worker, asked = worker_of(tmp_path, items)
    worker.run()
    assert asked == ["4.mp4", "5.mp4"]
    assert merged(tmp_path, items) == before


def test_half_a_line_and_other_runs_are_no_rows(tmp_path: Path, few_parts: None) -> None:
    items = items_of(12)
    worker, _ = worker_of(tmp_path, items)
    with worker.parts.journal(1) as journal:
        journal.append(PartRow(result_of(items[2])))
    line = journal.path.read_text()
    other = line.replace(worker.parts.key, "of another run").replace("2.mp4", "3.mp4")
    journal.path.write_text(line + other + "[1]\n" + line.replace("2.mp4", "3.mp4")[:-30])
    assert list(worker.parts.rows(1, items[2:4])) == ["2.mp4"]
    worker, asked = worker_of(tmp_path, items)
    worker.run()
    assert "2.mp4" not in asked
    assert len(asked) == 11


def test_a_replaced_archive_and_a_video_at_an_address(tmp_path: Path, few_parts: None) -> None:
    """Answers of an archive's members are due again once it changes, those of addresses never."""
    archive = tmp_path / "clips.tar"
    archive.write_bytes(b"first")
    paths = [f"{archive}::a.mp4", f"{archive}::b.mp4", "https:/host/c.mp4"]
    items = [VideoItem(Path(path).name, 0, Path(path), row) for row, path in enumerate(paths, 1)]
    asked_in_turn = []
    for content in (b"first", b"first", b"second"):
        if archive.read_bytes() != content:
            archive.write_bytes(content)
        worker, asked = worker_of(tmp_path / "out", items)
        worker.run()
        asked_in_turn.append(asked)
    names = [item.name for item in items]
    assert asked_in_turn == [names, [], names[:2]]


def test_lists_that_change(tmp_path: Path, few_parts: None) -> None:
    items = items_of(12)
    worker_of(tmp_path, items)[0].run()
    with pytest.raises(UserError, match="1 parts are of videos that the list does not have"):
        merge(tmp_path, items[:10], 2)
    with pytest.raises(UserError, match=r"part 5 holds '11.mp4', which is not in rows 11 to 11"):
        merge(tmp_path, items[:11], 2)
    with pytest.raises(UserError, match="the list has changed; give another output folder"):
        worker_of(tmp_path, items[::-1])[0].run()
    with pytest.raises(UserError, match=r"2 of 14 videos have no prediction: '12.mp4', '13.mp4'"):
        merge(tmp_path, items_of(14), 2)
    worker, asked = worker_of(tmp_path, items_of(14))
    worker.run()
    assert asked == ["12.mp4", "13.mp4"], "a list may grow"
    assert merge(tmp_path, items_of(14), 2).num_rows == 14


def test_a_folder_without_a_layout_or_with_another_is_refused(tmp_path: Path) -> None:
    worker_of(tmp_path, items_of(3))
    (tmp_path / "parts/layout.json").write_text(json.dumps({"rows": 0}))
    with pytest.raises(
        UserError, match=r"layout.json: was not written by a prediction \(rows is 0\)"
    ):
        worker_of(tmp_path, items_of(3))
    shutil.rmtree(tmp_path / "parts")
    with pytest.raises(UserError, match="3 of 3 videos have no prediction"):
        merge(tmp_path, items_of(3), 2)


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ({"seed": 1, "versions": {}}, "models is missing"),
        ({**ABOUT, "class_names": 3}, "class_names is missing or of another kind"),
        ({**ABOUT, "class_names": [3]}, "class_names is"),
        ({**ABOUT, "models": ["a"]}, "models is"),
        ({**ABOUT, "labels": None}, "labels is"),
        ({**ABOUT, "mixture": []}, "mixture is"),
        ([], "not a JSON object"),
    ],
)
def test_the_folder_of_anything_else_is_refused(tmp_path: Path, content: object, said: str) -> None:
    """Such as that of a training, whose `run.json` has other keys."""
    (tmp_path / "run.json").write_text(json.dumps(content))
    for use in (lambda: parts.open_run(tmp_path, ABOUT), lambda: parts.read_about(tmp_path)):
        with pytest.raises(UserError, match=rf"was not written by a prediction \({said}"):
            use()


@pytest.mark.parametrize("name", ["predictions.csv", "timeline.csv"])
def test_a_table_of_the_user_is_not_replaced(tmp_path: Path, name: str) -> None:
    items = items_of(13)
    worker_of(tmp_path, items)[0].run()
    names = {path.name for path in merge(tmp_path, items, 2).files}
    assert name in names
    assert {path.name for path in merge(tmp_path, items, 3).files} == names
    (tmp_path / name).write_text("my table\n")
    (tmp_path / "predictions.npz").unlink()
    with pytest.raises(UserError, match=f"{name}: exists and was not written by a prediction"):
        merge(tmp_path, items, 2)
    assert (tmp_path / name).read_text() == "my table\n"
    assert not (tmp_path / "predictions.npz").exists()


def test_sizes_of_parts() -> None:
    found = []
    for count in (1, 512, 513, 1_000_000, 10_000_000):
        found.append(min(max(-(-count // parts.MOST_PARTS), 1), parts.MOST_ROWS))
    assert found == [1, 1, 2, 1954, 4096]


def test_a_run_is_of_one_judge_and_an_earlier_one_of_any(tmp_path: Path) -> None:
    judged = {**ABOUT, "judge": {"sure_from": 0.5, "basis": "calibrated"}}
    assert parts.open_run(tmp_path, judged) == parts.open_run(tmp_path, judged)
    with pytest.raises(UserError, match="of other models or settings"):
        parts.open_run(tmp_path, {**ABOUT, "judge": {"sure_from": None, "basis": "never"}})
    # Earlier versions did not tell it, and their folders go on under their own key.
    old = tmp_path / "old"
    old.mkdir()
    key = parts.open_run(old, ABOUT)
    assert parts.open_run(old, judged) == key == run_hash(ABOUT)
