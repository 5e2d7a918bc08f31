"""Models, splits, enhancements, adapters and losses of the user's own, named in a configuration."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from nightcrawler.config.load import load_experiment
from nightcrawler.config.node import changed_from_defaults, config_hash, dump, get_cfg
from nightcrawler.utils.errors import ConfigError
from tests import tiny
from tests.paths import ROOT

OWN = '''
"""A model, an enhancement, an adapter, a loss and a split of the user's own."""
import functools

import numpy as np
from torch import nn

from nightcrawler.adapt.base import NoAdapter
from nightcrawler.data.splits import SPLITS
from nightcrawler.utils.registries import ADAPTERS, ENHANCEMENTS, LOSSES, MODELS

SPLITS["own_split"] = ("val_dry.csv", ("dry_run/Validation",), False)


class OwnNet(nn.Module):
    def __init__(self, num_classes):
        super().__init__()
        self.stem = nn.Sequential(nn.Conv3d(3, 4, 3, stride=4), nn.BatchNorm3d(4), nn.ReLU())
        self.head = nn.Linear(4, num_classes)

    def forward(self, clips):
        return self.head(self.stem(clips).mean(dim=(2, 3, 4)))


@MODELS.register("own_net", "three layers")
def build_own_net(cfg):
    return OwnNet(cfg.MODEL.NUM_CLASSES)


def own_curve(frames):
    return np.uint8(255) - frames


@ENHANCEMENTS.register("own_curve")
def build_own_curve(params):
    return own_curve


@ADAPTERS.register("own_adapter")
def build_own_adapter(cfg):
    return NoAdapter()


def own_loss(logits, target, temperature):
    return temperature * ((logits.softmax(dim=1) - target) ** 2).sum(dim=1).mean()


@LOSSES.register("own_loss")
def build_own_loss(temperature):
    return functools.partial(own_loss, temperature=temperature)
'''
NAMES = {
    "MODEL.NAME": "own_net",
    "ENHANCE.VAL": "own_curve",
    "ADAPT.NAME": "own_adapter",
    "MODEL.PSEUDO_LOSS": "own_loss",
    "MODEL.PSEUDO_TEMPERATURE": "2",
    "DATA.PSEUDO_CSV": "p.csv",
}
OVERRIDES = [item for pair in NAMES.items() for item in pair]


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A folder with the module `own_models.everything` and an empty experiment."""
    (tmp_path / "own_models").mkdir()
    (tmp_path / "own_models" / "__init__.py").touch()
    (tmp_path / "own_models" / "everything.py").write_text(OWN)
    (tmp_path / "exp.yaml").touch()
    return tmp_path


def run_python(
    folder: Path, program: str, *arguments: str, path: str = ""
) -> subprocess.CompletedProcess[str]:
    """A program in a process of its own, started in a folder.

    It lies outside the folder, so that Python itself does not put the folder on `sys.path`.
    """
    script = folder.parent / f"{folder.name}_program.py"
    script.write_text(program)
    search = os.pathsep.join(filter(None, (str(ROOT), path)))
    return subprocess.run(
        [sys.executable, str(script), *arguments],
        cwd=folder,
        env=tiny.environment(PYTHONPATH=search),
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


def fault(folder: Path, *overrides: str) -> str:
    with pytest.raises(ConfigError) as caught:
        load_experiment(folder / "exp.yaml", (), overrides)
    return str(caught.value)


LOAD = """
import sys
from nightcrawler.config.load import load_experiment
cfg = load_experiment("exp.yaml", (), sys.argv[1:])
assert "torch" in sys.modules or not cfg.IMPORTS
"""


def test_names_of_the_users_own_module_are_known(project: Path) -> None:
    done = run_python(project, LOAD, "IMPORTS", "own_models.everything", *OVERRIDES)
    assert done.stderr == ""
    unknown = run_python(project, LOAD, *OVERRIDES)
    for key in ("MODEL.NAME", "ENHANCE.VAL", "ADAPT.NAME", "MODEL.PSEUDO_LOSS"):
        assert f"command line: {key}: unknown " in unknown.stderr


BUILD = """
import sys, multiprocessing
import numpy as np
from nightcrawler.config.load import load_experiment

def main():
    from nightcrawler.adapt.build import build_adapter
    from nightcrawler.data.lowlight.enhance.build import build_phase_enhancement
    from nightcrawler.data.splits import get_split
    from nightcrawler.models.build import build_model
    from nightcrawler.utils.registries import LOSSES

    cfg = load_experiment("exp.yaml", (), sys.argv[1:])
    print(type(build_model(cfg)).__name__, type(build_adapter(cfg)).__name__)
    print(LOSSES.get(cfg.MODEL.PSEUDO_LOSS)(2.0).keywords)
    print(get_split("own_split", "data").dark)
    enhance = build_phase_enhancement(cfg, "VAL", True)
    frames = np.full((2, 4, 4, 3), 250, np.uint8)
    # As a loader's worker gets it: pickled, into a process that has imported nothing.
    for method in ("fork", "spawn", "forkserver"):
        with multiprocessing.get_context(method).Pool(1) as pool:
            print(method, int(pool.apply(enhance, (frames,)).max()))

if __name__ == "__main__":
    main()
"""


def test_they_are_built_and_reach_loader_workers(project: Path) -> None:
    done = run_python(project, BUILD, "IMPORTS", "[own_models.everything]", *OVERRIDES)
    assert done.stderr == ""
    assert done.stdout.splitlines() == [
        "OwnNet NoAdapter",
        "{'temperature': 2.0}",
        "False",
        "fork 5",
        "spawn 5",
        "forkserver 5",
    ]


def test_a_training_its_test_and_its_checkpoint_know_them(project: Path) -> None:
    """The second and third process find the module by the key that the first one wrote."""
    data = tiny.build_data(project / "data")
    out = project / "run"
    own = ["IMPORTS", "own_models.everything", "MODEL.NAME", "own_net"]
    phases = [f"ENHANCE.{phase}" for phase in ("ADAPT", "VAL", "TEST")]
    own += [item for phase in phases for item in (phase, "own_curve")]
    shrunk = tiny.arguments(data, out, *own, "SOLVER.MAX_EPOCH", 1, "SOLVER.WARMUP_EPOCHS", 0)
    environment = {"PYTHONPATH": os.pathsep.join((str(ROOT), str(project)))}
    workers = ["DATA_LOADER.NUM_WORKERS", "1"]
    done = tiny.run_tool(
        "run_net.py", "train", *shrunk, "TRAIN.CHECKPOINT_FILE_PATH", "", *workers, **environment
    )
    assert done.returncode == 0, done.stderr + done.stdout
    tested = tiny.run_tool(
        "run_net.py", "test", *shrunk, *workers, "TEST.DATA_SELECT", "own_split", **environment
    )
    assert tested.returncode == 0, tested.stderr + tested.stdout
    assert list(out.rglob("own_splitx*.npz"))
    clip = str(next((data / "Test").glob("*.mp4")))
    model = ["--experiment", str(out / "best.pyth")]
    allowed = ["--imports", "own_models.everything"]
    predicted = tiny.run_tool("predict.py", clip, *model, *allowed, **environment)
    assert predicted.returncode == 0, predicted.stderr + predicted.stdout
    # A checkpoint may come from anyone: it imports nothing that the user does not name.
    refused = tiny.run_tool("predict.py", clip, *model, **environment)
    assert refused.returncode == 2
    assert "give --imports own_models.everything" in refused.stderr
    without = tiny.run_tool(
        "predict.py",
        clip,
        *model,
        *allowed,
        PYTHONPATH=str(ROOT),
    )
    assert without.returncode == 2
    assert "imports: no module named 'own_models': start in the folder" in without.stderr
    assert len(without.stderr.splitlines()) == 1


@pytest.mark.parametrize(
    ("value", "said"),
    [
        ("absent_module", "IMPORTS: no module named 'absent_module': start in the folder"),
        ("own_models.absent", "no module named 'own_models.absent'"),
        ("own_models/everything.py", "'own_models/everything.py' is no module name"),
        ("''", "'' is no module name"),
        ("own_models.broken", "importing 'own_models.broken' failed: ZeroDivisionError: "),
        ("own_models.lacking", "importing 'own_models.lacking' failed: ModuleNotFoundError: "),
        ("own_models.ending", "importing 'own_models.ending' failed: SystemExit: 3"),
        ("own_models.taking", "'uniformer' is registered twice: by nightcrawler.models.build:"),
    ],
)
def test_a_module_that_cannot_be_imported_is_a_fault_of_one_line(
    project: Path, monkeypatch: pytest.MonkeyPatch, value: str, said: str
) -> None:
    folder = project / "own_models"
    (folder / "broken.py").write_text("1 / 0\n")
    (folder / "lacking.py").write_text("import absent_library\n")
    (folder / "ending.py").write_text("raise SystemExit(3)\n")
    (folder / "taking.py").write_text(
        "from nightcrawler.utils.registries import MODELS\nMODELS.register('uniformer')(dict)\n"
    )
    monkeypatch.chdir(project)
    monkeypatch.setattr(sys, "path", list(sys.path))
    monkeypatch.delitem(sys.modules, "own_models", raising=False)
    message = fault(project, "IMPORTS", value)
    assert message.startswith("command line: IMPORTS: ")
    assert said in message
    assert len(message.splitlines()) == 1
    monkeypatch.delitem(sys.modules, "own_models", raising=False)


def test_the_key_is_dumped_and_changes_the_hash_only_if_set(project: Path) -> None:
    cfg = get_cfg()
    # What version 0.1 did.
    cfg.DATA.COLOR = "published"
    # Hash of the defaults before the key was there.
    assert config_hash(cfg) == "4b262a1d6efb98b4"
    assert "IMPORTS: []" in dump(cfg)
    cfg.IMPORTS = ["math"]
    assert config_hash(cfg) != "4b262a1d6efb98b4"
    loaded = load_experiment(project / "exp.yaml", (), ["IMPORTS", "[math, json]"])
    assert changed_from_defaults(loaded) == {"IMPORTS": ["math", "json"]}


def plugin(folder: Path, text: str) -> str:
    """Install a distribution with an entry point into a folder; returns the folder."""
    information = folder / "own_plugin-1.0.dist-info"
    information.mkdir(parents=True)
    (information / "METADATA").write_text("Metadata-Version: 2.1\nName: own-plugin\nVersion: 1.0\n")
    (information / "entry_points.txt").write_text(
        "[nightcrawler.plugins]\neverything = own_plugin\n"
    )
    (folder / "own_plugin.py").write_text(text)
    return str(folder)


def test_installed_plugins_register_names(project: Path, tmp_path: Path) -> None:
    site = plugin(tmp_path / "site", OWN)
    done = run_python(project, LOAD, *OVERRIDES, path=site)
    assert done.stderr == ""


def test_a_broken_plugin_is_named_with_its_distribution(project: Path, tmp_path: Path) -> None:
    site = plugin(tmp_path / "site", "import absent_library\n")
    done = run_python(project, LOAD, path=site)
    last = done.stderr.splitlines()[-1]
    assert "plugin 'everything' (own_plugin) of own-plugin cannot be imported" in last
    assert "No module named 'absent_library'; mend or uninstall it" in last
