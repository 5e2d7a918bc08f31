"""Checkpoints of trained models, and the configurations inside them."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch
from fvcore.common.config import CfgNode

from nightcrawler.config.load import load_experiment
from nightcrawler.engine.checkpoint import BEST
from nightcrawler.models.formats import WeightsFile
from nightcrawler.utils.errors import ConfigError, UserError

# Keys that concern the data folder of training, which prediction does not use.
PREDICT_OVERRIDES = ("DATA.CACHE", "none", "DATA.CHECKSUMS", "")


@dataclass(frozen=True)
class PredictOptions:
    """Settings of prediction that differ from training and testing.

    Attributes:
        pair: temporal views and spatial crops. None takes those of the recipe, or else the
            first pair that the checkpoint was tested with.
        dark: enhance the videos as dark ones. False leaves them unchanged.
        workers: decoding processes per model.
        root: folder for relative paths in a configuration.
        device: `auto`, `cpu` or `cuda`.
    """

    pair: tuple[int, int] | None = None
    dark: bool = True
    workers: int = 0
    root: Path = Path()
    device: str = "auto"


def _experiment_checkpoint(name: str) -> Path | None:
    """Return the best checkpoint of an experiment's output folder."""
    folder = Path(name)
    if not folder.is_dir():
        return None
    path = folder / BEST
    if not path.is_file():
        raise UserError(
            f"{path}: no such checkpoint; train it first (bash {folder / 'run.sh'}), "
            "or name a checkpoint"
        )
    return path


def _checkpoint_file(name: str) -> Path | None:
    """Return a path that is a file."""
    path = Path(name)
    return path if path.is_file() else None


# Tried in order. A new kind of name, such as a model inside the package, is one more function.
RESOLVERS: tuple[Callable[[str], Path | None], ...] = (_experiment_checkpoint, _checkpoint_file)


def find_checkpoint(path_or_name: str | os.PathLike[str]) -> Path:
    """Return the checkpoint of an experiment folder, or the checkpoint file itself.

    Args:
        path_or_name: an experiment's output folder or a checkpoint.

    Raises:
        UserError: if there is no checkpoint.
    """
    name = os.fspath(path_or_name)
    for resolve in RESOLVERS:
        path = resolve(name)
        if path is not None:
            return path
    raise UserError(f"{name}: no such checkpoint; expected an experiment folder or a checkpoint")


def build_trained_config(file: WeightsFile, options: PredictOptions) -> CfgNode:
    """Build the configuration that a checkpoint was trained with, adapted to this machine.

    Args:
        file: weights with the text of their configuration.
        options: settings of prediction.

    Raises:
        UserError: if the checkpoint holds no configuration, or one of another version.
    """
    if not file.config_text:
        raise UserError(
            f"{file.path}: holds no configuration: add it with tools/convert_checkpoint.py "
            f"{file.path} --to OUT.pyth --cfg CONFIG of its experiment"
        )
    overrides = [
        *PREDICT_OVERRIDES,
        *("DEVICE", options.device),
        *("TEST.CHECKPOINT_FILE_PATH", str(file.path)),
    ]
    if options.device == "cpu":
        # Without a GPU, no clip may be made there either.
        overrides += ["AUG.DEVICE", "cpu"]
    # Experiments are read from files, with checks of keys and values that also hold here.
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "trained.yaml")
        path.write_text(file.config_text, encoding="utf-8")
        try:
            cfg = load_experiment(path, overrides=overrides)
        except ConfigError as error:
            # The temporary file means nothing to a user: name the checkpoint in its place.
            where = f"{file.path} (its configuration)"
            text = str(error).replace(str(path.resolve()), where).replace(str(path), where)
            raise UserError(text) from None
    cfg.defrost()
    # Relative to the project, wherever the command was started.
    if cfg.ENHANCE.ZERO_DCE_WEIGHTS:
        cfg.ENHANCE.ZERO_DCE_WEIGHTS = str(options.root / cfg.ENHANCE.ZERO_DCE_WEIGHTS)
    # Half precision is for GPUs only.
    uses_gpu = options.device != "cpu" and torch.cuda.is_available()
    if cfg.MODEL.PRECISION == "fp16" and not uses_gpu:
        cfg.MODEL.PRECISION = "fp32"
    cfg.freeze()
    return cfg
