"""`tools/predict.py` as a user meets it: tables and files, bad videos, watching, shards that are killed."""

from __future__ import annotations

import csv
import itertools
import json
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from nightcrawler.predict import long_video, shards
from nightcrawler.predict.trust import TRUST
from nightcrawler.pseudo.predictions import read_results
from nightcrawler.utils import command_line
from nightcrawler.utils.errors import UserError
from tests import tiny
from tests.paths import ROOT, shared
from tests.reading import read_file
from tests.waiting import wait_until

TOOL = str(ROOT / "tools/predict.py")
PATIENCE_SEC = 90


@pytest.fixture(scope="session")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny.build_data(tmp_path_factory.mktemp("data"))


@pytest.fixture(scope="session")
def model(data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a model trained for an epoch; read only."""
    out = tmp_path_factory.mktemp("model") / "run"
    assert tiny.run_net("train", data, out, "SOLVER.MAX_EPOCH", 1, "SOLVER.WARMUP_EPOCHS", 0.5) == 0
    return out


def predict(*argv: object) -> int:
    """The tool's exit code, errors being lines as in a process."""
    try:
        return command_line.run(tiny.load_tool("predict").main, [str(one) for one in argv])
    except SystemExit as stop:
        return int(stop.code or 0)


def start(*argv: object) -> subprocess.Popen[str]:
    command = [sys.executable, TOOL, *map(str, argv)]
    return subprocess.Popen(command, env=tiny.environment(), stdout=subprocess.PIPE, text=True)


def wait_for(condition: Callable[[], bool]) -> None:
    wait_until(condition, timeout=PATIENCE_SEC)


def rows_of(path: Path) -> list[list[str]]:
    with open(path, newline="") as file:
        return list(csv.reader(file))


def test_a_folder_with_a_bad_video(
    data: Path, model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = Path(shutil.copytree(data / "Test", tmp_path / "clips"))
    tiny.damage(folder / "bad.mp4")
    out = [
        ("--csv", tmp_path / "o.csv"),
        ("--json", tmp_path / "o.json"),
        ("--annotate", tmp_path / "shown"),
    ]
    assert predict(folder, "--experiment", model, "--top", 2, *sum(out, ())) == 3
    shown = capsys.readouterr()
    assert "Traceback" not in shown.err
    assert "bad.mp4  error: not a video that can be read" in shown.out
    header, *rows = rows_of(tmp_path / "o.csv")
    assert header == ["video", "status", "class_1", "probability_1", "class_2", "probability_2"]
    assert [row[0] for row in rows] == ["0.mp4", "1.mp4", "2.mp4", "bad.mp4"]
    assert rows[3][1].startswith("error: ")
    assert rows[3][2:] == ["", "", "", ""]
    content = json.loads((tmp_path / "o.json").read_text())
    assert content["about"]["labels"] == "label-free"
    for row, video in zip(rows[:3], content["videos"][:3], strict=True):
        assert row[2] == video["top"][0]["class"]
        assert float(row[3]) == pytest.approx(video["top"][0]["probability"])
        assert float(row[3]) >= float(row[5])
    written = sorted(path.name for path in (tmp_path / "shown").iterdir())
    assert written == ["0.mp4.annotated.mp4", "1.mp4.annotated.mp4", "2.mp4.annotated.mp4"]
    clip, source = (
        read_file(path, range).frames
        for path in (tmp_path / "shown" / written[0], folder / "0.mp4")
    )
    assert len(clip) == len(source)
    assert clip[:, : clip.shape[1] // 2].mean() > 2 * source.mean()  # lit


def test_a_long_video_has_a_timeline(data: Path, model: Path, tmp_path: Path) -> None:
    out = tmp_path / "t.csv"
    argv = (data / "Test/0.mp4", "--experiment", model, "--window-sec", 0.5, "--stride-sec", 0.25)
    assert predict(*argv, "--timeline", out, "--annotate", tmp_path / "shown") == 0
    header, *rows = rows_of(out)
    assert header == ["video", "start_sec", "end_sec", "class", "probability", "status"]
    assert {row[-1] for row in rows} <= set(TRUST)
    assert (float(rows[0][1]), float(rows[-1][2])) == (0.0, 1.0)
    assert all(
        before[2] == after[1] and before[3] != after[3]
        for before, after in itertools.pairwise(rows)
    )
    assert (tmp_path / "shown/0.mp4.annotated.mp4").is_file()


def test_a_damaged_recording_keeps_what_can_be_read(
    model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A frame at 55 of 60 seconds cannot be decoded, and so the rest of its group."""
    path = shared() / "cases/05-one-bad-frame-loses-a-recording/hit_at_55s.mp4"
    out = {
        kind: tmp_path / f"o.{kind}" for kind in ("csv", "json", "jsonl", "timeline", "annotate")
    }
    options = [part for kind, file in out.items() for part in (f"--{kind}", file)]
    assert predict(path, "--experiment", model, "--window-sec", 2, *options) == 3
    status = (
        "damaged: 0.8 s lost, 19 of 1440 frames (55.2 - 56.0 s): damaged (Invalid data found when "
        "processing input)"
    )
    assert status in capsys.readouterr().out
    (_, row) = rows_of(out["csv"])
    assert row[1] == status
    assert row[2] != ""
    _, *rows = rows_of(out["timeline"])
    assert {row[-1] for row in rows} == {status}
    assert float(rows[0][1]) == 0
    assert float(rows[-1][2]) == pytest.approx(60, abs=0.1)
    (video,) = json.loads(out["json"].read_text())["videos"]
    assert (video["status"], bool(video["top"])) == (status, True)
    assert json.loads(out["jsonl"].read_text())["status"] == status
    assert read_file(out["annotate"] / "hit_at_55s.mp4.annotated.mp4", range).num_frames == 1421
    parts = ("--out", tmp_path / "parts")
    assert predict(path, "--experiment", model, "--window-sec", 2, *parts) == 0
    assert predict("merge", *parts, path) == 3
    assert rows_of(tmp_path / "parts/predictions.csv")[1][1] == status


def test_a_file_played_as_a_camera(data: Path, model: Path, tmp_path: Path) -> None:
    lines = tmp_path / "live.jsonl"
    argv = (
        data / "Test/0.mp4",
        "--live",
        "--experiment",
        model,
        "--window-sec",
        0.4,
        "--stride-sec",
        0.2,
    )
    assert predict(*argv, "--jsonl", lines) == 0
    found = [json.loads(line) for line in lines.read_text().splitlines()]
    assert found
    assert all(
        one["end_sec"] - one["start_sec"] <= 0.4 + 1 / 12 and one["dropped_frames"] >= 0
        for one in found
    )


@pytest.mark.parametrize(
    ("argv", "said"),
    [
        (("nothing.mp4",), "nothing.mp4: no such file or folder"),
        (("http://u:secret@host/clip.mp4",), "http:// addresses are not read"),
        (("rtsp://127.0.0.1:1/x",), "no live source there"),
        (("--watch", "nowhere"), "nowhere: no such folder to watch"),
        (("a.mp4", "--window-sec", "0"), "expected a window above 0 s"),
        (("a.mp4", "--shard", "3/3", "--out", "o"), "expected i/N with i from 0 to N-1"),
        (("a.mp4", "--watch", "b"), "give either sources to predict, or --watch FOLDER"),
        (("a.mp4", "--views", "2"), "--views and --crops go together"),
        (("a.mp4", "--prefix", "x"), "--prefix needs --ensemble"),
        (("a.mp4", "--live", "--csv", "x.csv"), "never ends"),
        (("a.mp4", "--shard", "0/2"), "--shard needs --out"),
        (("a.mp4", "--workers", "1000000"), "--workers 1000000: expected 0 to 1024"),
        (("b.mp4", "--live"), "--live: no file b.mp4"),
        (("a.mp4", "--csv", "."), ".: is a folder, expected a file"),
        (("a.mp4", "--json", "a.mp4/x.json"), "a.mp4: is a file, expected a folder"),
        (("a.mp4", "--annotate", "a.mp4"), "a.mp4: is a file, expected a folder"),
        (("merge", "--out", "nowhere", "a.csv"), "no shard has run"),
    ],
)
def test_errors_are_one_line(
    model: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    argv: tuple[str, ...],
    said: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "a.mp4").touch()
    models = () if argv[0] == "merge" else ("--experiment", model)
    assert predict(*argv, *models) == (3 if argv[0].startswith("rtsp") else 2)
    shown = capsys.readouterr().err
    assert said in shown.splitlines()[-1]
    assert "Traceback" not in shown


def test_a_watched_folder(data: Path, model: Path, tmp_path: Path) -> None:
    """A file that grows is waited for; Ctrl-C ends it; what is done is not done again."""
    folder, lines, content = (
        tmp_path / "in",
        tmp_path / "found.jsonl",
        (data / "Test/0.mp4").read_bytes(),
    )
    folder.mkdir()
    (folder / "old.mp4").write_bytes(content)
    lines.write_text(json.dumps({"video": "old.mp4"}) + '\n{"video": "ha')
    process = start("--watch", folder, "--experiment", model, "--jsonl", lines)
    try:
        with open(folder / "slow.mp4", "wb") as file:
            for first in range(0, len(content), len(content) // 5 + 1):
                file.write(content[first : first + len(content) // 5 + 1])
                file.flush()
                time.sleep(0.7)  # a writer that is slow: nothing is waited for
        (folder / "bad.mp4").write_bytes(b"no video")
        wait_for(lambda: lines.read_text().count("\n") >= 4)
        process.send_signal(signal.SIGINT)
        assert process.wait(PATIENCE_SEC) == 3  # one was bad
    finally:
        process.kill()
    found = {
        one["video"]: one["status"] for one in map(json.loads, lines.read_text().splitlines()[2:])
    }
    assert set(found) == {"slow.mp4", "bad.mp4"}
    assert found["slow.mp4"] in TRUST
    assert found["bad.mp4"].startswith("error: ")


@pytest.fixture
def many(data: Path, tmp_path: Path) -> Path:
    """A list of 24 videos, one of them bad."""
    folder = tmp_path / "many"
    folder.mkdir()
    sources = sorted((data / "dark_train/Train").rglob("*.mp4"))
    for number in range(24):
        shutil.copy(sources[number % len(sources)], folder / f"{number}.mp4")
    tiny.damage(folder / "5.mp4")
    tiny.write_rows(folder / "list.csv", [(f"{number}.mp4", number % 11) for number in range(24)])
    return folder / "list.csv"


def merged(out: Path, many: Path) -> dict[str, bytes]:
    assert predict("merge", "--out", out, many) == 3
    return {path.name: path.read_bytes() for path in out.glob("predictions.*")}


def test_shards_that_are_killed_and_run_on_in_another_number(
    model: Path, many: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """One of three shards is killed; five shards do the rest; the result is that of one process, byte for byte."""
    out = tmp_path / "three"
    processes = [
        start(many, "--experiment", model, "--out", out, "--shard", f"{index}/3")
        for index in range(3)
    ]
    wait_for(lambda: any(out.glob("parts/*.npz")))
    processes[0].kill()
    assert [shard.wait(PATIENCE_SEC) for shard in processes[1:]] == [0, 0]
    processes[0].wait()
    # Where the kill came too late, as if it had not: with what a process leaves that is killed
    # while it writes.
    part = out / "parts/000021.npz"
    part.unlink()
    (part.parent / f".{part.name}.x.tmp").write_text("{")
    (part.parent / f"000021.{'0' * 32}.jsonl").write_text('{"run')
    assert predict("merge", "--out", out, many) == 2
    assert "1 of 24 videos have no prediction: '21.mp4'" in capsys.readouterr().err
    before = {path: path.stat().st_mtime_ns for path in (out / "parts").glob("*.npz")}
    # A file that could not be opened is tried again: its disk may have been away.
    before.pop(out / "parts/000005.npz")
    for index in range(5):
        assert predict(many, "--experiment", model, "--out", out, "--shard", f"{index}/5") == 0
    assert all(path.stat().st_mtime_ns == changed for path, changed in before.items())
    assert predict(many, "--experiment", model, "--out", tmp_path / "one") == 0
    files = merged(out, many)
    assert set(files) == {"predictions.csv", "predictions.npz"}
    assert files == merged(tmp_path / "one", many)
    results = read_results(out / "predictions.npz")
    assert results.names == [f"{number}.mp4" for number in range(24)]
    assert np.flatnonzero(~results.ok).tolist() == [5]
    assert results.labels.tolist() == [number % 11 for number in range(24)]
    assert results.meta["labels"] == "label-free"


def test_a_set_that_is_killed_is_taken_up_by_the_same_command(
    model: Path, many: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """The outputs are those of one run, and answers that were there are not made again."""
    files = {kind: tmp_path / f"o.{kind}" for kind in ("csv", "json", "jsonl", "timeline")}
    argv = [many, "--experiment", model]
    argv += [part for kind, path in files.items() for part in (f"--{kind}", path)]
    process = start(*argv)
    partial = tmp_path / "o.csv.partial.jsonl"
    wait_for(lambda: partial.is_file() and partial.read_bytes().count(b"\n") >= 3)
    process.kill()
    process.wait()
    num_before = partial.read_bytes().count(b"\n")
    assert num_before < 24, "killed in time"
    assert not files["csv"].exists()
    assert predict(*argv) == 3
    assert "of 24 videos were predicted before" in caplog.text
    assert not partial.exists()
    found = [json.loads(line)["video"] for line in files["jsonl"].read_text().splitlines()]
    # The bad video is tried again, and the answer that the kill came in between of.
    assert set(found) == {f"{number}.mp4" for number in range(24)}
    assert len(found) <= 24 + 2
    once = {kind: tmp_path / f"once.{kind}" for kind in ("csv", "json", "timeline")}
    argv = [many, "--experiment", model]
    assert (
        predict(*argv, *[part for kind, path in once.items() for part in (f"--{kind}", path)]) == 3
    )
    for kind, path in once.items():
        assert files[kind].read_bytes() == path.read_bytes()


def test_a_merge_proves_that_all_is_there_once(
    model: Path, many: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    assert predict(many, "--experiment", model, "--out", out) == 0
    shorter = many.with_name("shorter.csv")
    shorter.write_text("".join(many.read_text().splitlines(keepends=True)[:-1]))
    assert predict("merge", "--out", out, shorter) == 2
    assert "1 parts are of videos that the list does not have" in capsys.readouterr().err
    assert predict(many, "--experiment", model, "--out", out, "--bright") == 2
    assert "is of other models or settings" in capsys.readouterr().err
    part = out / "parts/000003.npz"
    part.write_bytes(part.read_bytes().replace(b"run.npy", b"ran.npy"))
    assert predict("merge", "--out", out, many) == 2
    assert "1 of 24 videos have no prediction: '3.mp4'" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("env", "shard"),
    [
        ({"RANK": "2", "WORLD_SIZE": "4"}, (2, 4)),
        (
            {
                "SLURM_ARRAY_TASK_ID": "7",
                "SLURM_ARRAY_TASK_COUNT": "3",
                "SLURM_ARRAY_TASK_MIN": "5",
            },
            (2, 3),
        ),
        ({"SLURM_PROCID": "0", "SLURM_NTASKS": "2"}, (0, 2)),
    ],
)
def test_launchers_say_which_shard_this_is(env: dict[str, str], shard: tuple[int, int]) -> None:
    assert shards.parse_shard("env", env) == shard


@pytest.mark.parametrize("text", ["", "1", "2/2", "-1/2", "a/b", "0/0", "1/2/3", "env"])
def test_shards_that_cannot_be(text: str) -> None:
    with pytest.raises(UserError, match="shard"):
        shards.parse_shard(text, {})


def test_long_videos_have_a_timeline_by_themselves_and_short_ones_do_not(
    data: Path, model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, second = data / "Test/1.mp4", data / "Test/2.mp4"
    lines = tmp_path / "lines.jsonl"
    argv = (first, second, "--experiment", model, "--jsonl", lines)
    assert predict(*argv) == 0
    monkeypatch.setattr("nightcrawler.predict.items.LONG_SEC", 0.5)
    monkeypatch.setattr("nightcrawler.predict.items.LONG_WINDOW", (0.4, 0.2))
    assert predict(*argv) == 0
    assert predict(*argv, "--whole") == 0
    found = [json.loads(line) for line in lines.read_text().splitlines()]
    assert [one["video"] for one in found] == ["1.mp4", "2.mp4"] * 3
    assert [bool(one["timeline"]) for one in found] == [False] * 2 + [True] * 2 + [False] * 2


def test_a_timeline_and_a_stride_need_no_window(
    data: Path, model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Clips of a second: whole ones are one segment, those called long have a window every 0.1 s."""
    out = tmp_path / "t.csv"
    argv = (data / "Test/1.mp4", data / "Test/2.mp4", "--experiment", model, "--timeline", out)
    assert predict(*argv) == 0
    assert [row[:3] for row in rows_of(out)[1:]] == [
        ["1.mp4", "0.000", "1.000"],
        ["2.mp4", "0.000", "1.000"],
    ]
    monkeypatch.setattr("nightcrawler.predict.items.LONG_SEC", 0.5)
    monkeypatch.setattr("nightcrawler.predict.items.LONG_WINDOW", (0.4, 0.2))
    asked: list[tuple[float, float]] = []
    plain = long_video.predict_long_video

    def noted(model: object, item: object, window: float, stride: float, show: object) -> object:
        asked.append((window, stride))
        return plain(model, item, window, stride, show)

    monkeypatch.setattr(long_video, "predict_long_video", noted)
    assert predict(*argv, "--stride-sec", 0.1) == 0
    assert asked == [(0.4, 0.1)] * 2
    assert float(rows_of(out)[-1][2]) == 1
    assert predict(*argv[:-2], "--stride-sec", 0.5) == 2
    assert predict(*argv[:-2], "--stride-sec", 0.1, "--whole") == 2
    assert predict(*argv[:-2], "--stride-sec", 0.1, "--out", tmp_path / "o") == 2
