"""Checkpoints of trained models, and the configurations inside them."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch
from fvcore.common.config import CfgNode

from nightcrawler.config.load import load_experiment, recorded_defaults
from nightcrawler.config.schema import SCHEMA
from nightcrawler.engine.checkpoint_files import BEST
from nightcrawler.models.formats import WeightsFile, read_weights
from nightcrawler.models.zoo import (
    DEMO_PREFIX,
    check_weights,
    demo_models,
    find_entry,
    obtain_weights,
)
from nightcrawler.predict.published import complete
from nightcrawler.utils.errors import ConfigError, UserError
from nightcrawler.utils.plugins import import_user_module, plugin_modules

# Keys that concern the data folder and the clips of training, which prediction does not use.
PREDICT_OVERRIDES = ("DATA.CACHE", "none", "DATA.CHECKSUMS", "", "AUG.DARKEN", "0.0")
# Keys of a cache and of a camera, which a configuration without them must not have.
IDLE_KEYS = ("DATA.CACHE_DIR", "DATA.CACHE_GIB", "DATA.CAMERA")


# Files of `nightcrawler export` that are read as checkpoints.
EXPORTED = ("model.onnx", "model.safetensors")
# Folders that an error names.
MAX_SHOWN = 3


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
        imports: modules that a configuration inside a checkpoint may import.
        max_pixels: largest picture that is read. None takes `DATA.MAX_PIXELS` of the checkpoint.
        adapter: name of the adapter that `predict.adapt` runs, or `online`.
    """

    pair: tuple[int, int] | None = None
    dark: bool = True
    workers: int = 0
    root: Path = Path()
    device: str = "auto"
    imports: tuple[str, ...] = ()
    max_pixels: int | None = None
    adapter: str = "none"


def _experiment_checkpoint(name: str) -> Path | None:
    """Return the best checkpoint of an experiment's output folder."""
    folder = Path(name)
    if not folder.is_dir():
        return None
    path = folder / BEST
    if not path.is_file():
        raise UserError(f"{path}: no such checkpoint; {_advice(folder)}")
    return path


def _advice(folder: Path) -> str:
    """Return how to get the checkpoint of a folder, by what the folder holds."""
    for name in EXPORTED:
        if (folder / name).is_file():
            return f"name the exported file: {folder / name}"
    script = folder / "run.sh"
    if script.is_file():
        return f"train it first (bash {script}), or name a checkpoint"
    trained = sorted(folder.glob(f"*/{BEST}"))[:MAX_SHOWN]
    trained += sorted(folder.glob(f"*/*/{BEST}"))[: MAX_SHOWN - len(trained)]
    if trained:
        shown = ", ".join(str(path.parent) for path in trained)
        return f"expected the folder of one experiment, such as {shown}"
    return "expected the folder of an experiment that was trained, or a checkpoint"


def _checkpoint_file(name: str) -> Path | None:
    """Return a path that is a file."""
    path = Path(name)
    return path if path.is_file() else None


def _demo_checkpoint(name: str) -> Path | None:
    """Return the weights of a model inside the package."""
    if not name.startswith(DEMO_PREFIX):
        return None
    models = demo_models()
    if name not in models:
        known = ", ".join(models) or "none"
        raise UserError(f"{name}: no such checkpoint; the models inside the package are {known}")
    return models[name]


def _published_checkpoint(name: str) -> Path | None:
    """Return the file of a public name or address, downloaded if it is missing."""
    if find_entry(name) is None:
        return None
    return obtain_weights(name)


# Tried in order: files of the user come before those of the package, and these before public ones.
RESOLVERS: tuple[Callable[[str], Path | None], ...] = (
    _experiment_checkpoint,
    _checkpoint_file,
    _demo_checkpoint,
    _published_checkpoint,
)


def find_checkpoint(path_or_name: str | os.PathLike[str]) -> Path:
    """Return the checkpoint of an experiment folder, a checkpoint file, or a name.

    Args:
        path_or_name: an experiment's output folder, a checkpoint, a name of `demo_models`, or a
            public name or address (see `models.zoo.find_entry`), which is downloaded if need be.

    Raises:
        UserError: if there is no checkpoint, or it cannot be had.
    """
    name = os.fspath(path_or_name)
    for resolve in RESOLVERS:
        path = resolve(name)
        if path is not None:
            return path
    raise UserError(
        f"{name}: no such checkpoint; expected an experiment folder, a checkpoint, or a name that "
        "`nightcrawler weights list` prints"
    )


def read_checkpoint(path_or_name: str | os.PathLike[str]) -> WeightsFile:
    """Read the checkpoint that `find_checkpoint` returns, with the configuration of its name.

    Args:
        path_or_name: see there.

    Raises:
        UserError: if there is no checkpoint, or it cannot be read, or is not the published one.
    """
    name = os.fspath(path_or_name)
    path = find_checkpoint(name)
    file = read_weights(path)
    if path == Path(name):
        return file
    # A name promises a file, which may be damaged or exchanged.
    check_weights(name, file.sha256)
    return complete(file, name)


def build_trained_config(file: WeightsFile, options: PredictOptions) -> CfgNode:
    """Build the configuration that a checkpoint was trained with, adapted to this machine.

    Args:
        file: weights with the text of their configuration.
        options: settings of prediction.

    Raises:
        UserError: if the checkpoint holds no configuration, one of another version, or one that
            names modules to import which neither the user nor an installed plugin allows.
    """
    if not file.config_text:
        raise UserError(
            f"{file.path}: holds no configuration: add it with tools/convert_checkpoint.py "
            f"{file.path} --to OUT.pyth --cfg CONFIG of its experiment"
        )
    # The modules that the user trusts register names, whether the checkpoint asks for them or not.
    for module in options.imports:
        try:
            import_user_module(module)
        except UserError as error:
            raise UserError(f"imports: {error}") from error
    # A checkpoint may come from anyone, and importing a module runs it.
    trusted = {*options.imports, *plugin_modules()}
    # Experiments are read from files, with checks of keys and values that also hold here.
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "trained.yaml")
        path.write_text(file.config_text, encoding="utf-8")
        try:
            cfg = load_experiment(
                path,
                overrides=_overrides(file, options),
                root=folder,
                trusted=trusted,
                defaults=recorded_defaults(),
                is_record=True,
            )
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


def _overrides(file: WeightsFile, options: PredictOptions) -> list[str]:
    """Return the `KEY VALUE` pairs in which prediction differs from training."""
    overrides = [
        *PREDICT_OVERRIDES,
        *("DEVICE", options.device),
        *("TEST.CHECKPOINT_FILE_PATH", str(file.path)),
    ]
    for key in IDLE_KEYS:
        overrides += [key, str(SCHEMA[key].default)]
    if options.max_pixels is not None:
        overrides += ["DATA.MAX_PIXELS", str(options.max_pixels)]
    if options.device == "cpu":
        # Without a GPU, no clip may be made there either.
        overrides += ["AUG.DEVICE", "cpu"]
    return overrides
