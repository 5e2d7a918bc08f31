"""Everything that can be named: models, enhancements, adapters, losses, estimators, writers.

Built-in names are added lazily, by the place of their builder, so that checking a configuration
imports none of them. A user's own module registers its names by decorator:

    from nightcrawler.utils.registries import MODELS

    @MODELS.register("my_net")
    def build_my_net(cfg):
        return MyNet(num_classes=cfg.MODEL.NUM_CLASSES)

and is imported by the key `IMPORTS`, or by an entry point of the group `nightcrawler.plugins`.
"""

from __future__ import annotations

from nightcrawler.utils.lazy_registry import Registry

# Builders take the configuration and return an `nn.Module`: clips `[B, 3, T, H, W]`, or
# `[B, 3, T, V]` of skeletons, to logits `[B, K]`.
MODELS = Registry("model")
MODELS.add("uniformer", "nightcrawler.models.build:build_uniformer", "UniFormer")
MODELS.add("mvit", "nightcrawler.models.build:build_mvit", "MViT or MViTv2")
MODELS.add("slowfast", "nightcrawler.models.build:build_slowfast", "SlowFast, as published")
MODELS.add(
    "resnet3d", "nightcrawler.models.build:build_resnet3d", "PySlowFast's ResNets: `RESNET.ARCH`"
)
MODELS.add("x3d", "nightcrawler.models.build:build_x3d", "X3D-S, M and others, section X3D")
for _name in (
    "mvit_v1_b",
    "mvit_v2_s",
    "swin3d_t",
    "swin3d_s",
    "swin3d_b",
    "r3d_18",
    "mc3_18",
    "r2plus1d_18",
    "s3d",
):
    MODELS.add(f"torchvision/{_name}", "nightcrawler.models.build_library:build_torchvision")
# Models of skeletons: clips `[B, 3, T, V]`.
MODELS.add("stgcn", "nightcrawler.models.build:build_stgcn", "ST-GCN++, of skeletons")
MODELS.add("poseconv", "nightcrawler.models.build:build_poseconv", "a small one, of skeletons")
MODELS.add(
    "poseconv3d", "nightcrawler.models.build:build_poseconv3d", "heatmaps of joints, of skeletons"
)
# Any name of timm: listing them takes seconds, so they are looked up when the model is built.
MODELS.add(
    "timm/", "nightcrawler.models.build_library:build_timm", "image model, averaged over frames"
)
# Any folder, or name of the Hugging Face hub.
MODELS.add(
    "transformers/",
    "nightcrawler.models.build_library:build_hub_video",
    "folder or name of a video model of the hub",
)

# Builders take the parameters of all enhancements and return a function from uint8 frames
# `[T, H, W, 3]` to frames of the same shape.
_ENHANCE = "nightcrawler.data.lowlight.enhance.build"
ENHANCEMENTS = Registry("enhancement")
ENHANCEMENTS.add("none", f"{_ENHANCE}:build_none", "frames unchanged")
ENHANCEMENTS.add("gamma", f"{_ENHANCE}:build_gamma", "one gamma for all clips")
ENHANCEMENTS.add("auto_gamma", f"{_ENHANCE}:build_auto_gamma", "a gamma for each clip")
ENHANCEMENTS.add("clahe", f"{_ENHANCE}:build_clahe", "local histogram equalisation")
ENHANCEMENTS.add("retinex", f"{_ENHANCE}:build_retinex", "multi-scale retinex")
ENHANCEMENTS.add("zero_dce", f"{_ENHANCE}:build_zero_dce", "a network; takes seconds per clip")

# Builders take the configuration and return an `Adapter`.
ADAPTERS = Registry("adapter")
ADAPTERS.add("none", "nightcrawler.adapt.build:build_none", "no adaptation")
ADAPTERS.add("batchnorm", "nightcrawler.adapt.build:build_batchnorm", "BatchNorm statistics")
ADAPTERS.add(
    "tent",
    "nightcrawler.adapt.build:build_tent",
    "BatchNorm statistics, then scales and shifts of all norm layers by entropy minimisation",
)
ADAPTERS.add(
    "infomax",
    "nightcrawler.adapt.build:build_infomax",
    "as tent, on certain clips only and with all classes predicted about equally often",
)

# Builders take the temperature and return a function from logits `[B, K]` and targets `[B, K]` to
# a scalar.
LOSSES = Registry("loss")
LOSSES.add("hard", "nightcrawler.engine.losses:cross_entropy_loss", "cross entropy with labels")
LOSSES.add(
    "soft", "nightcrawler.engine.losses:cross_entropy_loss", "cross entropy with probabilities"
)
LOSSES.add("kl", "nightcrawler.engine.losses:distillation_loss", "distillation")
LOSSES.add(
    "kl_published",
    "nightcrawler.engine.losses:distillation_published_loss",
    "as published: teacher divided by T, mean over all elements",
)

# Builders take `pose.estimators.base.EstimatorOptions` and return a `PoseEstimator`.
ESTIMATORS = Registry("estimator")
ESTIMATORS.add(
    "mediapipe", "nightcrawler.pose.estimators.blazepose:build_mediapipe", "BlazePose, 33 joints"
)
ESTIMATORS.add(
    "onnx",
    "nightcrawler.pose.estimators.top_down:build_onnx",
    "a top-down model of 17 COCO joints, such as RTMPose, in an ONNX file",
)

# Builders take `engine.writers.base.RunDescription` and return a `Writer`.
WRITERS = Registry("writer")
WRITERS.add(
    "tensorboard",
    "nightcrawler.engine.writers.tensorboard:build_tensorboard",
    "curves, pictures and settings in OUTPUT_DIR/tensorboard",
)
WRITERS.add(
    "trackio",
    "nightcrawler.engine.writers.trackio:build_trackio",
    "an extra: a database on this machine",
)
WRITERS.add(
    "wandb",
    "nightcrawler.engine.writers.wandb:build_wandb",
    "an extra: Weights & Biases, offline with WANDB_MODE=offline",
)
