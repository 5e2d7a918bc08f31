"""Experiment of a pipeline: its configuration as it will run, reduced to the values tasks need."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fvcore.common.config import CfgNode

from nightcrawler.config.check import reset_idle_keys
from nightcrawler.config.identity import (
    LINKED_KEYS,
    MACHINE_KEYS,
    TEST_KEYS,
    is_below,
    labelled_splits_of,
    run_hash,
    run_values,
    test_hash,
    training_splits_of,
    without_idle_keys,
)
from nightcrawler.config.load import load_experiment
from nightcrawler.config.node import config_hash
from nightcrawler.config.schema import SCHEMA
from nightcrawler.config.schema.conditions import enhancements_of
from nightcrawler.data.build_items import poses_of
from nightcrawler.data.fingerprint import VideoList, video_list
from nightcrawler.data.lowlight.camera import PRESETS
from nightcrawler.data.lowlight.enhance.build import (
    denoise_window_of,
    enhancement_name_of,
    gammas_of,
)
from nightcrawler.data.splits import get_split
from nightcrawler.pseudo.results_metadata import results_name, split_use

# Checkpoint that a training leaves for the tasks after it.
BEST = "best.pyth"


@dataclass(frozen=True)
class Experiment:
    """A training and the values that its tests need.

    Attributes:
        files: Configuration files: the experiment's, then overlays.
        settings: `KEY VALUE` overrides, flat.
        output_dir: Folder that the configuration names for its outputs, empty for none.
        start: Checkpoint that it starts from, or name of published weights, empty for none.
        pseudo_csv: Pseudo-labels as the configuration names them, empty for none.
        prefix: Data folder.
        lists: Split to list file, of all splits that a training reads.
        camera: Name to file, of the files that low-light cameras are fitted to or read from.
        camera_splits: Splits whose clips low-light cameras are fitted to.
        darkens: Training clips pass through low-light cameras.
        lighting: Name to file, of the files that enhancements read.
        train_split: Split of its labelled clips.
        labels: `label-free` or `oracle`: use of labels of dark clips.
        num_frames: Frames of a test clip, for the names of results files.
        crop_size: Side of a test crop in pixels, for the same names.
        gammas: Gammas of dark splits, for the same names, empty without `TEST.GAMMAS`.
        results_format: End of the same names.
        class_names: Class names in index order.
        train_signature: Hash of the keys that a training depends on.
        test_signature: Hash of the keys that a test depends on.
        older_signatures: Hashes of a training and of a test as version 0.1 made them.
        run_hash: Hash that a run of it writes into `run.json`.
        config: Keys that a training depends on, with their values.
        stamps: What its results files of bright and of dark splits say of the way they were made.
    """

    files: tuple[Path, ...]
    settings: tuple[str, ...]
    output_dir: str
    start: str
    pseudo_csv: str
    prefix: Path
    poses: str
    lists: dict[str, Path]
    camera: dict[str, Path]
    camera_splits: tuple[str, ...]
    darkens: bool
    lighting: dict[str, Path]
    train_split: str
    labels: str
    num_frames: int
    crop_size: int
    gammas: tuple[float, ...]
    results_format: str
    class_names: tuple[str, ...]
    train_signature: str
    test_signature: str
    older_signatures: tuple[str, str]
    run_hash: str
    config: dict[str, Any]
    stamps: dict[bool, dict[str, Any]]

    def list_file(self, split: str) -> Path:
        """Return the list file of a split."""
        return get_split(split, self.prefix).list_file

    def is_darkened(self, split: str) -> bool:
        """Return whether a split holds bright clips that low-light cameras darken."""
        return get_split(split, self.prefix).darkened

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

    def videos_of(self, split: str) -> dict[str, VideoList]:
        """Return the lists of videos, by split, whose content determines a split's clips."""
        names = [split]
        if get_split(split, self.prefix).darkened:
            names += self.camera_splits
        return {name: video_list(name, self.prefix, self.poses) for name in names}

    def videos_of_training(self) -> dict[str, VideoList]:
        """Return the lists of videos, by split, whose content determines a training."""
        videos: dict[str, VideoList] = {}
        for split in self.lists:
            videos.update(self.videos_of(split))
        if self.darkens:
            for name in self.camera_splits:
                videos[name] = video_list(name, self.prefix, self.poses)
        return videos

    def test_stamps(self, split: str) -> dict[str, Any]:
        """Return what results of a split say of the way they were made."""
        return self.stamps[get_split(split, self.prefix).dark]

    def results_name(self, split: str, pair: tuple[int, int]) -> str:
        """Return the name of the results file of a split and of (views, crops)."""
        gammas = self.gammas if get_split(split, self.prefix).dark else ()
        form = self.results_format
        return results_name(split, self.num_frames, self.crop_size, pair, gammas, form)

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
    lighting = {}
    if "zero_dce" in enhancements_of(cfg):
        lighting["zero_dce weights"] = root / cfg.ENHANCE.ZERO_DCE_WEIGHTS
    of_training = (*MACHINE_KEYS, *LINKED_KEYS)
    # A test also depends on the section TEST, but for the keys that its task sets itself.
    machine_of_test = [key for key in MACHINE_KEYS if key != "TEST"]
    of_test = (*machine_of_test, *LINKED_KEYS, *TEST_KEYS)
    values = run_values(cfg)
    return Experiment(
        files=tuple(files),
        settings=tuple(settings),
        output_dir=cfg.OUTPUT_DIR,
        start=cfg.TRAIN.CHECKPOINT_FILE_PATH,
        pseudo_csv=cfg.DATA.PSEUDO_CSV,
        prefix=prefix,
        poses=poses_of(cfg),
        lists={name: get_split(name, prefix).list_file for name in training_splits_of(cfg)},
        camera=_build_camera_files(cfg, prefix),
        camera_splits=_camera_splits_of(cfg),
        darkens=cfg.AUG.DARKEN > 0,
        lighting=lighting,
        train_split=cfg.DATA.TRAIN_SPLIT,
        labels=split_use((*labelled_splits_of(cfg), cfg.TRAIN.BEST_SPLIT), prefix),
        num_frames=cfg.DATA.NUM_FRAMES,
        crop_size=cfg.DATA.TEST_CROP_SIZE,
        gammas=tuple(cfg.TEST.GAMMAS) if cfg.ENHANCE.TEST == "gamma" else (),
        results_format=cfg.TEST.RESULTS_FORMAT,
        class_names=tuple(cfg.MODEL.CLASS_NAMES) or tuple(map(str, range(cfg.MODEL.NUM_CLASSES))),
        train_signature=config_hash(without_idle_keys(cfg), of_training),
        test_signature=test_hash(cfg),
        older_signatures=(config_hash(cfg, of_training), config_hash(cfg, of_test)),
        run_hash=run_hash(cfg),
        config={key: value for key, value in values.items() if not is_below(key, LINKED_KEYS)},
        stamps={dark: _build_test_stamps(cfg, dark) for dark in (False, True)},
    )


def _build_camera_files(cfg: CfgNode, prefix: Path) -> dict[str, Path]:
    name = cfg.DATA.CAMERA
    splits = _camera_splits_of(cfg)
    if splits:
        return {f"list {split}": get_split(split, prefix).list_file for split in splits}
    return {} if name in PRESETS else {"cameras": prefix / name}


def _camera_splits_of(cfg: CfgNode) -> tuple[str, ...]:
    # The fit compares dark clips with bright ones.
    return (cfg.ADAPT.SPLIT, cfg.DATA.TRAIN_SPLIT) if cfg.DATA.CAMERA == "fit" else ()


def _build_test_stamps(cfg: CfgNode, dark: bool) -> dict[str, Any]:
    """Return what a results file says of the way it was tested, but for split, views and files."""
    return {
        "num_frames": cfg.DATA.NUM_FRAMES,
        "crop_size": cfg.DATA.TEST_CROP_SIZE,
        "enhancement": enhancement_name_of(cfg, "TEST", dark),
        "denoise_frames": denoise_window_of(cfg, "TEST", dark),
        "gammas": gammas_of(cfg, "TEST", dark) if cfg.TEST.GAMMAS else [],
        "ensemble_method": cfg.TEST.ENSEMBLE_METHOD,
        "model": cfg.MODEL.NAME,
        "adapter": cfg.ADAPT.NAME,
        "seed": cfg.RNG_SEED,
        "class_names": list(cfg.MODEL.CLASS_NAMES),
        "test_hash": test_hash(cfg),
    }


def build_settings_without_pseudo(files: Sequence[Path], settings: Sequence[str]) -> list[str]:
    """Return overrides that remove the pseudo-labels of an experiment.

    Keys that have no effect without pseudo-labels return to their defaults, since setting them
    would be an error. All others stay, such as the enhancement of bright clips that are darkened.

    Args:
        files: Configuration files: the experiment's, then overlays.
        settings: `KEY VALUE` overrides of the experiment, flat.

    Returns:
        `KEY VALUE` overrides, flat, to be appended to `settings`.
    """
    cfg = load_experiment(files[0], files[1:], settings).clone()
    cfg.defrost()
    cfg.DATA.PSEUDO_CSV = ""
    overrides = ["DATA.PSEUDO_CSV", ""]
    for key in reset_idle_keys(cfg, SCHEMA):
        overrides += [key, str(SCHEMA[key].default)]
    return overrides
