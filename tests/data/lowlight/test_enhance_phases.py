"""Enhancement by phase: sweeps of gammas, denoising of dark clips, the warning where phases differ."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from fvcore.common.config import CfgNode

from nightcrawler.config.node import get_cfg
from nightcrawler.data import build
from nightcrawler.data.frame_sampling import segment_indices
from nightcrawler.data.lowlight.enhance.denoise import denoise
from nightcrawler.data.lowlight.enhance.gamma import gamma_lut
from nightcrawler.data.transforms import eval_crops
from tests.conftest import MakeClip
from tests.reading import count_decodes, read_file


@pytest.fixture(scope="module")
def folder(make_clip: MakeClip, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two bright and two dark videos of 18 frames of 40x30, and their lists; read only."""
    root = tmp_path_factory.mktemp("phases")
    lists = {
        "train_label+val_dry": "labeled_train/Train",
        "val_dry": "dry_run/Validation",
        "arid": "dark_train/Train",
    }
    for number, (name, place) in enumerate(lists.items()):
        videos = [
            make_clip(root / place / f"{name[0]}{i}.mp4", 18, (40, 30), seed=9 * number + i)
            for i in range(2)
        ]
        (root / f"{name}.csv").write_text(
            "".join(f"{path.name},{i}\n" for i, path in enumerate(videos))
        )
    (root / "total_unlabel.csv").write_text((root / "arid.csv").read_text())
    (root / "pseudo.csv").write_text("a0.mp4,0\na1.mp4,1\n")
    return root


def make_cfg(folder: Path, *changed: Any) -> CfgNode:
    cfg = get_cfg()
    small = (
        "DATA.NUM_FRAMES",
        4,
        "DATA.TRAIN_CROP_SIZE",
        16,
        "DATA.TEST_CROP_SIZE",
        24,
        "MODEL.NUM_CLASSES",
        3,
    )
    loading = (
        "TRAIN.BATCH_SIZE",
        2,
        "TRAIN.MICRO_BATCH",
        2,
        "DATA_LOADER.NUM_WORKERS",
        0,
        "AUG.AA_TYPE",
        "",
    )
    cfg.merge_from_list(["DATA.PATH_PREFIX", str(folder), *small, *loading, *changed])
    return cfg


def samples(cfg: CfgNode, split: str, phase: str, *pairs: tuple[int, int]) -> list[dict[str, Any]]:
    return [
        sample
        for chunk in build.build_eval_set(cfg, split, phase, pairs).loader
        for sample in chunk
    ]


def clips_by_hand(frames: np.ndarray, gamma: float, views: int, crops: int) -> torch.Tensor:
    lut = gamma_lut(gamma)
    made = [
        eval_crops(
            frames[segment_indices(len(frames), 4, view=view, num_views=views)],
            size=24,
            num_crops=crops,
            enhance=lambda frames: lut[frames],
            mean=[0.45] * 3,
            std=[0.225] * 3,
        )
        for view in range(views)
    ]
    return torch.cat(made)


def whole(path: Path) -> np.ndarray:
    return read_file(path, lambda num_frames: range(num_frames)).frames


def same_clips(left: torch.Tensor, right: torch.Tensor) -> bool:
    """Whether two stacks hold the same clips, in any order."""
    return sorted(clip.numpy().tobytes() for clip in left) == sorted(
        clip.numpy().tobytes() for clip in right
    )


def test_a_sweep_sees_every_view_and_crop_once_per_gamma(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    decoded = count_decodes(monkeypatch)
    gammas, pairs = [0.2, 0.35, 0.6], [(1, 1), (1, 3), (2, 3)]
    found = samples(make_cfg(folder, "TEST.GAMMAS", gammas), "arid", "TEST", *pairs)
    assert decoded == ["a0.mp4", "a1.mp4"]
    for number, sample in enumerate(found):
        frames = whole(folder / f"dark_train/Train/a{number}.mp4")
        for pair in pairs:
            expected = torch.cat([clips_by_hand(frames, gamma, *pair) for gamma in gammas])
            assert len(sample["members"][pair]) == len(expected) == 3 * pair[0] * pair[1]
            assert same_clips(sample["clip"][sample["members"][pair]], expected)


@pytest.mark.parametrize(("split", "phase"), [("val_dry", "TEST"), ("arid", "VAL")])
def test_a_sweep_is_for_dark_test_clips_alone(folder: Path, split: str, phase: str) -> None:
    swept = samples(make_cfg(folder, "TEST.GAMMAS", [0.2, 0.6]), split, phase, (1, 3))
    plain = samples(make_cfg(folder), split, phase, (1, 3))
    assert all(torch.equal(a["clip"], b["clip"]) for a, b in zip(swept, plain, strict=True))
    assert [sample["members"] for sample in swept] == [{(1, 3): [0, 1, 2]}] * 2


def test_a_sweep_of_one_is_that_gamma(folder: Path) -> None:
    swept = samples(make_cfg(folder, "TEST.GAMMAS", [0.4]), "arid", "TEST", (1, 1))
    plain = samples(make_cfg(folder, "ENHANCE.GAMMA", 0.4), "arid", "TEST", (1, 1))
    assert all(torch.equal(a["clip"], b["clip"]) for a, b in zip(swept, plain, strict=True))


def test_chunks_count_the_gammas(folder: Path) -> None:
    for gammas, sizes in (([], [2]), ([0.2, 0.3], [1, 1])):
        cfg = make_cfg(folder, "TEST.BATCH_SIZE", 6, "TEST.GAMMAS", gammas)
        assert [
            len(chunk) for chunk in build.build_eval_set(cfg, "arid", "TEST", [(1, 3)]).loader
        ] == sizes


def test_dark_clips_are_denoised_from_their_neighbours_before_enhancement(folder: Path) -> None:
    cfg = make_cfg(folder, "ENHANCE.DENOISE_FRAMES", 5)
    for number, sample in enumerate(samples(cfg, "arid", "TEST", (1, 1), (2, 3))):
        frames = whole(folder / f"dark_train/Train/a{number}.mp4")
        calm = denoise(frames, range(len(frames)), range(len(frames)), 5)
        assert (calm != frames).any()
        for pair, members in sample["members"].items():
            assert same_clips(sample["clip"][members], clips_by_hand(calm, 0.25, *pair))


@pytest.mark.parametrize(
    ("split", "phase", "changed", "denoised"),
    [
        ("arid", "TEST", [], True),
        ("arid", "VAL", [], True),
        ("arid", "VAL", ["ENHANCE.VAL", "none"], False),
        ("val_dry", "VAL", [], False),
        ("val_dry", "TEST", [], False),
    ],
)
def test_only_enhanced_clips_are_denoised(
    folder: Path, split: str, phase: str, changed: list[str], denoised: bool
) -> None:
    plain = samples(make_cfg(folder, *changed), split, phase, (1, 1))
    calm = samples(make_cfg(folder, "ENHANCE.DENOISE_FRAMES", 5, *changed), split, phase, (1, 1))
    assert [torch.equal(a["clip"], b["clip"]) for a, b in zip(plain, calm, strict=True)] == [
        not denoised
    ] * 2


def test_streams_and_adaptation_are_denoised_where_they_are_enhanced(folder: Path) -> None:
    def first(*changed: Any) -> list[torch.Tensor]:
        cfg = make_cfg(folder, "DATA.PSEUDO_CSV", "pseudo.csv", *changed)
        batches = [next(iter(stream.loader)) for stream in build.build_train_streams(cfg)]
        return [batch["clip"] for batch in (*batches, next(iter(build.build_adapt_loader(cfg)[1])))]

    calm = ("ENHANCE.DENOISE_FRAMES", 5)
    same = [torch.equal(a, b) for a, b in zip(first(), first(*calm), strict=True)]
    assert same == [True, True, False]
    lit = ("ENHANCE.TRAIN", "gamma", "ENHANCE.ADAPT", "none")
    same = [torch.equal(a, b) for a, b in zip(first(*lit), first(*lit, *calm), strict=True)]
    assert same == [True, False, True]


def test_a_mismatch_of_adaptation_and_test_is_one_warning_each(
    folder: Path, caplog: pytest.LogCaptureFixture
) -> None:
    def warnings(*changed: Any, split: str = "arid") -> list[str]:
        caplog.clear()
        cfg = make_cfg(folder, *changed)
        with caplog.at_level(logging.WARNING, "nightcrawler"):
            build.build_adapt_loader(cfg)
            training = len(caplog.records)
            build.build_eval_set(cfg, split, "VAL", [(1, 1)])
            assert len(caplog.records) == training
            build.build_eval_set(cfg, split, "TEST", [(1, 1), (3, 3)])
        return [record.getMessage() for record in caplog.records]

    said = warnings("ENHANCE.ADAPT", "none", "ENHANCE.TEST", "retinex")
    assert len(said) == 2
    assert all(
        line.startswith("ENHANCE.ADAPT is none and ENHANCE.TEST is retinex: ") for line in said
    )
    assert warnings() == []
    assert len(warnings("ENHANCE.ADAPT", "none", split="val_dry")) == 1
    assert warnings("ENHANCE.ADAPT", "none", "ADAPT.NAME", "none") == []
