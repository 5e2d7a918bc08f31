"""Video models in folders of the library transformers: clips `[B, 3, T, H, W]` to logits `[B, K]`.

The library itself loads the weights, and its forward pass is what runs. Of a folder, only settings
and safetensors are read: no code and no pickle in it is ever run.
"""

from __future__ import annotations

import contextlib
import importlib
import json
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from nightcrawler.download.hub_folder import CONFIG, obtain_folder
from nightcrawler.models.external import no_stochastic_depth
from nightcrawler.models.hub_preprocessing import read_preprocessing
from nightcrawler.utils.errors import ArgumentError, UserError, missing_extra
from nightcrawler.utils.safetensors_files import check_safetensors

# `model_type` of the folders that are read, with what people call them.
FAMILIES = {
    "videomae": "VideoMAE",
    "vjepa2": "V-JEPA 2",
    "timesformer": "TimeSformer",
    "vivit": "ViViT",
    "videoprism_vision_model": "VideoPrism",
}
# Names of a setting, family by family.
FRAMES = ("num_frames", "frames_per_clip")
SIDES = ("image_size", "crop_size")
# Part of a backbone that only training before the classification has.
UNUSED = "predictor"
# Families with positions for any number of frames that their tubes divide.
ANY_FRAMES = ("vjepa2",)
# Largest difference of means and standard deviations that is taken for a rounding.
TOLERANCE = 1e-3


class HubVideo(nn.Module):
    """Video model of transformers.

    Entries have the library's names behind `model.`, a prefix that loading ignores.

    Args:
        model: returns an output with `logits` for clips `[B, T, 3, H, W]`.
        weights_source: folder that its weights come from, empty for random ones.
        new_entries: the library's names of entries that the folder did not fill.
    """

    def __init__(
        self, model: nn.Module, weights_source: str, new_entries: Iterable[str] = ()
    ) -> None:
        super().__init__()
        self.model = model
        self.weights_source = weights_source
        self.new_entries = frozenset(new_entries)

    @property
    def token_dim(self) -> int:
        """Channels of `tokens`."""
        inner: Any = self.model
        return inner.classifier.in_features

    def tokens(self, clip: Tensor) -> Tensor:
        """Return the last features `[B, N, C]` of clips `[B, 3, T, H, W]`."""
        inner: Any = self.model
        base = getattr(inner, inner.base_model_prefix)
        options = {"skip_predictor": True} if hasattr(base, UNUSED) else {}
        return base(clip.transpose(1, 2), **options).last_hidden_state

    def forward(self, clip: Tensor) -> Tensor:
        """Classify clips `[B, 3, T, H, W]`, to logits `[B, K]`."""
        # VideoPrism gives [B, 1, K].
        return self.model(clip.transpose(1, 2)).logits.flatten(1)


class DropoutLinear(nn.Linear):
    """Linear layer with dropout before it, whose entries are those of a linear layer.

    Args:
        layer: its parameters are shared.
        rate: probability of dropout.
    """

    def __init__(self, layer: nn.Linear, rate: float) -> None:
        super().__init__(1, 1, device="meta")
        self.in_features = layer.in_features
        self.out_features = layer.out_features
        self.weight = layer.weight
        self.bias = layer.bias
        self.rate = rate

    def forward(self, x: Tensor) -> Tensor:
        """Return `[..., K]` of features `[..., C]`."""
        return super().forward(functional.dropout(x, self.rate, self.training))


def hub_video(
    name: str,
    *,
    num_classes: int,
    num_frames: int | None = None,
    crop_size: int | None = None,
    test_size: int | None = None,
    mean: Sequence[float] | None = None,
    std: Sequence[float] | None = None,
    dropout: float = 0.0,
    drop_path: float = 0.0,
    checkpoint: bool = False,
) -> HubVideo:
    """Build a video model from its folder, with the folder's weights.

    A classifier of another number of classes is drawn anew. A folder without weights, such as one
    that is kept for predictions with a checkpoint, gives random ones.

    Args:
        name: a folder, or `OWNER/NAME` or `OWNER/NAME@REVISION` of the hub, downloaded if missing.
        num_classes: K.
        num_frames: T, compared with the folder's where given, as are the next four.
        crop_size: side of a training clip in pixels.
        test_size: side of a test clip in pixels.
        mean: of the normalisation, per RGB channel.
        std: of the normalisation, per RGB channel.
        dropout: before the classifier.
        drop_path: stochastic depth of the last block.
        checkpoint: compute activations again in the backward pass, to save memory.

    Raises:
        UserError: if the folder cannot be had or read, or its weights do not fill the model.
        ArgumentError: if clips are not what the folder's processor makes of videos.

    Example:
        >>> model = hub_video("weights/videomae-base", num_classes=11)
        >>> model(torch.zeros(2, 3, 16, 224, 224)).shape
        torch.Size([2, 11])
    """
    check_library(name)
    import transformers

    folder = obtain_folder(name)
    config = _read_config(folder, transformers)
    given = {"num_frames": num_frames, "crop_size": crop_size, "test_size": test_size}
    _check_clips(name, folder, config, {**given, "mean": mean, "std": std})
    config.num_labels = num_classes
    if drop_path:
        _set_drop_path(name, config, drop_path)
    has_weights = check_weights(folder)
    model, new_entries = _load(folder, config, transformers, has_weights)
    _drop_unused(model)
    model.classifier = DropoutLinear(model.classifier, dropout)
    if checkpoint:
        model.activation_checkpointing_enable({"use_reentrant": False})
    return HubVideo(model.train(), str(folder) if has_weights else "", new_entries)


def check_library(name: str) -> None:
    """Refuse a model whose library is not installed, before anything is downloaded for it.

    Args:
        name: of the model, for messages.

    Raises:
        UserError: saying how to install the library.
    """
    try:
        importlib.import_module("transformers")
    except ImportError:
        raise missing_extra(f"{name}: a model in the layout of transformers", "hub") from None


@contextlib.contextmanager
def library_errors(folder: Path) -> Iterator[None]:
    """Run the library silently, and turn its errors into one line.

    Args:
        folder: of the model, for messages.

    Raises:
        UserError: if the library raises an error in the block.
    """
    from transformers.utils import logging

    verbosity = logging.get_verbosity()
    bars = logging.is_progress_bar_enabled()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    try:
        yield
    except UserError:
        raise
    # A folder may say anything, and the library then raises almost anything.
    except Exception as error:
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise UserError(f"{folder}: cannot be loaded ({reason})") from None
    finally:
        logging.set_verbosity(verbosity)
        if bars:
            logging.enable_progress_bar()


def read_model_type(folder: Path) -> Any:
    """Return the `model_type` of a folder's settings.

    Raises:
        UserError: if they cannot be read.
    """
    file = folder / CONFIG
    try:
        return json.loads(file.read_text(encoding="utf-8")).get("model_type")
    except (OSError, ValueError, AttributeError, RecursionError) as error:
        raise UserError(f"{file}: not readable as JSON settings ({type(error).__name__})") from None


def _read_config(folder: Path, transformers: Any) -> Any:
    """Return the library's configuration of a folder of a known family."""
    kind = read_model_type(folder)
    if kind not in FAMILIES:
        raise UserError(
            f"{folder / CONFIG}: model_type {kind!r} is no video classifier that is known: "
            f"expected one of {', '.join(FAMILIES)}; code that comes with a folder is never run"
        )
    with library_errors(folder):
        return transformers.AutoConfig.from_pretrained(
            folder, local_files_only=True, trust_remote_code=False
        )


def expected_clips(folder: Path, config: Any) -> dict[str, Any]:
    """Return the clips that a folder's model and processor expect, by the arguments of `hub_video`.

    Args:
        folder: of the model.
        config: the library's configuration of it.

    Raises:
        UserError: if model and processor contradict each other, or there is no processor.
    """
    num_frames = _first_setting(config, FRAMES)
    side = _first_setting(config, SIDES)
    with library_errors(folder):
        found = read_preprocessing(folder, num_frames)
    sides = set(side) if isinstance(side, (list, tuple)) else {side}
    if sides != {found.size}:
        raise UserError(
            f"{folder}: {CONFIG} is for pictures of {side} px, the processor makes {found.size} px"
        )
    return {
        "num_frames": num_frames,
        "crop_size": found.size,
        "test_size": found.size,
        "mean": list(found.mean),
        "std": list(found.std),
        "resize": list(found.resize),
    }


def _first_setting(config: Any, names: Sequence[str]) -> Any:
    return next(getattr(config, name) for name in names if hasattr(config, name))


def _check_clips(name: str, folder: Path, config: Any, given: dict[str, Any]) -> None:
    """Refuse clips of other frames, sizes or normalisation than a folder's.

    Args:
        name: of the folder, for messages.
        folder: of the model.
        config: the library's configuration of it.
        given: argument of `hub_video` to value, None for one that is not compared.

    Raises:
        ArgumentError: that names all arguments that differ, with the values to take.
    """
    if all(value is None for value in given.values()):
        return
    expected = expected_clips(folder, config)
    num_frames = given["num_frames"]
    if num_frames and config.model_type in ANY_FRAMES and num_frames % config.tubelet_size == 0:
        expected["num_frames"] = num_frames
    texts = []
    differing = []
    for argument, value in given.items():
        if value is not None and not _agree(value, expected[argument]):
            differing.append(argument)
            texts.append(f"{argument} {value} is not {expected[argument]}")
    if differing:
        raise ArgumentError(
            f"transformers/{name}: clips are not what its processor makes: {', '.join(texts)}",
            *differing,
        )


def _agree(value: Any, expected: Any) -> bool:
    """Return whether numbers are equal but for a rounding of fractions."""
    return bool(np.allclose(value, expected, rtol=0, atol=TOLERANCE))


def _set_drop_path(name: str, config: Any, rate: float) -> None:
    """Set the stochastic depth of a configuration whose model has it."""
    if not hasattr(config, "drop_path_rate"):
        raise no_stochastic_depth(f"transformers/{name}", rate)
    # TimeSformer's settings declare a whole number, and its blocks take a fraction.
    object.__setattr__(config, "drop_path_rate", rate)


def check_weights(folder: Path) -> bool:
    """Return whether a folder has weights; refuse damaged ones, and pickles without safetensors."""
    files = sorted(folder.glob("*.safetensors"))
    for file in files:
        check_safetensors(file)
    if files:
        return True
    pickles = sorted(file.name for file in folder.glob("*.bin"))
    if pickles:
        raise UserError(
            f"{folder}: only {pickles[0]}, a pickle, which may run code and is not read: get "
            "model.safetensors of the same model"
        )
    return False


def _load(
    folder: Path, config: Any, transformers: Any, has_weights: bool
) -> tuple[Any, Iterable[str]]:
    """Return the library's model, filled from the folder, in float32, and its entries left over."""
    auto = transformers.AutoModelForVideoClassification
    known = transformers.MODEL_FOR_VIDEO_CLASSIFICATION_MAPPING[type(config)]
    # Named here, because a folder could name attention code of the hub.
    options = {
        "dtype": torch.float32,
        "attn_implementation": "sdpa" if known._supports_sdpa else "eager",
        "trust_remote_code": False,
    }
    with library_errors(folder):
        if not has_weights:
            return auto.from_config(config, **options), ()
        model, report = auto.from_pretrained(
            folder,
            config=config,
            local_files_only=True,
            use_safetensors=True,
            ignore_mismatched_sizes=True,
            output_loading_info=True,
            **options,
        )
    _check_filled(folder, model, report)
    return model, report["missing_keys"]


def _check_filled(folder: Path, model: Any, report: dict[str, Any]) -> None:
    """Refuse weights that do not fill the backbone, or hold entries that it has no place for.

    The library only warns of both: VideoMAE's biases of queries and values were lost so.

    Raises:
        UserError: that names the first entries.
    """
    prefix = f"{model.base_model_prefix}."
    faults = []
    mismatched = {name for name, _, _ in report["mismatched_keys"]}
    filled = set(model.state_dict()) - set(report["missing_keys"]) - mismatched
    for name in sorted(report["missing_keys"]):
        # A head may be new, but not half of it.
        part = name if name.startswith(prefix) else name.partition(".")[0] + "."
        is_new = not any(entry.startswith(part) for entry in filled)
        if not name.startswith(f"{prefix}{UNUSED}.") and (name == part or not is_new):
            faults.append(f"{name} is missing")
    for name, found, wanted in sorted(report["mismatched_keys"]):
        if not name.startswith("classifier."):
            faults.append(f"{name} is {list(found)}, the model has {list(wanted)}")
    modules = dict(model.named_modules())
    for name in sorted(report["unexpected_keys"]):
        layer = name.rpartition(".")[0]
        # Whole parts that classification does not have, such as decoders, may be left over.
        if layer and (layer in modules or f"{prefix}{layer}" in modules):
            faults.append(f"{name} has no place in the model")
    if faults:
        raise UserError(
            f"{folder}: its weights do not fill the model: {len(faults)} entries, first "
            f"{'; '.join(faults[:3])}"
        )


def _drop_unused(model: Any) -> None:
    """Remove the parts that logits do not depend on, which no gradient would reach."""
    base = getattr(model, model.base_model_prefix)
    # V-JEPA 2 predicts masked features while it is trained before.
    if hasattr(base, UNUSED):
        setattr(base, UNUSED, None)
