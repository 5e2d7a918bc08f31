"""Models of torchvision and timm under this project's roof: clips `[B, 3, T, H, W]` to logits `[B, K]`.

Their entries keep the names they have at home, so that a state_dict saved there loads here. Nothing is downloaded.
"""

from __future__ import annotations

import functools
from typing import Any

import timm
import torch
from timm.layers import DropPath
from torch import Tensor, nn
from torch.nn import functional
from torchvision.models import video
from torchvision.models.video.mvit import MSBlockConfig

from nightcrawler.models.layers import motion_channels
from nightcrawler.models.pretrained import is_head
from nightcrawler.utils.errors import UserError
from nightcrawler.utils.registry import unknown_name

MVITS = ("mvit_v1_b", "mvit_v2_s")
# Width and depths (Liu et al. 2022, section 3.2).
SWINS = {
    "swin3d_t": (96, [2, 2, 6, 2]),
    "swin3d_s": (96, [2, 2, 18, 2]),
    "swin3d_b": (128, [2, 2, 18, 2]),
}
RESNETS = ("r3d_18", "mc3_18", "r2plus1d_18")
TORCHVISION = (*MVITS, *SWINS, *RESNETS, "s3d")
MVIT_DEPTHS = (1, 2, 11, 2)
MVIT_WIDTH = 96
S3D_LEAST = (5, 17)


def torchvision_video(
    name: str,
    *,
    num_classes: int,
    num_frames: int,
    crop_size: int,
    test_size: int,
    dropout: float = 0.0,
    drop_path: float = 0.0,
    motion_stem: bool = False,
) -> nn.Module:
    """A video model of torchvision with random weights.

    Args:
        name: one of `TORCHVISION`.
        num_classes: K.
        num_frames: T.
        crop_size, test_size: side of a training and of a test clip, in pixels.
        dropout: before the classifier.
        drop_path: stochastic depth of the last block; transformers only.
        motion_stem: see `motion_channels`.

    Raises:
        UserError: if the name is unknown, or the model cannot do what an argument asks.
    """
    if name not in TORCHVISION:
        raise unknown_name("torchvision model", name, TORCHVISION)
    if drop_path and name not in (*MVITS, *SWINS):
        raise UserError(
            f"MODEL.DROP_PATH_RATE {drop_path:g}: torchvision/{name} has no stochastic depth: set it to 0"
        )
    if name in MVITS:
        _check_one_size(f"torchvision/{name}", crop_size, test_size)
        model: nn.Module = _mvit(name, num_classes, num_frames, crop_size, dropout, drop_path)
    elif name == "s3d":
        _check_s3d_size(num_frames, min(crop_size, test_size))
        model = video.s3d(num_classes=num_classes, dropout=dropout)
        model.avgpool = ShrinkingAvgPool3d(model.avgpool.kernel_size)
    else:
        model = (
            _swin(name, num_classes, drop_path)
            if name in SWINS
            else getattr(video, name)(num_classes=num_classes)
        )
        # Their heads have no dropout of their own; after the pooling it does not change the names of entries.
        model.avgpool = nn.Sequential(model.avgpool, nn.Dropout(dropout))
    return _with_motion_stem(model) if motion_stem else model


def _check_one_size(name: str, crop_size: int, test_size: int) -> None:
    if crop_size != test_size:
        raise UserError(
            f"DATA.TEST_CROP_SIZE {test_size}: {name} is built for one size of clips, and DATA.TRAIN_CROP_SIZE is "
            f"{crop_size}: make them equal"
        )


def _mvit(
    name: str, num_classes: int, num_frames: int, crop_size: int, dropout: float, drop_path: float
) -> video.MViT:
    if crop_size % 4 or crop_size < 32:
        raise UserError(
            f"DATA.TRAIN_CROP_SIZE {crop_size}: torchvision/{name} takes multiples of 4 from 32 on"
        )
    if num_frames % 2:
        raise UserError(
            f"DATA.NUM_FRAMES {num_frames}: torchvision/{name} takes an even number of frames"
        )
    second = name == "mvit_v2_s"
    return video.MViT(
        spatial_size=(crop_size, crop_size),
        temporal_size=num_frames,
        block_setting=_mvit_blocks(second),
        residual_pool=second,
        residual_with_cls_embed=False,
        rel_pos_embed=second,
        proj_after_attn=second,
        dropout=dropout,
        stochastic_depth_prob=drop_path,
        num_classes=num_classes,
    )


def _mvit_blocks(second: bool) -> list[MSBlockConfig]:
    """The 16 blocks of MViT-B (Fan et al. 2021, table 2), or of MViTv2-S (Li et al. 2022, table 1)."""
    stages = [stage for stage, depth in enumerate(MVIT_DEPTHS) for _ in range(depth)]
    blocks = []
    for before, stage, after in zip([0, *stages[:-1]], stages, [*stages[1:], 3], strict=True):
        # The first version widens in the MLP that ends a stage, the second in the attention that starts the next.
        wide_in, wide_out = (before, stage) if second else (stage, after)
        pools = stage > before
        blocks.append(
            MSBlockConfig(
                num_heads=2**stage,
                input_channels=MVIT_WIDTH * 2**wide_in,
                output_channels=MVIT_WIDTH * 2**wide_out,
                kernel_q=[3, 3, 3] if pools or second else [],
                kernel_kv=[3, 3, 3],
                stride_q=[1, 2, 2] if pools else [1, 1, 1] if second else [],
                stride_kv=[1, 8 >> stage, 8 >> stage],
            )
        )
    return blocks


def _swin(name: str, num_classes: int, drop_path: float) -> video.SwinTransformer3d:
    width, depths = SWINS[name]
    return video.SwinTransformer3d(
        patch_size=[2, 4, 4],
        embed_dim=width,
        depths=depths,
        num_heads=[width // 32 * 2**stage for stage in range(4)],
        window_size=[8, 7, 7],
        stochastic_depth_prob=drop_path,
        num_classes=num_classes,
    )


def _check_s3d_size(num_frames: int, side: int) -> None:
    if num_frames < S3D_LEAST[0]:
        raise UserError(
            f"DATA.NUM_FRAMES {num_frames}: torchvision/s3d takes at least {S3D_LEAST[0]} frames"
        )
    if side < S3D_LEAST[1]:
        raise UserError(
            f"DATA.TRAIN_CROP_SIZE or TEST_CROP_SIZE {side}: torchvision/s3d takes at least {S3D_LEAST[1]}"
        )


class ShrinkingAvgPool3d(nn.Module):
    """Average pooling of stride 1 whose kernel is cut to maps that are smaller, so that small clips pass.

    Args:
        kernel: over time, height, width.
    """

    def __init__(self, kernel: tuple[int, int, int]) -> None:
        super().__init__()
        self.kernel = kernel

    def forward(self, x: Tensor) -> Tensor:
        """`[B, C, T, H, W]` to `[B, C, T', H', W']`."""
        kernel = [min(most, size) for most, size in zip(self.kernel, x.shape[2:], strict=True)]
        return functional.avg_pool3d(x, kernel, stride=1)


def _with_motion_stem(model: nn.Module) -> nn.Module:
    """The model with a first convolution of six channels, fed by `motion_channels`."""
    convolutions = (
        (name, module) for name, module in model.named_modules() if isinstance(module, nn.Conv3d)
    )
    name, stem = next(convolutions)
    bias = stem.bias is not None
    model.set_submodule(
        name,
        nn.Conv3d(6, stem.out_channels, stem.kernel_size, stem.stride, stem.padding, bias=bias),
    )
    model.register_forward_pre_hook(_add_motion)
    return model


def _add_motion(module: nn.Module, inputs: tuple[Tensor]) -> Tensor:
    return motion_channels(*inputs)


class FrameAverage:
    """What makes an image model of timm a video model: it sees every frame, and frames' features are averaged.

    It becomes a base class of the image model's class instead of a module around it, so that entries keep
    their names (`layer1.0.conv1.weight`, not `model.layer1...`).
    """

    motion_stem: bool
    frame_dropout: nn.Dropout

    def forward(self: Any, clip: Tensor) -> Tensor:
        """Clips `[B, 3, T, H, W]` to logits `[B, K]`."""
        frames = (motion_channels(clip) if self.motion_stem else clip).transpose(1, 2).flatten(0, 1)
        features = self.forward_head(self.forward_features(frames), pre_logits=True)
        averaged = features.unflatten(0, (clip.shape[0], -1)).mean(1)
        return self.get_classifier()(self.frame_dropout(averaged))


def timm_frames(
    name: str,
    *,
    num_classes: int,
    crop_size: int,
    test_size: int,
    dropout: float = 0.0,
    drop_path: float = 0.0,
    motion_stem: bool = False,
) -> nn.Module:
    """An image model of timm, with random weights, run on every frame: see `FrameAverage`.

    Args:
        name: one of `timm.list_models()`.
        num_classes, crop_size, test_size, dropout, drop_path, motion_stem: as for `torchvision_video`.

    Raises:
        UserError: if the name is unknown, or the model cannot do what an argument asks.
    """
    known = timm.list_models()
    if name not in known:
        raise unknown_name("timm model", name, known)
    options = {"num_classes": num_classes, "drop_path_rate": drop_path}
    if motion_stem:
        options["in_chans"] = 6
    home = timm.get_pretrained_cfg(name)
    if home is not None and home.fixed_input_size:
        _check_one_size(f"timm/{name}", crop_size, test_size)
        if crop_size != home.input_size[-1]:
            options["img_size"] = crop_size
    model = _image_model(name, options)
    classifier = model.get_classifier()
    heads = [f"{key}." for key, module in model.named_modules() if module is classifier]
    if not isinstance(classifier, nn.Linear) or not is_head(heads[0]):
        raise UserError(
            f"MODEL.NAME timm/{name}: its classifier is not one linear layer under a usual name (found "
            f"{heads[0].rstrip('.') if heads else 'several'}): take another model"
        )
    if drop_path and not any(
        isinstance(module, DropPath) and module.drop_prob for module in model.modules()
    ):
        raise UserError(
            f"MODEL.DROP_PATH_RATE {drop_path:g}: timm/{name} has no stochastic depth: set it to 0"
        )
    model.__class__ = type(f"FrameAverage{type(model).__name__}", (FrameAverage, type(model)), {})
    model.motion_stem, model.frame_dropout = motion_stem, nn.Dropout(dropout)
    for side in {crop_size, test_size}:
        _try_frame(model, name, side, num_classes)
    return model


@torch.no_grad()
def _try_frame(model: nn.Module, name: str, side: int, num_classes: int) -> None:
    """One frame of the size it will see: what timm's models need of a size is written nowhere."""
    parameter = next(model.parameters())
    try:
        logits = model.eval()(parameter.new_zeros(1, 3, 1, side, side))
    except (TypeError, ValueError, AssertionError, RuntimeError) as error:
        reason = (str(error) or type(error).__name__).splitlines()[0]
        raise UserError(
            f"MODEL.NAME timm/{name}: fails on frames of {side} px with MODEL.MOTION_STEM {model.motion_stem} "
            f"(DATA.TRAIN_CROP_SIZE, DATA.TEST_CROP_SIZE): {reason}"
        ) from None
    if logits.shape != (1, num_classes):
        raise UserError(
            f"MODEL.NAME timm/{name}: gives {list(logits.shape)} instead of logits: take another model"
        )
    model.train()


# Key behind each argument that not all models of timm take.
TIMM_KEYS = {
    "drop_path_rate": "MODEL.DROP_PATH_RATE",
    "in_chans": "MODEL.MOTION_STEM",
    "img_size": "DATA.TRAIN_CROP_SIZE",
}


def _image_model(name: str, options: dict[str, Any]) -> Any:
    """`timm.create_model`, whose complaints become errors that name a key."""
    create = functools.partial(timm.create_model, name, pretrained=False)
    try:
        try:
            return create(**options)
        except TypeError as error:
            # Some models have no stochastic depth, others have some unless told: so they are asked first.
            if "drop_path_rate" not in str(error) or options["drop_path_rate"]:
                raise
            return create(
                **{key: value for key, value in options.items() if key != "drop_path_rate"}
            )
    except (TypeError, ValueError, AssertionError, RuntimeError) as error:
        reason = (str(error) or type(error).__name__).splitlines()[0]
        asked = [
            f"{key} ({option} {options[option]})"
            for option, key in TIMM_KEYS.items()
            if option in reason
        ]
        key = asked[0] if asked else "MODEL.NAME"
        raise UserError(f"{key}: timm/{name} cannot be built so: {reason}") from None
