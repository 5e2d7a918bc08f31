"""Tiny models of every family of transformers, saved as folders with their processors."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import Tensor

NUM_LABELS = 7
FRAMES = 4
SIDE = 32
_WIDTH = {"hidden_size": 24, "num_attention_heads": 2, "intermediate_size": 48}
_DEPTH = {"num_hidden_layers": 2}
_SQUARE = {"image_size": SIDE, "num_frames": FRAMES, "num_labels": NUM_LABELS}

# Family to class of its settings and their values. The second version of VideoMAE is one of larger
# patches and another width of its MLP (Wang et al. 2023), in the format of the first.
SETTINGS: dict[str, tuple[str, dict[str, Any]]] = {
    "videomae": ("VideoMAEConfig", {**_WIDTH, **_DEPTH, **_SQUARE, "patch_size": 8}),
    "videomae_v2": (
        "VideoMAEConfig",
        {
            **_WIDTH,
            **_DEPTH,
            **_SQUARE,
            "image_size": 28,
            "patch_size": 14,
            "intermediate_size": 104,
            "use_mean_pooling": True,
        },
    ),
    "vjepa2": (
        "VJEPA2Config",
        {
            **_DEPTH,
            "hidden_size": 48,
            "num_attention_heads": 2,
            "mlp_ratio": 2.0,
            "crop_size": SIDE,
            "patch_size": 8,
            "frames_per_clip": FRAMES,
            "num_pooler_layers": 1,
            "pred_hidden_size": 24,
            "pred_num_attention_heads": 2,
            "pred_num_hidden_layers": 1,
            "num_labels": NUM_LABELS,
        },
    ),
    "timesformer": ("TimesformerConfig", {**_WIDTH, **_DEPTH, **_SQUARE, "patch_size": 8}),
    "vivit": ("VivitConfig", {**_WIDTH, **_DEPTH, **_SQUARE, "tubelet_size": [2, 8, 8]}),
    "videoprism": (
        "VideoPrismVisionConfig",
        {
            **_WIDTH,
            **_SQUARE,
            "tubelet_size": [1, 8, 8],
            "num_spatial_layers": 2,
            "num_temporal_layers": 1,
        },
    ),
}
# Mean and standard deviation of pixels in [0, 1]. ViViT scales them to [-1, 1] first.
NORMS = {
    "vjepa2": ([0.485, 0.456, 0.406], [0.229, 0.224, 0.225]),
    "vivit": ([0.75] * 3, [0.25] * 3),
    "videoprism": ([0.0] * 3, [1.0] * 3),
}
PLAIN_NORM = ([0.5] * 3, [0.5] * 3)


def side_of(family: str) -> int:
    return SETTINGS[family][1].get("image_size", SIDE)


def save_folder(family: str, folder: Path, **settings: Any) -> Path:
    """A folder as the library saves it, of random weights."""
    import transformers

    kind, values = SETTINGS[family]
    config = getattr(transformers, kind)(**{**values, **settings})
    torch.manual_seed(len(family))
    model = transformers.AutoModelForVideoClassification.from_config(config)
    # Biases begin at zero, where the loss of one would not show.
    for parameter in model.parameters():
        if parameter.ndim == 1:
            torch.nn.init.normal_(parameter, std=0.5)
    model.save_pretrained(folder)
    save_processor(family, folder)
    return folder


def save_processor(family: str, folder: Path) -> None:
    """The processor that folders of a family have."""
    import transformers

    side = side_of(family)
    crop = {"crop_size": {"height": side, "width": side}}
    short = {"size": {"shortest_edge": side}}
    if family == "vjepa2":
        processor = transformers.VJEPA2VideoProcessor(crop_size=side)
    elif family == "vivit":
        processor = transformers.VivitVideoProcessor(**short, **crop)
    elif family == "timesformer":
        # Public folders have the settings of a processor of images.
        processor = transformers.VideoMAEImageProcessor(**short, **crop)
    elif family == "videoprism":
        processor = transformers.LlavaOnevisionVideoProcessor(
            size={"height": side, "width": side}, do_normalize=False
        )
    else:
        processor = transformers.VideoMAEVideoProcessor(**short, **crop)
    processor.save_pretrained(folder)


def overrides(family: str, folder: Path) -> list[str]:
    """Settings of a configuration that fit the folder."""
    mean, std = NORMS.get(family, PLAIN_NORM)
    side = str(side_of(family))
    values = {
        "MODEL.NAME": f"transformers/{folder}",
        "DATA.NUM_FRAMES": str(FRAMES),
        "DATA.TRAIN_CROP_SIZE": side,
        "DATA.TEST_CROP_SIZE": side,
        "DATA.MEAN": str(mean),
        "DATA.STD": str(std),
    }
    return [word for pair in values.items() for word in pair]


def clip_of(family: str, batch: int = 2) -> Tensor:
    """Random clips `[B, 3, T, S, S]`."""
    side = side_of(family)
    generator = torch.Generator().manual_seed(3)
    return torch.randn(batch, 3, FRAMES, side, side, generator=generator)
