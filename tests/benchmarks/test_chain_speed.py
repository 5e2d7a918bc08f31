"""The benchmark's chain is the real one: other orders of rows give the same rows, and they are right."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from benchmarks.chain_speed import OUTPUTS, run_chain, same_rows, write_models
from nightcrawler.pseudo.predictions import read_results
from nightcrawler.pseudo.submission import read_submission


def test_the_order_of_rows_changes_nothing(tmp_path: Path) -> None:
    outs = [tmp_path / "in_order", tmp_path / "shuffled"]
    for seed, out in enumerate(outs):
        out.mkdir()
        found = run_chain(write_models(out, 500, 4, 3, seed), out)
        assert found["peak_gib"] > 0
        assert min(found.values()) >= 0
    first = [read_results(out / "model0.pkl").names for out in outs]
    assert first[0] != first[1]
    assert sorted(first[0]) == sorted(first[1])
    assert all(same_rows(outs[0] / name, outs[1] / name) for name in OUTPUTS)
    # Models that know the truth by two units of logit, mixed, are right more often than any alone.
    truth = np.random.default_rng(0).integers(4, size=500)
    voted = read_submission(outs[0] / "arid_pred.csv").labels
    alone = read_results(outs[0] / "model0.pkl").logits.argmax(axis=1)
    assert (voted == truth).mean() > (alone == truth).mean() > 0.5


def test_rows_that_differ_are_told(tmp_path: Path) -> None:
    for name, label in (("a", 1), ("b", 2)):
        (tmp_path / name).mkdir()
        (tmp_path / name / "stage.csv").write_text(f"x.mp4,{label},0.5\n")
    assert not same_rows(tmp_path / "a" / "stage.csv", tmp_path / "b" / "stage.csv")
