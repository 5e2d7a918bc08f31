"""The count of functions on a sample's way sees the package's functions within a batch, and no others."""

from __future__ import annotations

import sys
from pathlib import Path

from torch.utils.data import DataLoader, Dataset

from benchmarks.hops import CallRecorder, describe

CODE = """
def outer():
    return [inner(value) for value in range(2)]

def inner(value):
    return value

def step():
    return (lambda: 1)()

def unused():
    return 1
"""


class Clips(Dataset[int]):
    """Calls a function of a made package for each sample."""

    def __init__(self, call: object) -> None:
        self.call = call

    def __len__(self) -> int:
        return 4

    def __getitem__(self, index: int) -> int:
        self.call()  # type: ignore[operator]  # a function of made code
        return index


def test_functions_of_the_first_batch_and_the_step_are_told_apart(tmp_path: Path) -> None:
    names: dict[str, object] = {}
    path = tmp_path / "package" / "module.py"
    exec(compile(CODE, str(path), "exec"), names)
    recorder = CallRecorder(path.parent)
    names["unused"]()  # type: ignore[operator]
    with recorder.recording():
        names["unused"]()  # type: ignore[operator]
        for _ in DataLoader(Clips(names["outer"]), batch_size=2):
            names["step"]()  # type: ignore[operator]
    assert sys.getprofile() is None
    assert recorder.in_sample == {("module.py", "outer"), ("module.py", "inner")}
    assert recorder.in_step == {("module.py", "step")}
    assert recorder.in_all == recorder.in_sample | recorder.in_step
    assert describe("sample", recorder.in_sample) == "sample: 2 functions in 1 files"
