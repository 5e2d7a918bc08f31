"""Experiment of a pipeline: its configuration as it will run, reduced to the values tasks need."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from fvcore.common.config import CfgNode

from nightcrawler.config.load import load_experiment
from nightcrawler.config.node import config_hash, get_cfg
from nightcrawler.config.schema import dependent_keys
from nightcrawler.config.schema.conditions import enhancements_of, value_of
from nightcrawler.data.lowlight.camera import PRESETS
from nightcrawler.data.splits import get_split
from nightcrawler.pseudo.results_metadata import results_name, split_use

# Checkpoint that a training leaves for the tasks after it.
BEST = "best.pyth"
# Keys that determine where and how fast a run computes, and no number of it. They are those of
# nightcrawler/engine/run_metadata.py, which needs torch; a test compares both.
MACHINE_KEYS = (
    "OUTPUT_DIR",
    "DEVICE",
    "NUM_GPUS",
    "NUM_SHARDS",
    "DIST_BACKEND",
    "DIST_TIMEOUT_SEC",
    "NUM_THREADS",
    "AUG.DEVICE",
    "LOG_PERIOD",
    "TENSORBOARD",
    "DATA_LOADER",
    "DATA.PATH_PREFIX",
    "TEST",
    "TRAIN.KEEP_LAST",
    "TRAIN.MAX_FAILED_SAVES",
)
# Files that other tasks write: their bytes count (as inputs of the task), not their location.
LINKED_KEYS = ("TRAIN.CHECKPOINT_FILE_PATH", "DATA.PSEUDO_CSV")
# Keys of a test that its task sets or that change only its speed.
TEST_KEYS = (
    "TEST.DATA_SELECT",
    "TEST.NUM_ENSEMBLE_VIEWS",
    "TEST.NUM_SPATIAL_CROPS",
    "TEST.BATCH_SIZE",
)


@dataclass(frozen=True)
class Experiment:
    """A training and the values that its tests need.

    Attributes:
        files: Configuration files: the experiment's, then overlays.
        settings: `KEY VALUE` overrides, flat.
        start: Checkpoint that it starts from, or name of published weights, empty for none.
        pseudo_csv: Pseudo-labels as the configuration names them, empty for none.
        prefix: Data folder.
        lists: Split to list file, of all splits that a training reads.
        camera: Name to file, of the files that low-light cameras are fitted to or read from.
        darkens: Training clips pass through low-light cameras.
        lighting: Name to file, of the files that enhancements read.
        train_split: Split of its labelled clips.
        labels: `label-free` or `oracle`: use of labels of dark clips.
        num_frames: Frames of a test clip, for the names of results files.
        crop_size: Side of a test crop in pixels, for the same names.
        gammas: Gammas of dark splits, for the same names, empty without `TEST.GAMMAS`.
        class_names: Class names in index order.
        train_signature: Hash of the keys that a training depends on.
        test_signature: Hash of the keys that a test depends on.
        run_hash: Hash that a run of it writes into `run.json`.
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
        """Return the list file of a split."""
        return get_split(split, self.prefix).list_file

    def files_of(self, split: str) -> dict[str, Path]:
        """Return the files, by name, that determine a split's clips besides the videos."""
        files = {f"list {split}": self.list_file(split)}
        if get_split(split, self.prefix).darkened:
            files.update(self.camera)
        files.update(self.lighting)
        return files

    def files_of_training(self) -> dict[str, Path]:
        """Return the files, by name, that determine the clips of a training."""
        files: dict[str, Path] = {}
        for split in self.lists:
            files.update(self.files_of(split))
        if self.darkens:
            files.update(self.camera)
        return files

    def results_name(self, split: str, pair: tuple[int, int]) -> str:
        """Return the name of the results file of a split and of (views, crops)."""
        gammas = self.gammas if get_split(split, self.prefix).dark else ()
        return results_name(split, self.num_frames, self.crop_size, pair, gammas)

    def arguments(self) -> list[str]:
        """Return the arguments of the programs `train` and `test`."""
        first, *overlays = self.files
        arguments = ["--cfg", str(first)]
        for path in overlays:
            arguments += ["--overlay", str(path)]
        return [*arguments, *self.settings]


def build_experiment(files: Sequence[Path], settings: Sequence[str], root: Path) -> Experiment:
    """Load the configuration of an experiment.

    Args:
        files: Configuration files: the experiment's, then overlays.
        settings: `KEY VALUE` overrides, flat.
        root: The project's root, to which the data folder is relative.

    Raises:
        ConfigError: One line for each error.
    """
    cfg = load_experiment(files[0], files[1:], settings)
    prefix = root / cfg.DATA.PATH_PREFIX
    splits = {cfg.DATA.TRAIN_SPLIT, *cfg.TRAIN.VAL_SPLITS, cfg.TRAIN.BEST_SPLIT}
    # BatchNorm adaptation and the pseudo-labelled stream read the clips of ADAPT.SPLIT.
    if cfg.ADAPT.NAME != "none" or cfg.DATA.PSEUDO_CSV:
        splits.add(cfg.ADAPT.SPLIT)
    lighting = {}
    if "zero_dce" in enhancements_of(cfg):
        lighting["zero_dce weights"] = root / cfg.ENHANCE.ZERO_DCE_WEIGHTS
    # A test also depends on the section TEST, but for the keys that its task sets itself.
    machine_of_test = [key for key in MACHINE_KEYS if key != "TEST"]
    return Experiment(
        files=tuple(files),
        settings=tuple(settings),
        start=cfg.TRAIN.CHECKPOINT_FILE_PATH,
        pseudo_csv=cfg.DATA.PSEUDO_CSV,
        prefix=prefix,
        lists={name: get_split(name, prefix).list_file for name in sorted(splits)},
        camera=_build_camera_files(cfg, prefix),
        darkens=cfg.AUG.DARKEN > 0,
        lighting=lighting,
        train_split=cfg.DATA.TRAIN_SPLIT,
        labels=split_use((cfg.DATA.TRAIN_SPLIT, cfg.TRAIN.BEST_SPLIT), prefix),
        num_frames=cfg.DATA.NUM_FRAMES,
        crop_size=cfg.DATA.TEST_CROP_SIZE,
        gammas=tuple(cfg.TEST.GAMMAS) if cfg.ENHANCE.TEST == "gamma" else (),
        class_names=tuple(cfg.MODEL.CLASS_NAMES) or tuple(map(str, range(cfg.MODEL.NUM_CLASSES))),
        train_signature=config_hash(cfg, (*MACHINE_KEYS, *LINKED_KEYS)),
        test_signature=config_hash(cfg, (*machine_of_test, *LINKED_KEYS, *TEST_KEYS)),
        run_hash=config_hash(cfg, MACHINE_KEYS),
    )


def _build_camera_files(cfg: CfgNode, prefix: Path) -> dict[str, Path]:
    name = cfg.DATA.CAMERA
    if name == "fit":
        # The fit compares dark clips with bright ones.
        splits = (cfg.ADAPT.SPLIT, cfg.DATA.TRAIN_SPLIT)
        return {f"list {split}": get_split(split, prefix).list_file for split in splits}
    return {} if name in PRESETS else {"cameras": prefix / name}


def build_settings_without_pseudo(files: Sequence[Path], settings: Sequence[str]) -> list[str]:
    """Return overrides that remove the pseudo-labels of an experiment.

    Keys that have no effect without pseudo-labels return to their defaults, since setting them
    would be an error.

    Args:
        files: Configuration files: the experiment's, then overlays.
        settings: `KEY VALUE` overrides of the experiment, flat.

    Returns:
        `KEY VALUE` overrides, flat, to be appended to `settings`.
    """
    cfg = load_experiment(files[0], files[1:], settings)
    defaults = get_cfg()
    overrides = ["DATA.PSEUDO_CSV", ""]
    for key in dependent_keys("DATA.PSEUDO_CSV"):
        default = value_of(defaults, key)
        if value_of(cfg, key) != default:
            overrides += [key, str(default)]
    return overrides
