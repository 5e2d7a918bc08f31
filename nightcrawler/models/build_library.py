"""Build the models of libraries from a configuration: torchvision, timm, transformers.

Their errors name arguments; `build.build_model` adds the keys behind them.
"""

from __future__ import annotations

from fvcore.common.config import CfgNode
from torch import nn

from nightcrawler.models.external import torchvision_video
from nightcrawler.models.frame_average import timm_frames
from nightcrawler.models.hub_video import hub_video
from nightcrawler.utils.errors import ArgumentError


def build_torchvision(cfg: CfgNode) -> nn.Module:
    """Build the video model of torchvision that `MODEL.NAME` names after the slash.

    Args:
        cfg: whole configuration.
    """
    model = cfg.MODEL
    data = cfg.DATA
    return torchvision_video(
        model.NAME.partition("/")[2],
        num_classes=model.NUM_CLASSES,
        num_frames=data.NUM_FRAMES,
        crop_size=data.TRAIN_CROP_SIZE,
        test_size=data.TEST_CROP_SIZE,
        dropout=model.DROPOUT_RATE,
        drop_path=model.DROP_PATH_RATE,
        motion_stem=model.MOTION_STEM,
    )


def build_timm(cfg: CfgNode) -> nn.Module:
    """Build the image model of timm that `MODEL.NAME` names after the slash, for frames.

    Args:
        cfg: whole configuration.
    """
    model = cfg.MODEL
    data = cfg.DATA
    return timm_frames(
        model.NAME.partition("/")[2],
        num_classes=model.NUM_CLASSES,
        crop_size=data.TRAIN_CROP_SIZE,
        test_size=data.TEST_CROP_SIZE,
        dropout=model.DROPOUT_RATE,
        drop_path=model.DROP_PATH_RATE,
        motion_stem=model.MOTION_STEM,
        checkpoint=model.USE_CHECKPOINT,
    )


def build_hub_video(cfg: CfgNode) -> nn.Module:
    """Build the video model of transformers in the folder that `MODEL.NAME` names after the slash.

    Args:
        cfg: whole configuration.

    Raises:
        ArgumentError: if `DATA` is not what the folder's processor does.
    """
    model = cfg.MODEL
    data = cfg.DATA
    if model.MOTION_STEM:
        raise ArgumentError(f"motion_stem True: {model.NAME} sees three channels", "motion_stem")
    return hub_video(
        model.NAME.partition("/")[2],
        num_classes=model.NUM_CLASSES,
        num_frames=data.NUM_FRAMES,
        crop_size=data.TRAIN_CROP_SIZE,
        test_size=data.TEST_CROP_SIZE,
        mean=data.MEAN,
        std=data.STD,
        dropout=model.DROPOUT_RATE,
        drop_path=model.DROP_PATH_RATE,
        checkpoint=model.USE_CHECKPOINT,
    )
