"""`tools/report.py`: the page and the table of one run, mean and spread of several, errors in one line."""

from __future__ import annotations

import json
import re
import statistics
from pathlib import Path

import pytest

from nightcrawler.report.page import read_figures
from tests import tiny
from tests.paths import ROOT
from tests.report.made_run import Made, make

CLASSES, MODELS, NUM = ["climb", "dance", "kneel"], ["one", "two"], 30


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Lists alone: without videos a page has no pictures of them."""
    folder = tmp_path_factory.mktemp("data")
    rows = [(f"{number}.mp4", number % 3) for number in range(NUM)]
    tiny.write_rows(folder / "val_dry.csv", rows)
    tiny.write_rows(folder / "truth/test.csv", rows)
    for name in ("total_unlabel", "test"):
        tiny.write_rows(folder / f"{name}.csv", [(path, -1) for path, _ in rows])
    return folder


@pytest.fixture(scope="module")
def runs(data: Path, tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """The same recipe with three seeds."""
    folder = tmp_path_factory.mktemp("runs")
    return [
        make(Made(folder / f"seed{seed}", data, CLASSES, MODELS, control=["two"], seed=seed))
        for seed in range(3)
    ]


def cells(table: str, split: str, stage: str) -> list[str]:
    """The cells of a stage's row in a split's table."""
    _, _, below = table.partition(f"split {split},")
    row = re.search(rf"^{stage} .*$", below, re.MULTILINE)
    assert row is not None
    return re.split(r" {2,}", row[0])


def test_one_run(runs: list[Path], tmp_path: Path) -> None:
    page = tmp_path / "page.html"
    done = tiny.run_tool("report.py", str(runs[0]), "--out", str(page), "--table")
    assert done.returncode == 0, done.stderr
    assert page.read_text().startswith("<!doctype html>")
    figures = json.loads(page.with_suffix(".json").read_text())
    assert f"report: {page} (" in done.stdout
    test = next(one for one in figures["splits"] if one["split"] == "test")
    last, vote = test["stages"][-1], test["votes"][-1]
    ensemble = last["ensemble"]
    assert cells(done.stdout, "test", "round2") == [
        "round2",
        f"{last['mean']:.1f}",
        f"{last['models'][last['best']]['percent']:.1f}",
        f"{ensemble['percent']:.1f} [{ensemble['low']:.1f}, {ensemble['high']:.1f}]",
        f"{last['control']['two']['percent']:.1f}",
        f"{last['models']['two']['percent']:.1f}",
        "-",
    ]
    assert cells(done.stdout, "test", "arid_pred")[1].startswith(f"{vote['percent']:.1f} [")
    assert (
        "split test, seed 0, 30 clips, measured with hidden labels; nothing was chosen by them"
        in done.stdout
    )
    one = figures["pseudo"][-1]
    said = done.stdout[done.stdout.index("pseudo-labels of total_unlabel") :]
    assert re.search(rf"^round2 +{one['rows']} +{one['coverage']:.1f} +- +0$", said, re.MULTILINE)


def test_several_runs_have_mean_and_spread(runs: list[Path], tmp_path: Path) -> None:
    means, ensembles = [], []
    for run in runs:
        figures = read_figures(run, ROOT, {})
        stage = next(one for one in figures["splits"] if one["split"] == "test")["stages"][1]
        means.append(stage["mean"])
        ensembles.append(stage["ensemble"]["percent"])
    (tmp_path / "seed2.json").write_text(json.dumps(figures))
    done = tiny.run_tool("report.py", *map(str, runs[:2]), str(tmp_path / "seed2.json"), "--table")
    assert done.returncode == 0, done.stderr
    found = cells(done.stdout, "test", "round1")
    assert found[1] == f"{statistics.fmean(means):.1f} ± {statistics.stdev(means):.1f}"
    assert found[3] == f"{statistics.fmean(ensembles):.1f} ± {statistics.stdev(ensembles):.1f}"
    assert "seed 0, 1, 2" in done.stdout
    assert "report:" not in done.stdout


def test_a_run_that_lacks_a_figure_is_counted(runs: list[Path], data: Path, tmp_path: Path) -> None:
    half = make(Made(tmp_path / "half", data, CLASSES, MODELS, open_tasks=("test/round2", "vote")))
    done = tiny.run_tool("report.py", str(runs[0]), str(runs[1]), str(half))
    assert done.returncode == 0, done.stderr
    assert cells(done.stdout, "test", "round2")[1].endswith("(2)")
    assert "half: 7 of " in done.stdout


@pytest.mark.parametrize(
    ("argv", "said"),
    [
        (["{folder}"], "pipeline.json: no such file"),
        (["{run}", "{run}", "--out", "x.html"], "--out: a page is made of the folder of one run"),
        (["{run}", "--truth", "test"], "expected SPLIT=CSV"),
        (["{run}", "--truth", "test=nowhere.csv"], "no such file"),
        (["{folder}/none.json"], "none.json"),
        (["{run}", "{run}"], "a run is given twice"),
        (
            ["{run}", "--truth", "tset={data}/truth/test.csv"],
            "no clips of split 'tset', only of val_dry, test, total_unlabel",
        ),
        (["{run}", "{other}"], "its classes are not those of seed0: no mean of both"),
    ],
)
def test_errors_are_one_line(
    argv: list[str], said: str, runs: list[Path], data: Path, tmp_path: Path
) -> None:
    other = make(Made(tmp_path / "other", data, CLASSES[::-1], MODELS))
    places = {"folder": tmp_path, "run": runs[0], "data": data, "other": other}
    done = tiny.run_tool("report.py", *(text.format(**places) for text in argv))
    assert done.returncode == 2
    assert said in done.stderr
    assert done.stderr.startswith("error: ")
    assert done.stderr.count("\n") == 1
