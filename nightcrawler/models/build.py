"""Build models by name: from a configuration (`build_model`) or keyword arguments (`create_model`).

`utils.registries.MODELS` is the list of names. This is the only module that maps `MODEL` and the
architectures' sections to arguments.
"""

from __future__ import annotations

import fnmatch
import inspect
import pkgutil
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from fvcore.common.config import CfgNode
from torch import nn

from nightcrawler.download.hub_folder import HUB_FAMILY
from nightcrawler.models.build_finetuning import build_finetuned
from nightcrawler.models.mvit import MViT
from nightcrawler.models.mvit_attention import AttentionStyle
from nightcrawler.models.mvit_layout import MViTLayout
from nightcrawler.models.poseconv import PoseConv
from nightcrawler.models.poseconv3d import PoseConv3D
from nightcrawler.models.pretrained import load_pretrained
from nightcrawler.models.resnet3d import ResNet3D
from nightcrawler.models.resnet3d_layout import NONLOCAL_BLOCKS, PLAIN, ResNetLayout
from nightcrawler.models.slowfast import SlowFast
from nightcrawler.models.stgcn import StGcn
from nightcrawler.models.uniformer import UniFormer
from nightcrawler.models.x3d import X3D
from nightcrawler.utils.errors import ArgumentError, UserError, argument_keys
from nightcrawler.utils.lazy_registry import unknown_name
from nightcrawler.utils.registries import MODELS

TORCHVISION_FAMILY = "torchvision/"
TIMM_FAMILY = "timm/"

# Keys behind arguments that models refuse, for errors of `build_model`.
COMMON_KEYS = {
    "name": "MODEL.NAME",
    "num_frames": "DATA.NUM_FRAMES",
    "size": "DATA.TRAIN_CROP_SIZE",
    "crop_size": "DATA.TRAIN_CROP_SIZE",
    "test_size": "DATA.TEST_CROP_SIZE",
    "mean": "DATA.MEAN",
    "std": "DATA.STD",
    "drop_path": "MODEL.DROP_PATH_RATE",
    "motion_stem": "MODEL.MOTION_STEM",
    "checkpoint": "MODEL.USE_CHECKPOINT",
    "probe": "MODEL.PROBE",
    "lora_rank": "MODEL.LORA_RANK",
    "alpha": "SLOWFAST.ALPHA",
    "beta_inv": "SLOWFAST.BETA_INV",
    "fusion_kernel": "SLOWFAST.FUSION_KERNEL_SZ",
}
ARCHITECTURE_KEYS = {
    "slowfast": {"width": "SLOWFAST.WIDTH"},
    "resnet3d": {"width": "RESNET.WIDTH_PER_GROUP"},
    "stgcn": {"width": "SKELETON.WIDTH", "streams": "SKELETON.STREAMS"},
    "poseconv3d": {"streams": "SKELETON.STREAMS"},
    "poseconv": {"width": "SKELETON.WIDTH", "streams": "SKELETON.STREAMS"},
    "mvit": {
        "embed_dim": "MVIT.EMBED_DIM",
        "num_heads": "MVIT.NUM_HEADS",
        "dim_mul": "MVIT.DIM_MUL",
        "head_mul": "MVIT.HEAD_MUL",
        "q_stride": "MVIT.POOL_Q_STRIDE",
        "kv_stride": "MVIT.POOL_KV_STRIDE",
        "kernel": "MVIT.POOL_KVQ_KERNEL",
        "mode": "MVIT.MODE",
        "pool_first": "MVIT.POOL_FIRST",
        "patch_kernel": "MVIT.PATCH_KERNEL",
        "patch_stride": "MVIT.PATCH_STRIDE",
    },
}


def build_uniformer(cfg: CfgNode) -> nn.Module:
    """Build a UniFormer from `UNIFORMER`.

    Args:
        cfg: whole configuration.
    """
    model = cfg.MODEL
    section = cfg.UNIFORMER
    return UniFormer(
        num_classes=model.NUM_CLASSES,
        depth=section.DEPTH,
        embed_dim=section.EMBED_DIM,
        head_dim=section.HEAD_DIM,
        mlp_ratio=section.MLP_RATIO,
        qkv_bias=section.QKV_BIAS,
        dropout=section.DROPOUT_RATE,
        attention_dropout=section.ATTENTION_DROPOUT_RATE,
        drop_path=model.DROP_PATH_RATE,
        head_dropout=model.DROPOUT_RATE,
        split=section.SPLIT,
        std=section.STD,
        patch_norm=section.PATCH_NORM,
        motion_stem=model.MOTION_STEM,
        checkpoint=model.CHECKPOINT_NUM if model.USE_CHECKPOINT else (0,),
    )


def build_mvit(cfg: CfgNode) -> nn.Module:
    """Build an MViT or MViTv2 from `MVIT`, for training clips of `DATA`.

    Args:
        cfg: whole configuration.
    """
    model = cfg.MODEL
    section = cfg.MVIT
    return MViT(
        num_classes=model.NUM_CLASSES,
        num_frames=cfg.DATA.NUM_FRAMES,
        size=cfg.DATA.TRAIN_CROP_SIZE,
        layout=_build_mvit_layout(cfg),
        attention=_build_attention_style(cfg),
        mlp_ratio=section.MLP_RATIO,
        patch_kernel=section.PATCH_KERNEL,
        patch_stride=section.PATCH_STRIDE,
        patch_padding=section.PATCH_PADDING,
        cls_token=section.CLS_EMBED_ON,
        mean_pooling=section.USE_MEAN_POOLING,
        norm_stem=section.NORM_STEM,
        abs_pos=section.USE_ABS_POS,
        sep_pos_embed=section.SEP_POS_EMBED,
        dropout=section.DROPOUT_RATE,
        drop_path=model.DROP_PATH_RATE,
        head_dropout=model.DROPOUT_RATE,
        motion_stem=model.MOTION_STEM,
        checkpoint=sum(model.CHECKPOINT_NUM) if model.USE_CHECKPOINT else 0,
    )


def _build_mvit_layout(cfg: CfgNode) -> MViTLayout:
    """Build the layout of an MViT from `MVIT`."""
    section = cfg.MVIT
    return MViTLayout(
        depth=section.DEPTH,
        embed_dim=section.EMBED_DIM,
        num_heads=section.NUM_HEADS,
        dim_mul=section.DIM_MUL,
        head_mul=section.HEAD_MUL,
        dim_mul_in_att=section.DIM_MUL_IN_ATT,
        q_stride=section.POOL_Q_STRIDE,
        kv_stride=section.POOL_KV_STRIDE,
        kv_stride_adaptive=section.POOL_KV_STRIDE_ADAPTIVE,
        kernel=section.POOL_KVQ_KERNEL,
    )


def _build_attention_style(cfg: CfgNode) -> AttentionStyle:
    """Build the settings of an MViT's attention from `MVIT`."""
    section = cfg.MVIT
    return AttentionStyle(
        mode=section.MODE,
        pool_first=section.POOL_FIRST,
        separate_qkv=section.SEPARATE_QKV,
        qkv_bias=section.QKV_BIAS,
        rel_pos_spatial=section.REL_POS_SPATIAL,
        rel_pos_temporal=section.REL_POS_TEMPORAL,
        residual_pooling=section.RESIDUAL_POOLING,
        norm_eps=section.POOL_NORM_EPS,
    )


def build_slowfast(cfg: CfgNode) -> nn.Module:
    """Build the method's SlowFast from `SLOWFAST`.

    Args:
        cfg: whole configuration.
    """
    model = cfg.MODEL
    section = cfg.SLOWFAST
    return SlowFast(
        num_classes=model.NUM_CLASSES,
        depth=section.DEPTH,
        width=section.WIDTH,
        alpha=section.ALPHA,
        beta_inv=section.BETA_INV,
        fusion_ratio=section.FUSION_CONV_CHANNEL_RATIO,
        fusion_kernel=section.FUSION_KERNEL_SZ,
        dropout=model.DROPOUT_RATE,
        frozen_bn=section.FROZEN_BN,
        motion_stem=model.MOTION_STEM,
    )


def build_resnet3d(cfg: CfgNode) -> nn.Module:
    """Build PySlowFast's SlowFast, Slow, C2D or I3D from `RESNET`, and pathways from `SLOWFAST`.

    Args:
        cfg: whole configuration.
    """
    model = cfg.MODEL
    section = cfg.RESNET
    pathways = cfg.SLOWFAST
    nonlocal_blocks = PLAIN.nonlocal_blocks
    if section.NONLOCAL:
        nonlocal_blocks = NONLOCAL_BLOCKS
    return ResNet3D(
        num_classes=model.NUM_CLASSES,
        arch=section.ARCH,
        depth=section.DEPTH,
        width=section.WIDTH_PER_GROUP,
        layout=ResNetLayout(groups=section.NUM_GROUPS, nonlocal_blocks=nonlocal_blocks),
        alpha=pathways.ALPHA,
        beta_inv=pathways.BETA_INV,
        fusion_ratio=pathways.FUSION_CONV_CHANNEL_RATIO,
        fusion_kernel=pathways.FUSION_KERNEL_SZ,
        dropout=model.DROPOUT_RATE,
        motion_stem=model.MOTION_STEM,
    )


def build_x3d(cfg: CfgNode) -> nn.Module:
    """Build PySlowFast's X3D from `X3D`.

    Args:
        cfg: whole configuration.
    """
    section = cfg.X3D
    return X3D(
        num_classes=cfg.MODEL.NUM_CLASSES,
        width=section.WIDTH_FACTOR,
        depth=section.DEPTH_FACTOR,
        bottleneck=section.BOTTLENECK_FACTOR,
        dropout=cfg.MODEL.DROPOUT_RATE,
        motion_stem=cfg.MODEL.MOTION_STEM,
    )


def build_stgcn(cfg: CfgNode) -> nn.Module:
    """Build an ST-GCN++ from `SKELETON`."""
    return StGcn(**_skeleton_options_of(cfg))


def build_poseconv(cfg: CfgNode) -> nn.Module:
    """Build a PoseConv from `SKELETON`."""
    return PoseConv(**_skeleton_options_of(cfg))


def build_poseconv3d(cfg: CfgNode) -> nn.Module:
    """Build a PoseConv3D from `SKELETON`."""
    return PoseConv3D(**_skeleton_options_of(cfg))


def _skeleton_options_of(cfg: CfgNode) -> dict[str, Any]:
    # The three take the same, so that MODEL.NAME alone changes one for another.
    return {
        "num_classes": cfg.MODEL.NUM_CLASSES,
        "width": cfg.SKELETON.WIDTH,
        "streams": cfg.SKELETON.STREAMS,
        "dropout": cfg.MODEL.DROPOUT_RATE,
    }


def build_model(cfg: CfgNode) -> nn.Module:
    """Build the model named by `MODEL.NAME`, with random weights. The caller sets the seed.

    Args:
        cfg: whole configuration.

    Raises:
        UserError: if the name is unknown, or the model does not take a value. The message names
            the keys.
    """
    name = cfg.MODEL.NAME
    builder = MODELS.get(name)
    with argument_keys({**COMMON_KEYS, **ARCHITECTURE_KEYS.get(name, {})}):
        return build_finetuned(cfg, builder(cfg))


def list_models(pattern: str = "") -> list[str]:
    """List the names of models, for `create_model` and `MODEL.NAME`.

    Args:
        pattern: shell-style pattern that names must match. Models of timm, of which there are over
            a thousand, are listed only for a pattern that begins with `timm/`.

    Example:
        >>> list_models("torchvision/mvit*")
        ['torchvision/mvit_v1_b', 'torchvision/mvit_v2_s']
        >>> "timm/resnet50" in list_models("timm/resnet*")
        True
    """
    # A family is listed as `timm/NAME`.
    names = [name for name in MODELS.names() if not name.endswith("/NAME")]
    if pattern.startswith(TIMM_FAMILY):
        import timm

        names = [TIMM_FAMILY + name for name in timm.list_models()]
    return sorted(fnmatch.filter(names, pattern or "*"))


def create_model(
    name: str,
    num_classes: int,
    *,
    pretrained: str | Path | None = None,
    class_names: Sequence[str] = (),
    **options: Any,
) -> nn.Module:
    """Create a model from keyword arguments, in training mode.

    The defaults are those of the published models: UniFormer-B, MViT-B 32x3, SlowFast-R101,
    SlowFast-R50 of PySlowFast (`resnet3d`) and ST-GCN++ (`stgcn`).

    Args:
        name: one of `list_models()`, `timm/` and a name of timm, or `transformers/` and a folder or
            a name of the Hugging Face hub.
        num_classes: K.
        pretrained: checkpoint to load, a file or a name of `zoo.ZOO`. Random weights when absent.
        class_names: names of the K classes, to reorder a classifier that has names.
        options: arguments of the architecture, such as `drop_path`, `num_frames` or `depth`, see
            `UniFormer`, `MViT`, `SlowFast`, `ResNet3D`, `X3D`, `StGcn`, `PoseConv`, `PoseConv3D`,
            `torchvision_video`, `timm_frames`, `hub_video`.

    Returns:
        A module from clips `[B, 3, T, H, W]`, or `[B, 3, T, V]` of skeletons, to logits `[B, K]`.

    Raises:
        UserError: if the name or an option is unknown (the message names close ones), a value does
            not fit the architecture, or the checkpoint does not fill the model.

    Example:
        >>> import torch
        >>> model = create_model("uniformer", num_classes=11, depth=(1, 1, 2, 1), drop_path=0.1)
        >>> model(torch.zeros(2, 3, 8, 64, 64)).shape
        torch.Size([2, 11])
    """
    constructor, fixed = _constructor(name)
    # Checked here, because a TypeError of Python names neither the model nor close arguments.
    known = inspect.signature(constructor).parameters.keys() - {"self", "name", "num_classes"}
    for option in options:
        if option not in known:
            raise unknown_name(f"argument of {name}", option, known)
    if class_names and len(class_names) != num_classes:
        raise ArgumentError(
            f"class_names: {len(class_names)} names for num_classes {num_classes}", "class_names"
        )
    model = constructor(*fixed, num_classes=num_classes, **options)
    # Weights come last: their classifier is matched with the classes of this model.
    if pretrained is not None:
        load_pretrained(model, pretrained, class_names=class_names)
    return model


CONSTRUCTORS: dict[str, Callable[..., nn.Module]] = {
    "uniformer": UniFormer,
    "mvit": MViT,
    "slowfast": SlowFast,
    "resnet3d": ResNet3D,
    "x3d": X3D,
    "stgcn": StGcn,
    "poseconv": PoseConv,
    "poseconv3d": PoseConv3D,
}
# Of libraries, which take the name after the slash: imported when used, since that takes seconds.
LIBRARY_CONSTRUCTORS = {
    TORCHVISION_FAMILY: "nightcrawler.models.external:torchvision_video",
    TIMM_FAMILY: "nightcrawler.models.frame_average:timm_frames",
    HUB_FAMILY: "nightcrawler.models.hub_video:hub_video",
}


def _constructor(name: str) -> tuple[Callable[..., nn.Module], tuple[str, ...]]:
    """Return the constructor of a model, and its fixed arguments."""
    family, slash, rest = name.partition("/")
    if name not in MODELS:
        raise MODELS.unknown(name)
    place = LIBRARY_CONSTRUCTORS.get(family + slash)
    if place is not None:
        return pkgutil.resolve_name(place), (rest,)
    constructor = CONSTRUCTORS.get(family + slash)
    # A model of the user's own module registers a builder only.
    if constructor is None:
        raise UserError(
            f"model '{name}' is registered for configurations only: set MODEL.NAME {name}, or add "
            "its class to CONSTRUCTORS"
        )
    return constructor, (rest,) if slash else ()
