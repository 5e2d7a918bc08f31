"""Weights whose names, addresses and facts are those of libraries: torchvision, timm, addresses."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from nightcrawler.download.fetch import file_of_address
from nightcrawler.models.zoo_table import LABEL_FREE, ZooEntry
from nightcrawler.utils.errors import UserError, mask_credentials
from nightcrawler.utils.lazy_registry import unknown_name

if TYPE_CHECKING:
    from torchvision.models import WeightsEnum

TORCHVISION = "torchvision/"
TIMM = "timm/"
FAMILIES = (TORCHVISION, TIMM)
# torchvision ends its files with the first digits of their SHA-256.
_HASHED = re.compile(r"-([0-9a-f]{8,64})\.\w+$")
_SERVER = "https://download.pytorch.org/models"
_NUM_KINETICS = 400
# Models, their weights (the default ones first), files on the server, and top-1 on Kinetics-400, as
# torchvision 0.29 has them: importing it to print a list would take seconds.
_VIDEO_WEIGHTS = (
    ("mc3_18", "KINETICS400_V1", "mc3_18-a90a0ba3.pth", 63.96),
    ("mvit_v1_b", "KINETICS400_V1", "mvit_v1_b-dbeb1030.pth", 78.477),
    ("mvit_v2_s", "KINETICS400_V1", "mvit_v2_s-ae3be167.pth", 80.757),
    ("r2plus1d_18", "KINETICS400_V1", "r2plus1d_18-91a641e6.pth", 67.463),
    ("r3d_18", "KINETICS400_V1", "r3d_18-b3b3357e.pth", 63.2),
    ("s3d", "KINETICS400_V1", "s3d-d76dad2f.pth", 68.368),
    ("swin3d_b", "KINETICS400_V1", "swin3d_b_1k-24f7c7c6.pth", 79.427),
    ("swin3d_b", "KINETICS400_IMAGENET22K_V1", "swin3d_b_22k-7c6ae6fa.pth", 81.643),
    ("swin3d_s", "KINETICS400_V1", "swin3d_s-da41c237.pth", 79.521),
    ("swin3d_t", "KINETICS400_V1", "swin3d_t-7615ae03.pth", 77.715),
)
_DOCS = "https://docs.pytorch.org/vision/stable/models.html#video-classification"


def family_names() -> list[str]:
    """Return the names of torchvision's weights for video."""
    return list(listed_entries())


def listed_entries() -> dict[str, ZooEntry]:
    """Return the facts of torchvision's weights for video by name, without importing it."""
    entries = {}
    for model, weights, file, top1 in _VIDEO_WEIGHTS:
        name = f"{TORCHVISION}{model}"
        if name in entries:
            # The first weights of a model are its default.
            name = f"{name}/{weights}"
        entries[name] = _torchvision_entry(f"{_SERVER}/{file}", top1, _NUM_KINETICS)
    return entries


def family_entry(name: str) -> ZooEntry:
    """Return the facts of weights that a library lists.

    Args:
        name: `torchvision/MODEL`, `torchvision/MODEL/WEIGHTS` or `timm/MODEL`.

    Raises:
        UserError: if the library has no such weights.
    """
    if name.startswith(TIMM):
        return _timm_entry(name)
    weights = torchvision_weights(name)
    top1 = weights.meta["_metrics"]["Kinetics-400"]["acc@1"]
    return _torchvision_entry(weights.url, top1, len(weights.meta["categories"]))


def _torchvision_entry(url: str, top1: float, classes: int) -> ZooEntry:
    """Return the facts of weights of torchvision."""
    found = _HASHED.search(url)
    return ZooEntry(
        f"{TORCHVISION}{url.rpartition('/')[2]}",
        _DOCS,
        sha256=found[1] if found else "",
        address=url,
        # The base of all: the library has the settings of each.
        config="configs/base.yaml",
        classes=classes,
        accuracy=f"{top1:.2f} % top-1 on Kinetics-400",
        labels=LABEL_FREE,
        licence="BSD-3-Clause (torchvision)",
    )


def address_entry(address: str) -> ZooEntry:
    """Return the facts that an address alone gives.

    Raises:
        UserError: if the address must not be read.
    """
    shown = mask_credentials(address)
    return ZooEntry(file_of_address(address), shown, address=address)


def torchvision_weights(name: str) -> WeightsEnum:
    """Return torchvision's own description of weights: address, class names, preprocessing.

    Args:
        name: `torchvision/MODEL` (its default weights) or `torchvision/MODEL/WEIGHTS`.

    Raises:
        UserError: if torchvision has no such weights.
    """
    model, _, wanted = name.removeprefix(TORCHVISION).partition("/")
    known = _torchvision_weights()
    if model not in known:
        raise unknown_name("name of torchvision's video weights", name, family_names())
    weights: Any = known[model]
    if not wanted:
        return weights.DEFAULT
    if wanted not in weights.__members__:
        raise unknown_name(f"weights of {TORCHVISION}{model}", wanted, weights.__members__)
    return weights[wanted]


def _torchvision_weights() -> dict[str, Any]:
    """Return torchvision's weights of each video model."""
    # Imported here: names are checked without waiting for it.
    from torchvision.models import get_model_weights, list_models, video

    return {model: get_model_weights(model) for model in list_models(module=video)}


def _timm_entry(name: str) -> ZooEntry:
    """Return the facts of the weights of an image model, from timm."""
    import timm

    model = name.removeprefix(TIMM)
    try:
        config = timm.models.get_pretrained_cfg(model)
    except (RuntimeError, AssertionError):
        config = None
    if config is None:
        raise unknown_name("name of timm's weights", model, timm.list_pretrained())
    if config.hf_hub_id:
        file = config.hf_hub_filename or "model.safetensors"
        address = f"hf://{config.hf_hub_id}/{file}"
    elif str(config.url).startswith("https://"):
        address = str(config.url)
    else:
        raise UserError(f"{name}: timm has no public weights for it: name a file")
    return ZooEntry(
        file_of_address(address),
        f"https://huggingface.co/{config.hf_hub_id or 'timm'}",
        address=address,
        classes=config.num_classes,
        labels=LABEL_FREE,
        licence=config.license or "unknown to us",
    )
