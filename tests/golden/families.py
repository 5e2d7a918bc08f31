"""From a case's resolved configuration (the reference's keys) to one of our models."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from torch import nn

from nightcrawler.models.mvit import AttentionStyle, MViT
from nightcrawler.models.mvit_layout import MViTLayout
from nightcrawler.models.resnet3d import ResNet3D
from nightcrawler.models.resnet3d_layout import ARCHS, ResNetLayout
from nightcrawler.models.slowfast import SlowFast
from nightcrawler.models.uniformer import UniFormer
from tests.golden.fields import Refusal

Resolved = Mapping[str, Any]

# Settings that our models have no choice of, with the only value that they know.
FIXED = {
    "MODEL.HEAD_ACT": "softmax",
    "UNIFORMER.REPRESENTATION_SIZE": None,
    "SF.PRETRAIN_NAME": "SlowFast-ResNet101-8x8",
    "SF.NONLOCAL.FROZEN_BN": False,
    "RESNET.TRANS_FUNC": "bottleneck_transform",
    "BN.NORM_TYPE": "batchnorm",
    "MVIT.PATCH_2D": False,
    "MVIT.NORM": "layernorm",
    "MVIT.LAYER_SCALE_INIT_VALUE": 0.0,
    "MVIT.ZERO_DECAY_POS_CLS": False,
    "MVIT.USE_FIXED_SINCOS_POS": False,
}
# Settings without effect on a case: initial values, which the fill replaces, sizes where the model
# takes any, and what the reference accepts and does not read.
UNUSED = (
    "MODEL.DROPOUT_RATE",
    "DATA.NUM_FRAMES",
    "DATA.TRAIN_CROP_SIZE",
    "DATA.TEST_CROP_SIZE",
    "DATA.INPUT_CHANNEL_NUM",
    "RESNET.INPLACE_RELU",
    "RESNET.ZERO_INIT_FINAL_BN",
    "RESNET.ZERO_INIT_FINAL_CONV",
    "MVIT.POOL_FIRST",
    "MVIT.REL_POS_ZERO_INIT",
    "MVIT.HEAD_INIT_SCALE",
)


def uniformer(config: Resolved, drop: float) -> nn.Module:
    section = config["UNIFORMER"]
    return UniFormer(
        num_classes=config["MODEL"]["NUM_CLASSES"],
        depth=section["DEPTH"],
        embed_dim=section["EMBED_DIM"],
        head_dim=section["HEAD_DIM"],
        mlp_ratio=section["MLP_RATIO"],
        qkv_bias=section["QKV_BIAS"],
        qk_scale=section["QKV_SCALE"],
        dropout=drop * section["DROPOUT_RATE"],
        attention_dropout=drop * section["ATTENTION_DROPOUT_RATE"],
        drop_path=drop * section["DROP_DEPTH_RATE"],
        split=section["SPLIT"],
        std=section["STD"],
    )


def sf(config: Resolved, drop: float) -> nn.Module:
    section = config["SF"]
    return SlowFast(
        num_classes=config["MODEL"]["NUM_CLASSES"],
        dropout=drop * section["DROPOUT_RATE"],
        frozen_bn=section["FROZEN_BN"],
    )


def slowfast(config: Resolved, drop: float) -> nn.Module:
    model, section, nonlocal_blocks = config["MODEL"], config["RESNET"], config["NONLOCAL"]
    layout = ResNetLayout(
        groups=section["NUM_GROUPS"],
        # The reference reads this key only where there is one pathway.
        stride_first=section["STRIDE_1X1"] and model["ARCH"] != "slowfast",
        strides=section["SPATIAL_STRIDES"],
        dilations=section["SPATIAL_DILATIONS"],
        temporal_blocks=section["NUM_BLOCK_TEMP_KERNEL"],
        nonlocal_blocks=nonlocal_blocks["LOCATION"],
        nonlocal_groups=nonlocal_blocks["GROUP"],
        nonlocal_pools=nonlocal_blocks["POOL"],
        nonlocal_kind=nonlocal_blocks["INSTANTIATION"],
    )
    names = {
        "alpha": "ALPHA",
        "beta_inv": "BETA_INV",
        "fusion_ratio": "FUSION_CONV_CHANNEL_RATIO",
        "fusion_kernel": "FUSION_KERNEL_SZ",
    }
    pathways = config.get("SLOWFAST")
    return ResNet3D(
        num_classes=model["NUM_CLASSES"],
        arch=model["ARCH"],
        depth=section["DEPTH"],
        width=section["WIDTH_PER_GROUP"],
        layout=layout,
        dropout=drop * model["DROPOUT_RATE"],
        head_window=config["DATA"]["TRAIN_CROP_SIZE"] // 32,
        **({name: pathways[key] for name, key in names.items()} if pathways else {}),
    )


def mvit(config: Resolved, drop: float) -> nn.Module:
    """The method's MViT: without PySlowFast's later keys, POOL_FIRST is not read, default norm of pooled tokens."""
    section = config["MVIT"]
    attention = AttentionStyle(mode=section["MODE"], qkv_bias=section["QKV_BIAS"])
    return _mvit(config, attention, drop)


def mvit_fb(config: Resolved, drop: float) -> nn.Module:
    section = config["MVIT"]
    attention = AttentionStyle(
        mode=section["MODE"],
        pool_first=section["POOL_FIRST"],
        separate_qkv=section["SEPARATE_QKV"],
        qkv_bias=section["QKV_BIAS"],
        rel_pos_spatial=section["REL_POS_SPATIAL"],
        rel_pos_temporal=section["REL_POS_TEMPORAL"],
        residual_pooling=section["RESIDUAL_POOLING"],
        norm_eps=1e-6,
    )
    return _mvit(config, attention, drop)


def _mvit(config: Resolved, attention: AttentionStyle, drop: float) -> nn.Module:
    model, data, section = config["MODEL"], config["DATA"], config["MVIT"]
    # The reference works the strides out where there is an adaptive one, whatever is listed.
    listed, adaptive = section["POOL_KV_STRIDE"] or (), section["POOL_KV_STRIDE_ADAPTIVE"] or ()
    in_attention = section.get("DIM_MUL_IN_ATT", False)
    # The reference takes rows that change nothing, too.
    first, last = (0, section["DEPTH"] - 1) if in_attention else (1, section["DEPTH"])
    layout = MViTLayout(
        depth=section["DEPTH"],
        embed_dim=section["EMBED_DIM"],
        num_heads=section["NUM_HEADS"],
        dim_mul=[row for row in section["DIM_MUL"] if first <= row[0] <= last],
        head_mul=[row for row in section["HEAD_MUL"] if row[0] <= last],
        dim_mul_in_att=in_attention,
        q_stride=section["POOL_Q_STRIDE"],
        kv_stride=() if adaptive else listed,
        kv_stride_adaptive=adaptive,
        kernel=section["POOL_KVQ_KERNEL"] or (),
    )
    return MViT(
        num_classes=model["NUM_CLASSES"],
        num_frames=data["NUM_FRAMES"],
        size=data["TRAIN_CROP_SIZE"],
        layout=layout,
        attention=attention,
        mlp_ratio=section["MLP_RATIO"],
        patch_kernel=section["PATCH_KERNEL"],
        patch_stride=section["PATCH_STRIDE"],
        patch_padding=section["PATCH_PADDING"],
        cls_token=section["CLS_EMBED_ON"],
        mean_pooling=section.get("USE_MEAN_POOLING", False),
        norm_stem=section["NORM_STEM"],
        abs_pos=section.get("USE_ABS_POS", True),
        sep_pos_embed=section["SEP_POS_EMBED"],
        dropout=drop * section["DROPOUT_RATE"],
        drop_path=drop * section["DROPPATH_RATE"],
        head_dropout=drop * model["DROPOUT_RATE"],
    )


FAMILIES: dict[str, Callable[[Resolved, float], nn.Module]] = {
    "uniformer": uniformer,
    "sf": sf,
    "slowfast": slowfast,
    "mvit": mvit,
    "mvit_fb": mvit_fb,
}
# Those whose reference returns probabilities in eval mode.
SOFTMAX_IN_EVAL = ("slowfast", "mvit", "mvit_fb")


def build_family(family: str, config: Resolved, dropout: bool = True) -> nn.Module:
    """Our model of a family, with the case's sizes and rates.

    Args:
        family: a name of `FAMILIES`.
        config: the reference's keys, resolved.
        dropout: with the rates of dropout and drop-path; without them all are 0.

    Raises:
        Refusal: if the configuration has a value that our models do not know.
    """
    if family_of(config) != family:
        raise Refusal(f"family {family!r}, but resolved_config is of {family_of(config)!r}")
    for path, only in FIXED.items():
        value = _setting(config, path, only)
        if value != only:
            raise Refusal(f"resolved_config.{path} is {value!r}, expected {only!r}")
    for path in UNUSED:
        _setting(config, path)
    return FAMILIES[family](config, float(dropout))


def family_of(config: Resolved) -> str:
    """The family of a configuration.

    Raises:
        Refusal: if its architecture and model's name are of none.
    """
    arch, name = config["MODEL"]["ARCH"], config["MODEL"]["MODEL_NAME"]
    if name == "MViT" and arch == "mvit":
        # The method's MViT is older than this key of PySlowFast.
        return "mvit_fb" if "SEPARATE_QKV" in config["MVIT"] else "mvit"
    if name in ("SlowFast", "ResNet") and arch in ARCHS:
        return "slowfast"
    if (arch, name) in (("uniformer", "Uniformer"), ("sf", "SF")):
        return str(arch)
    raise Refusal(f"resolved_config.MODEL is {arch!r}, {name!r}: a model of no known family")


def _setting(config: Resolved, path: str, default: Any = None) -> Any:
    """The value of a setting such as `MVIT.NORM`, `default` where there is none."""
    value: Any = config
    for name in path.split("."):
        if name not in value:
            return default
        value = value[name]
    return value
