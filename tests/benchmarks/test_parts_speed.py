"""The benchmark of a large prediction goes through the real parts, whose rows are those it made."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from benchmarks.parts_speed import LIST, merge_parts, predict, write_list, write_shard
from nightcrawler.data.lists import VideoItem
from nightcrawler.pseudo.predictions import read_results


def test_rows_come_back_as_they_were_made(tmp_path: Path) -> None:
    write_list(tmp_path / LIST, 600)
    for index in range(2):
        assert min(write_shard(tmp_path, tmp_path / "out", 4, (index, 2))) > 0
    assert min(merge_parts(tmp_path, tmp_path / "out")) > 0
    found = read_results(tmp_path / "out/predictions.npz")
    names = (tmp_path / LIST).read_text().split()
    assert found.names == names
    items = [VideoItem(name, -1, Path(name), row) for row, name in enumerate(names, start=1)]
    probs = [result.probs for result in predict(items, 4)]
    np.testing.assert_array_equal(found.probs, np.float32(probs))
