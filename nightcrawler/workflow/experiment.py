"""An experiment of the chain: its configuration as it will be run, and the plain values that links need of it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from fvcore.common.config import CfgNode

from nightcrawler.config.needs import NEEDS, enhancements
from nightcrawler.config.node import config_hash, flatten, get_cfg, load_experiment
from nightcrawler.data.lowlight.camera import PRESETS
from nightcrawler.data.splits import get_split
from nightcrawler.pseudo.results_files import results_name, split_use

BEST = "best.pyth"
# Keys that say where and how fast a run computes, not what (those of nightcrawler/engine/build.py; a test holds both
# against each other: this module does without torch).
MACHINE_KEYS = (
    *(
        "OUTPUT_DIR",
        "DEVICE",
        "NUM_GPUS",
        "NUM_SHARDS",
        "DIST_BACKEND",
        "DIST_TIMEOUT_SEC",
        "NUM_THREADS",
    ),
    *("AUG.DEVICE", "LOG_PERIOD", "TENSORBOARD", "DATA_LOADER", "DATA.PATH_PREFIX", "TEST"),
    *("TRAIN.KEEP_LAST", "TRAIN.MAX_FAILED_SAVES"),
)
# Files that other links write: what they hold counts, not where they are.
LINKED_KEYS = ("TRAIN.CHECKPOINT_FILE_PATH", "DATA.PSEUDO_CSV")
# What a link says of the test, or what only its speed depends on.
TEST_KEYS = (
    "TEST.DATA_SELECT",
    "TEST.NUM_ENSEMBLE_VIEWS",
    "TEST.NUM_SPATIAL_CROPS",
    "TEST.BATCH_SIZE",
)
# Keys that are errors without pseudo-labels.
PSEUDO_KEYS = tuple(key for key, (condition, _) in NEEDS.items() if "PSEUDO" in condition)


@dataclass(frozen=True)
class Experiment:
    """A training and what is tested of it.

    Attributes:
        files: configuration files: the experiment's, then overlays.
        settings: `KEY VALUE` overrides, flat.
        start: checkpoint that it starts from, or name of weights; empty: none.
        pseudo_csv: pseudo-labels, as the configuration names them; empty: none.
        prefix: data folder.
        lists: split to list file, of all that a training reads.
        camera: name to file, of what night cameras are fitted to or read from.
        darkens: whether training clips pass through night cameras.
        lighting: name to file, of what enhancements read.
        train_split: of its labelled clips.
        labels: whether what it learns from and what picks its checkpoint is label-free or an oracle's.
        num_frames: frames of a test clip, for the names of results files.
        crop_size: side of a test crop in pixels, for the same.
        gammas: gammas of dark splits, for the same; empty without `TEST.GAMMAS`.
        class_names: in index order.
        train_signature, test_signature: hashes of the keys that a training or a test depends on.
        run_hash: the hash that a run of it writes into `run.json`.
    """

    files: tuple[Path, ...]
    settings: tuple[str, ...]
    start: str
    pseudo_csv: str
    prefix: Path
    lists: dict[str, Path]
    camera: dict[str, Path]
    darkens: bool
    lighting: dict[str, Path]
    train_split: str
    labels: str
    num_frames: int
    crop_size: int
    gammas: tuple[float, ...]
    class_names: tuple[str, ...]
    train_signature: str
    test_signature: str
    run_hash: str

    def list_file(self, split: str) -> Path:
        """The list of a split."""
        return get_split(split, self.prefix).list_file

    def files_of(self, split: str) -> dict[str, Path]:
        """Name to file of what settles a split's clips, beside videos."""
        camera = self.camera if get_split(split, self.prefix).darkened else {}
        return {f"list {split}": self.list_file(split), **camera, **self.lighting}

    def files_of_training(self) -> dict[str, Path]:
        """The same of all splits that a training reads."""
        lists = {name: path for split in self.lists for name, path in self.files_of(split).items()}
        return {**lists, **(self.camera if self.darkens else {})}

    def results_name(self, split: str, pair: tuple[int, int]) -> str:
        """Name of the results file of a split and a number of views and crops."""
        gammas = self.gammas if get_split(split, self.prefix).dark else ()
        return results_name(split, self.num_frames, self.crop_size, pair, gammas)

    def arguments(self) -> list[str]:
        """Arguments of `tools/run_net.py` after the task."""
        first, *overlays = self.files
        shown = ["--cfg", str(first)]
        for path in overlays:
            shown += ["--overlay", str(path)]
        return [*shown, *self.settings]


def build_experiment(files: Sequence[Path], settings: Sequence[str], root: Path) -> Experiment:
    """Load the configuration of an experiment.

    Raises:
        ConfigError: with a line per fault.
    """
    cfg = load_experiment(files[0], files[1:], settings)
    prefix = root / cfg.DATA.PATH_PREFIX
    splits = {cfg.DATA.TRAIN_SPLIT, *cfg.TRAIN.VAL_SPLITS, cfg.TRAIN.BEST_SPLIT}
    if cfg.ADAPT.NAME != "none" or cfg.DATA.PSEUDO_CSV:
        splits.add(cfg.ADAPT.SPLIT)
    machine = [key for key in MACHINE_KEYS if key != "TEST"]
    return Experiment(
        tuple(files),
        tuple(settings),
        cfg.TRAIN.CHECKPOINT_FILE_PATH,
        cfg.DATA.PSEUDO_CSV,
        prefix,
        {name: get_split(name, prefix).list_file for name in sorted(splits)},
        _build_camera_files(cfg, prefix),
        cfg.AUG.DARKEN > 0,
        {"zero_dce weights": root / cfg.ENHANCE.ZERO_DCE_WEIGHTS}
        if "zero_dce" in enhancements(cfg)
        else {},
        cfg.DATA.TRAIN_SPLIT,
        split_use((cfg.DATA.TRAIN_SPLIT, cfg.TRAIN.BEST_SPLIT), prefix),
        cfg.DATA.NUM_FRAMES,
        cfg.DATA.TEST_CROP_SIZE,
        tuple(cfg.TEST.GAMMAS) if cfg.ENHANCE.TEST == "gamma" else (),
        tuple(cfg.MODEL.CLASS_NAMES) or tuple(map(str, range(cfg.MODEL.NUM_CLASSES))),
        config_hash(cfg, (*MACHINE_KEYS, *LINKED_KEYS)),
        config_hash(cfg, (*machine, *LINKED_KEYS, *TEST_KEYS)),
        config_hash(cfg, MACHINE_KEYS),
    )


def _build_camera_files(cfg: CfgNode, prefix: Path) -> dict[str, Path]:
    name, splits = cfg.DATA.CAMERA, (cfg.ADAPT.SPLIT, cfg.DATA.TRAIN_SPLIT)
    if name == "fit":
        return {f"list {split}": get_split(split, prefix).list_file for split in splits}
    return {} if name in PRESETS else {"cameras": prefix / name}


def build_settings_without_pseudo(files: Sequence[Path], settings: Sequence[str]) -> list[str]:
    """`KEY VALUE` overrides that take the pseudo-labels from an experiment, and with them the keys that need them."""
    cfg, defaults = load_experiment(files[0], files[1:], settings), flatten(get_cfg())
    found = flatten(cfg)
    changed = [key for key in PSEUDO_KEYS if found[key] != defaults[key]]
    without = ["DATA.PSEUDO_CSV", ""]
    for key in changed:
        without += [key, str(defaults[key])]
    return without
