"""Image models of timm as video models: the mean of all frames' features is classified.

Entries keep their names, so that a state_dict saved with timm loads here. Nothing is downloaded.
"""

from __future__ import annotations

from typing import Any

import timm
import torch
from timm.layers import DropPath
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from nightcrawler.models.external import check_one_size, no_stochastic_depth
from nightcrawler.models.layers import motion_channels
from nightcrawler.models.pretrained import is_head
from nightcrawler.utils.errors import ArgumentError
from nightcrawler.utils.lazy_registry import unknown_name

# Arguments of timm's models, by our arguments that set them.
TIMM_OPTIONS = {"drop_path": "drop_path_rate", "motion_stem": "in_chans", "crop_size": "img_size"}


class FrameAverage(nn.Module):
    """Video model of an image model: the mean of all frames' features is classified.

    Parameters, buffers and children are those of the image model, under the same names
    (`layer1.0.conv1.weight`, not `image_model.layer1...`), so that its checkpoints load.

    Args:
        image_model: a model of timm. It belongs to the wrapper from now on.
        dropout: before the classifier.
        motion_stem: see `layers.motion_channels`; the image model takes six channels.
    """

    def __init__(self, image_model: nn.Module, dropout: float, motion_stem: bool) -> None:
        super().__init__()
        # The tables themselves are shared, not copies: a tensor that is replaced on one side
        # (by `to_empty`, `load_state_dict(assign=True)` or `functional_call`) is on the other.
        self._parameters = image_model._parameters
        self._buffers = image_model._buffers
        self._modules = image_model._modules
        # In a tuple, so that it is no child, which would prefix the names of its entries.
        self.unregistered = (image_model,)
        self.motion_stem = motion_stem
        self.frame_dropout = nn.Dropout(dropout)
        self.train(image_model.training)

    def train(self, mode: bool = True) -> FrameAverage:
        """Set training mode, also of the image model itself.

        Args:
            mode: training, otherwise evaluation.
        """
        super().train(mode)
        # Not a child, so `nn.Module.train` does not reach it. Its children are set already.
        self.unregistered[0].training = mode
        return self

    @property
    def token_dim(self) -> int:
        """Channels of `tokens`."""
        image_model: Any = self.unregistered[0]
        return image_model.num_features

    def tokens(self, clip: Tensor) -> Tensor:
        """Return the last features of all places and frames `[B, N, C]`."""
        features = self._features(clip)
        if features.ndim == 4:
            # Convolutional networks put channels first, Swin and its kin last.
            axis = 1 if features.shape[1] == self.token_dim else 3
            features = features.movedim(axis, -1).flatten(1, 2)
        return features.unflatten(0, (clip.shape[0], -1)).flatten(1, 2)

    def _features(self, clip: Tensor) -> Tensor:
        """Return timm's features of every frame, `[B T, ...]`."""
        # The methods of timm's models are not those of nn.Module, hence Any.
        image_model: Any = self.unregistered[0]
        if self.motion_stem:
            clip = motion_channels(clip)
        # Frames as images of one batch: [B T, C, H, W].
        return image_model.forward_features(clip.transpose(1, 2).flatten(0, 1))

    def forward(self, clip: Tensor) -> Tensor:
        """Classify clips `[B, 3, T, H, W]`, to logits `[B, K]`."""
        image_model: Any = self.unregistered[0]
        features = image_model.forward_head(self._features(clip), pre_logits=True)
        averaged = features.unflatten(0, (clip.shape[0], -1)).mean(1)
        return image_model.get_classifier()(self.frame_dropout(averaged))


def timm_frames(
    name: str,
    *,
    num_classes: int,
    crop_size: int = 224,
    test_size: int | None = None,
    dropout: float = 0.0,
    drop_path: float = 0.0,
    motion_stem: bool = False,
    checkpoint: bool = False,
) -> FrameAverage:
    """Build an image model of timm with random weights, run on every frame.

    Args:
        name: one of `timm.list_models()`.
        num_classes: K.
        crop_size: side of a training clip in pixels.
        test_size: side of a test clip in pixels, `crop_size` when absent.
        dropout: before the classifier.
        drop_path: stochastic depth of the last block.
        motion_stem: see `layers.motion_channels`.
        checkpoint: compute activations again in the backward pass, to save memory.

    Raises:
        UserError: if the name is unknown.
        ArgumentError: if the model does not take the value of an argument.
    """
    known = timm.list_models()
    if name not in known:
        raise unknown_name("timm model", name, known)
    test_size = crop_size if test_size is None else test_size
    options: dict[str, Any] = {"num_classes": num_classes, "drop_path_rate": drop_path}
    if motion_stem:
        options["in_chans"] = 6
    published = timm.get_pretrained_cfg(name)
    if published is not None and published.fixed_input_size:
        check_one_size(f"timm/{name}", crop_size, test_size)
        # Transformers are built for a size, and only some of them take another.
        if crop_size != published.input_size[-1]:
            options["img_size"] = crop_size
    image_model = _image_model(name, options)
    _check_classifier(name, image_model)
    if drop_path and not _has_stochastic_depth(image_model):
        raise no_stochastic_depth(f"timm/{name}", drop_path)
    # After the check: a rate that no block reads would have no effect, silently.
    model = FrameAverage(image_model, dropout, motion_stem)
    for side in {crop_size, test_size}:
        _try_frame(model, name, side, num_classes)
    if checkpoint:
        _recompute_blocks(name, image_model)
    return model


def _recompute_blocks(name: str, image_model: Any) -> None:
    """Let a model compute its activations again in the backward pass."""
    if any(isinstance(module, _BatchNorm) for module in image_model.modules()):
        raise ArgumentError(
            f"timm/{name}: cannot recompute activations, its BatchNorm would count each batch "
            "twice",
            "checkpoint",
        )
    try:
        image_model.set_grad_checkpointing(True)
    except (AssertionError, AttributeError):
        raise ArgumentError(f"timm/{name}: cannot recompute activations", "checkpoint") from None


def _check_classifier(name: str, image_model: Any) -> None:
    """Refuse a model whose classifier is not one linear layer that loading recognises."""
    classifier = image_model.get_classifier()
    heads = [key for key, module in image_model.named_modules() if module is classifier]
    if not isinstance(classifier, nn.Linear) or not is_head(f"{heads[0]}."):
        found = "several"
        if heads:
            found = heads[0]
        raise ArgumentError(
            f"timm/{name}: its classifier is not one linear layer under a usual name (found "
            f"{found}): take another model",
            "name",
        )


def _has_stochastic_depth(model: nn.Module) -> bool:
    """Return whether a block of a model is dropped at random."""
    return any(isinstance(module, DropPath) and module.drop_prob for module in model.modules())


@torch.no_grad()
def _try_frame(model: FrameAverage, name: str, side: int, num_classes: int) -> None:
    """Run one frame of a size: timm does not document the sizes that its models take."""
    parameter = next(model.parameters())
    try:
        logits = model.eval()(parameter.new_zeros(1, 3, 1, side, side))
    except (TypeError, ValueError, AssertionError, RuntimeError) as error:
        raise ArgumentError(
            f"timm/{name}: fails on frames of {side} px with motion_stem {model.motion_stem}: "
            f"{_first_line(error)}",
            "name",
            "motion_stem",
            "crop_size",
            "test_size",
        ) from None
    if logits.shape != (1, num_classes):
        raise ArgumentError(
            f"timm/{name}: gives {list(logits.shape)} instead of logits: take another model",
            "name",
        )
    model.train()


def _first_line(error: Exception) -> str:
    """Return the first line of an error's message, or its type."""
    return (str(error) or type(error).__name__).splitlines()[0]


def _image_model(name: str, options: dict[str, Any]) -> nn.Module:
    """Build an image model of timm, and name the argument that it does not take."""
    try:
        return _create(name, options)
    except (TypeError, ValueError, AssertionError, RuntimeError) as error:
        message = f"timm/{name} cannot be built so: {_first_line(error)}"
        argument = _refused_argument(name, options)
        if not argument:
            raise ArgumentError(message, "name") from None
        option = TIMM_OPTIONS[argument]
        raise ArgumentError(
            f"{argument} ({option} {options[option]}): {message}", argument
        ) from None


def _create(name: str, options: dict[str, Any]) -> nn.Module:
    """Call `timm.create_model`, without stochastic depth for models that do not know it."""
    try:
        return timm.create_model(name, pretrained=False, **options)
    except TypeError:
        # Some models take no `drop_path_rate`, others have a rate of their own unless given 0: so
        # all are asked with 0 first.
        if options.get("drop_path_rate", 1):
            raise
        others = {key: value for key, value in options.items() if key != "drop_path_rate"}
        return timm.create_model(name, pretrained=False, **others)


def _refused_argument(name: str, options: dict[str, Any]) -> str:
    """Return our argument without which a model can be built, or an empty string."""
    for argument, option in TIMM_OPTIONS.items():
        if option not in options:
            continue
        others = {key: value for key, value in options.items() if key != option}
        try:
            # Without memory: only whether it can be built matters.
            with torch.device("meta"):
                _create(name, others)
        except (TypeError, ValueError, AssertionError, RuntimeError):
            continue
        return argument
    return ""
