"""Count the functions and files of the package that a training sample and a test row pass through.

`python -m benchmarks.hops` trains and tests a small model on synthetic clips, in this process and
through the command line, so that it does not depend on the names of inner functions. To count in
another version of the package, run this file with that version on PYTHONPATH:
`PYTHONPATH=OTHER python benchmarks/hops.py`.
"""

from __future__ import annotations

import contextlib
import importlib.util
import io
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from types import CodeType
from typing import Any

PACKAGE = "nightcrawler"
EXPERIMENT = "exp_adapt_bn/sf32_k700/config.yaml"
# One process without workers, so that all calls are seen. The model starts from random weights.
OVERRIDES = (
    *("DATA_LOADER.NUM_WORKERS", 0),
    *("DATA.CACHE", "none"),
    *("TRAIN.BATCH_SIZE", 2),
    *("TRAIN.MICRO_BATCH", 0),
    *("TRAIN.CHECKPOINT_FILE_PATH", ""),
    *("SOLVER.MAX_EPOCH", 1),
    *("SOLVER.WARMUP_EPOCHS", 0),
)
# Names given to code that belongs to a function already counted.
INNER = ("<lambda>", "<listcomp>", "<setcomp>", "<dictcomp>", "<genexpr>", "<module>")

Place = tuple[str, str]


class CallRecorder:
    """Record of the package's functions that are called, from the first sample on.

    A sample begins and ends with torch's fetcher, which calls the dataset for each index and then
    the collate function. That holds for every version of the package.

    Args:
        root: folder of the package.
    """

    def __init__(self, root: Path) -> None:
        self._root = f"{root}/"
        # Functions within the first fetch, and from the first fetch to the end.
        self.in_sample: set[Place] = set()
        self.in_all: set[Place] = set()
        # Functions between the first fetch and the second.
        self.in_step: set[Place] = set()
        # A worker process would hide its calls, so the loader must have none.
        self._num_fetches = 0
        self._is_fetching = False

    def place_of(self, code: CodeType) -> Place | None:
        """Return file and function, or `None` for code outside the package."""
        if not code.co_filename.startswith(self._root) or code.co_name in INNER:
            return None
        return code.co_filename.removeprefix(self._root), code.co_qualname

    def __call__(self, frame: Any, event: str, argument: Any) -> None:
        """Take an event of `sys.setprofile`."""
        # Building the model and the loaders is no part of a sample's way.
        if event != "call" or not self._num_fetches:
            return
        place = self.place_of(frame.f_code)
        if place is None:
            return
        # Sets count a function once, however often a sample calls it.
        self.in_all.add(place)
        if self._num_fetches == 1:
            (self.in_sample if self._is_fetching else self.in_step).add(place)

    @contextlib.contextmanager
    def recording(self) -> Iterator[None]:
        """Record the calls within the block."""
        from torch.utils.data._utils.fetch import _MapDatasetFetcher

        original = _MapDatasetFetcher.fetch
        recorder = self

        def fetch(self: Any, index: Any) -> Any:
            """Note the begin and the end of a batch."""
            recorder._num_fetches += 1
            recorder._is_fetching = True
            try:
                return original(self, index)
            finally:
                recorder._is_fetching = False

        setattr(_MapDatasetFetcher, "fetch", fetch)  # noqa: B010
        sys.setprofile(self)
        try:
            yield
        finally:
            sys.setprofile(None)
            setattr(_MapDatasetFetcher, "fetch", original)  # noqa: B010


def find_command() -> Callable[[Sequence[str]], int | None]:
    """Return the main function that trains and tests, of this version or of 0.1."""
    try:
        from nightcrawler.cli.net import main
    except ImportError:
        import nightcrawler

        # Version 0.1 has the command in a script.
        root = Path(str(nightcrawler.__file__)).parents[1]
        spec = importlib.util.spec_from_file_location("run_net", root / "tools/run_net.py")
        assert spec is not None
        assert spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        main = module.main
    return main


def record(task: str, argv: Sequence[str]) -> CallRecorder:
    """Run a task in this process and return its calls.

    Args:
        task: `train` or `test`.
        argv: further arguments of the command.
    """
    import nightcrawler

    recorder = CallRecorder(Path(str(nightcrawler.__file__)).parent)
    main = find_command()
    # The log lines of the run are of no interest here.
    with contextlib.redirect_stdout(io.StringIO()), recorder.recording():
        code = main([task, *argv])
    if code:
        raise SystemExit(f"error: the {task} run ended with exit code {code}")
    return recorder


def make_arguments(folder: Path) -> list[str]:
    """Render clips in a folder and return the arguments of a run on them."""
    import nightcrawler

    root = Path(str(nightcrawler.__file__)).parents[1]
    # The published command, because the renderer's functions were renamed.
    data = folder / "data"
    command = [sys.executable, str(root / "tools/make_synthetic.py"), "--out", str(data)]
    for part in ("train", "val", "unlabel", "arid", "test"):
        command += [f"--{part}", "1"]
    subprocess.run(command, check=True, capture_output=True)
    settings = [*OVERRIDES, "DATA.PATH_PREFIX", data, "OUTPUT_DIR", folder / "out"]
    start = ["--cfg", str(root / EXPERIMENT), "--overlay", str(root / "configs/demo.yaml")]
    return [*start, *map(str, settings)]


def describe(title: str, places: set[Place]) -> str:
    """Return the numbers of functions and files in words."""
    files = {file for file, _ in places}
    return f"{title}: {len(places)} functions in {len(files)} files"


def main(argv: Sequence[str]) -> int:
    """Print the counts, and with `--list` the functions."""
    # The test starts from the checkpoint that the training leaves.
    with tempfile.TemporaryDirectory() as folder:
        arguments = make_arguments(Path(folder))
        training = record("train", arguments)
        test = record("test", [*arguments, "TEST.DATA_SELECT", "test"])
    counts = {
        "training sample, from file to batch": training.in_sample,
        "training step after it": training.in_step,
        "test row, from file to results file": test.in_all,
    }
    for title, places in counts.items():
        print(describe(title, places))
        if "--list" in argv:
            for file, name in sorted(places):
                print(f"  {file}: {name}")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
