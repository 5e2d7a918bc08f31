from __future__ import annotations

import gc
import subprocess
import sys
import weakref
from collections.abc import Iterator
from pathlib import Path

import pytest

from nightcrawler.utils.collector import collector_paused
from tests import tiny
from tests.paths import ROOT


class _Node:
    """An object that a cycle holds."""

    def __init__(self) -> None:
        self.me = self


@pytest.fixture(autouse=True)
def _thaw() -> Iterator[None]:
    yield
    gc.unfreeze()
    gc.enable()


def test_the_collector_pauses_and_goes_on() -> None:
    with collector_paused():
        assert not gc.isenabled()
    assert gc.isenabled()
    gc.disable()
    with collector_paused():
        pass
    # A caller that collects by itself goes on doing so.
    assert not gc.isenabled()


def test_the_collector_goes_on_after_a_failed_import() -> None:
    with pytest.raises(ModuleNotFoundError), collector_paused():
        import nightcrawler.no_such_module  # noqa: F401
    assert gc.isenabled()


def test_objects_made_later_are_collected() -> None:
    with collector_paused():
        early = weakref.ref(_Node())
    late = weakref.ref(_Node())
    gc.collect()
    assert early() is not None
    assert late() is None


# Runs a command, and tells whether the collector was on when its heavy module was found, and after.
PROGRAM = """
import gc, sys
from nightcrawler.cli.main import main
enabled = []
class Watch:
    def find_spec(self, name, path=None, target=None):
        if name == sys.argv[1]:
            enabled.append(gc.isenabled())
sys.meta_path.insert(0, Watch())
main(sys.argv[2:])
# Modules are looked for before, to tell which are missing.
print("collector", enabled[-1], gc.isenabled(), gc.get_freeze_count() > 100_000)
"""
CONFIG = "exp_adapt_bn/uniformer_b32_k600/config.yaml"
TRAIN = ["train", "--cfg", CONFIG, "TRAIN.CHECKPOINT_FILE_PATH", "none", "OUTPUT_DIR"]


@pytest.mark.parametrize(
    ("module", "words"),
    [
        ("torch", ["test", "--cfg", CONFIG, "OUTPUT_DIR"]),
        ("nightcrawler.engine.tester", ["test", "--cfg", CONFIG, "OUTPUT_DIR"]),
        ("torch", TRAIN),
        ("torch._dynamo", TRAIN),
        ("torch", ["predict", CONFIG, "--experiment"]),
        ("torch", ["export"]),
    ],
)
def test_commands_import_with_the_collector_paused(
    module: str, words: list[str], tmp_path: Path
) -> None:
    command = [sys.executable, "-c", PROGRAM, module, *words, str(tmp_path / "empty")]
    environment = tiny.environment(PYTHONPATH=str(ROOT))
    process = subprocess.run(
        command, capture_output=True, text=True, env=environment, cwd=ROOT, timeout=120, check=False
    )
    # The command itself ends with an error: there are no weights.
    assert "error: " in process.stderr
    assert process.stdout.splitlines()[-1] == "collector False True True"
