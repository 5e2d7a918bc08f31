"""The table of public weights: pre-trained ones, and the method's 21 trained checkpoints.

None of these files has come to this machine: hashes are those that their authors publish, which
is none. The first download of each is trusted, and recorded.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass

# Whether labels of dark clips had a part in weights, as `pseudo.results_metadata` writes it.
LABEL_FREE = "label-free"
ORACLE = "oracle"


@dataclass(frozen=True)
class ZooEntry:
    """One public checkpoint.

    Attributes:
        file: relative path below `weights/` and below the cache's folder of weights.
        source: web page where its authors offer it.
        sha256: of the file, or its first digits, checked when loading; empty if unknown.
        address: where it is downloaded from: https, hf, or the page of a file of Google Drive.
        config: configuration of its model, relative to the project.
        classes: number of its classes, 0 if unknown.
        accuracy: published accuracy, with its test set.
        labels: label use: `oracle` if labels of dark clips chose it, else `label-free`; empty if
            unknown.
        licence: of the project that publishes it.
        note: further remarks for a user.
    """

    file: str
    source: str
    sha256: str = ""
    address: str = ""
    config: str = ""
    classes: int = 0
    accuracy: str = ""
    labels: str = ""
    licence: str = "unknown to us"
    note: str = ""


def _drive(file_id: str) -> str:
    """Return the page of a file of Google Drive, which a browser opens too."""
    return f"https://drive.google.com/file/d/{file_id}/view"


_UNIFORMER = "https://github.com/Sense-X/UniFormer/tree/main/video_classification"
_UNIFORMER_HUB = "hf://Sense-X/uniformer_video"
_SLOWFAST = "https://github.com/facebookresearch/SlowFast/blob/main/MODEL_ZOO.md"
_ALPHACTION = "https://github.com/MVIG-SJTU/AlphAction/blob/master/MODEL_ZOO.md"
_METHOD = "https://github.com/Andy1621/Nightcrawler/blob/main/MODEL_ZOO.md"
_MIT = "MIT (its repository)"

PRETRAINED: dict[str, ZooEntry] = {
    "uniformer_base_k600_32x4": ZooEntry(
        "uniformer_base_k600_32x4.pth",
        f"{_UNIFORMER} (table Kinetics-600, UniFormer-B, 32x1x4)",
        address=f"{_UNIFORMER_HUB}/uniformer_base_k600_32x4.pth",
        config="configs/models/uniformer_b32_k600.yaml",
        classes=600,
        labels=LABEL_FREE,
        licence=_MIT,
    ),
    "uniformer_base_sthv2_32_prek400": ZooEntry(
        "uniformer_base_sthv2_32_prek400.pth",
        f"{_UNIFORMER} (table Something-Something V2, UniFormer-B, K400, 32x3x1)",
        address=_drive("1-rpMARXnyvyj6YUJkIvVqtna86egpjoS"),
        config="configs/models/uniformer_b32_ssv2.yaml",
        classes=174,
        labels=LABEL_FREE,
        licence=_MIT,
    ),
    "uniformer_small_k400_16x4": ZooEntry(
        "uniformer_small_k400_16x4.pth",
        f"{_UNIFORMER} (table Kinetics-400, UniFormer-S, 16x1x4)",
        address=f"{_UNIFORMER_HUB}/uniformer_small_k400_16x4.pth",
        config="configs/models/uniformer_s16_k400.yaml",
        classes=400,
        labels=LABEL_FREE,
        licence=_MIT,
        note="that the hub has this file is inferred from others of this model there",
    ),
    "mvit_b_32x3_k600": ZooEntry(
        "k600.pyth",
        f"{_SLOWFAST} (MViTv1 B-Conv, K600)",
        address="https://dl.fbaipublicfiles.com/pyslowfast/model_zoo/mvit/k600.pyth",
        config="configs/models/mvit_b32_k600.yaml",
        classes=600,
        accuracy="83.9 % top-1 on Kinetics-600",
        labels=LABEL_FREE,
    ),
    "slowfast_r101_8x8_k700": ZooEntry(
        "SlowFast-ResNet101-8x8.pth",
        f"{_ALPHACTION} (SlowFast-R101, Kinetics-700)",
        address=_drive("1v1FdPUXBNRj-oKfctScT4L4qk8L1k3Gg"),
        config="configs/models/sf32_k700.yaml",
        classes=700,
        labels=LABEL_FREE,
        note=(
            "the address is the method's; AlphAction's own table names another file, "
            f"{_drive('1JDQLyyL-GFd3qi0S31Mdt5oNmUXnyJza')}, and whether the two are the same is "
            "not known to us"
        ),
    ),
}

# Models of the method, in the order of its tables.
_MODELS = ("uniformer_b32_k600", "uniformer_b32_ssv2", "mvit_b32_k600", "sf32_k700")
# Folder of experiments, and of each model the published top-1 on ARID and the file.
_STAGES: dict[str, tuple[str, tuple[tuple[float, str], ...]]] = {
    "adapt_bn": (
        "exp_adapt_bn",
        (
            (62.64, "1ST1TDcby8WioF7A3jZ6ZbA5XfZW-Mfdp"),
            (58.90, "1iFhi-LpXBnGuDjz6bbA6ceBYgaY8GCQX"),
            (58.14, "1myUhgFEZUnCoXqOnh1ASIFG2RANW2epx"),
            (57.79, "1bzdgkHhbXtVySc7VOgB96L_7AgeuiaCc"),
        ),
    ),
    "stage1": (
        "exp_pseudo_stage1",
        (
            (83.50, "1WlBNtsY0NTQdBlUslWYyopfsoEsNK-E4"),
            (81.04, "1mO6zbU1GYQYdQjXVQazXpdqMugXGVyIC"),
            (81.68, "1M3VYGPDQ6twBW_aWA17wq3kLhffYpNkQ"),
            (80.78, "1_-2sJD49V9rv74ghAXme09yEERU6acJo"),
        ),
    ),
    "stage2": (
        "exp_pseudo_stage2",
        (
            (87.84, "1UAxKgr9z_eKaxDVrPM2X3mxMZl8MmCpg"),
            (85.95, "18rWv9UvnRReX1W3Dr7YKSRLi1YtOJRXh"),
            (86.63, "1Zq-ZDjMMggZJUUFKMZ62ts4FIS2B1ZjZ"),
            (85.63, "1zQbhPGr7vw4zkgjTJGbbr3HEc4p7CElc"),
        ),
    ),
    "stage3": (
        "exp_pseudo_stage3",
        (
            (89.48, "1wvwYj0ZbyfDvmFn5eOwK2UdbxCBeMGWY"),
            (88.74, "1EIVUbQCS-HQX-SEn-D41cF6hPM18GOR7"),
            (88.75, "1Dr3Hdqn4oGX478M1RY1jCIzE5_S9Q4rW"),
            (88.59, "1jcpbW_l-Vc3ZyzksEQ8xQVao56N-l6Dx"),
        ),
    ),
    "stage4": (
        "exp_pseudo_stage4",
        (
            (89.91, "1MshRoDb0YXIfmhNEhfcYsC7708x-zAJC"),
            (90.25, "1z9JYp1uAVypfK5BfE9ZAvNU9HSHbxvOD"),
            (90.30, "1GGb-KtcTi06rIuFyHT0Yrk99Dn32UpHF"),
            # Their page repeats the file of the first model here.
            (89.49, "1MshRoDb0YXIfmhNEhfcYsC7708x-zAJC"),
        ),
    ),
}
_EXPERT = (89.51, "1yka9cF4rBHT5lTZRRHfRf455oiB6zaaO")
_SLIP = (
    "the authors' page repeats the link of this stage's first UniFormer here: expect that model's "
    "file, which is refused; take ug2-2022/stage4/uniformer_b32_k600"
)


def _trained(stage: str, folder: str, model: str, top1: float, file_id: str) -> ZooEntry:
    """Return one of the method's trained checkpoints."""
    return ZooEntry(
        f"ug2-2022/{stage}/{model}.pyth",
        _METHOD,
        address=_drive(file_id),
        config=f"{folder}/{model}/config.yaml",
        classes=11,
        accuracy=f"{top1:.2f} % top-1 on ARID",
        labels=ORACLE,
        licence=_MIT,
    )


def _all_trained() -> dict[str, ZooEntry]:
    """Return the 21 trained checkpoints by name."""
    entries = {}
    for stage, (folder, files) in _STAGES.items():
        for model, (top1, file_id) in zip(_MODELS, files, strict=True):
            entry = _trained(stage, folder, model, top1, file_id)
            entries[f"ug2-2022/{stage}/{model}"] = entry
    expert = "uniformer_b32_ssv2"
    entries[f"ug2-2022/expert/{expert}"] = _trained("expert", "exp_experts", expert, *_EXPERT)
    slip = "ug2-2022/stage4/sf32_k700"
    entries[slip] = dataclasses.replace(entries[slip], note=_SLIP)
    return entries


PUBLISHED: dict[str, ZooEntry] = {**PRETRAINED, **_all_trained()}
