"""What the runner reads from the logs of tasks: error lines, and accuracy as tasks tell it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from nightcrawler.engine.tester import describe
from nightcrawler.workflow.task_process import accuracy_told, error_line
from tests.paths import ROOT
from tests.pseudo.made import made


def test_accuracy_of_a_test_is_read_as_it_is_written(tmp_path: Path) -> None:
    predictions = made(40, 7)
    predictions.labels = np.arange(40) % 7
    told = describe(predictions)
    log = tmp_path / "log"
    log.write_text(f"[11/29 17:48:08] I out/val_dryx8x48x1x1.npz: {told} (label-free)\n")
    top1 = 100 * (predictions.probs.argmax(axis=1) == predictions.labels).mean()
    assert accuracy_told(log, 0) == f"top-1 {top1:.2f} % of 40 videos"


def test_accuracy_of_a_training_is_read_as_it_is_written(tmp_path: Path) -> None:
    source = (ROOT / "nightcrawler/cli/net.py").read_text()
    assert '"done: best top-1 %.2f %% %s"' in source
    assert "place = (\n        f\"on {best['split']} (epoch" in source
    log = tmp_path / "log"
    log.write_text(
        "[11/29 17:50:22] I val val_dark: top-1 11.00 %, of 22 videos\n"
        "[11/29 17:50:22] I done: best top-1 77.27 % on val_dark (epoch 2, label-free, seed 6666)\n"
        "[11/29 17:50:22] I next: nightcrawler test --cfg resolved.yaml\n"
    )
    assert accuracy_told(log, 0) == "top-1 77.27 % on val_dark"
    assert accuracy_told(log, log.stat().st_size) == ""


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("", "no output"),
        ("one\ntwo\n\n", "two"),
        ("error: a list is missing\nTraceback, of a library\n", "error: a list is missing"),
    ],
)
def test_the_error_line(tmp_path: Path, text: str, line: str) -> None:
    log = tmp_path / "log"
    log.write_text(f"error: of an earlier run\n{text}")
    assert error_line(log, len("error: of an earlier run\n")) == line
    assert accuracy_told(log, 0) == ""
