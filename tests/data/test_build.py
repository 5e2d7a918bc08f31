"""From configuration to loaders, on a tiny data folder of the documented layout."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from fvcore.common.config import CfgNode

from nightcrawler.config.node import get_cfg
from nightcrawler.data import build, build_clips, build_items, build_video, frame_sampling
from nightcrawler.data.dataset import DeferredClips
from nightcrawler.data.lowlight.enhance.gamma import gamma_lut
from nightcrawler.data.transforms import eval_crops
from nightcrawler.data.video.decode import read_frames
from nightcrawler.utils import distributed
from nightcrawler.utils.errors import ConfigError, UserError
from tests.conftest import MakeClip
from tests.reading import count_decodes, read_file

LABELLED = [(f"l{number}.mp4", number % 3) for number in range(6)]
VALIDATION = [("v0.mp4", 0), ("v1.mp4", 2)]
DARK = [("0.mp4", -1), ("1.mp4", -1), ("2.mp4", -1), ("Run/Run_1_1.mp4", 1)]
PSEUDO = [
    ("0.mp4", 1, 0.1, 0.8, 0.1),
    ("1.mp4", 0, 0.5, 0.25, 0.25),
    ("2.mp4", 2, 0.05, 0.05, 0.9),
    ("Run/Run_1_1.mp4", 1, 0.1, 0.7, 0.2),
]


def write_rows(path: Path, rows: Sequence[Sequence[Any]]) -> None:
    path.write_text("".join(",".join(map(str, row)) + "\n" for row in rows))


@pytest.fixture(scope="module")
def folder(make_clip: MakeClip, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Twelve videos of 12 to 15 frames of 40x30, and their lists; read only."""
    root = tmp_path_factory.mktemp("build")
    places = {
        "labeled_train/Train": LABELLED,
        "dry_run/Validation": VALIDATION,
        "dark_train/Train": DARK,
    }
    seeds = itertools.count()
    for place, rows in places.items():
        for name, _ in rows:
            seed = next(seeds)
            make_clip(root / place / name, 12 + seed % 4, (40, 30), seed=seed)
    write_rows(root / "train_label+val_dry.csv", LABELLED + VALIDATION)
    write_rows(root / "val_dry.csv", VALIDATION)
    write_rows(root / "total_unlabel.csv", DARK)
    (root / "pseudo").mkdir()
    write_rows(root / "pseudo" / "stage1.csv", PSEUDO)
    write_rows(root / "pseudo" / "hard.csv", [row[:2] for row in PSEUDO])
    return root


def with_lists(folder: Path, tmp_path: Path, **lists: Sequence[Sequence[Any]]) -> Path:
    """A data folder beside the shared one: the same videos, and lists of its own (`pseudo` for pseudo/own.csv)."""
    root = tmp_path / "data"
    root.mkdir()
    for entry in folder.iterdir():
        if entry.is_dir() and entry.name != "pseudo":
            (root / entry.name).symlink_to(entry)
        elif entry.is_file():
            (root / entry.name).write_bytes(entry.read_bytes())
    (root / "pseudo").mkdir()
    for name, rows in lists.items():
        write_rows(root / ("pseudo/own.csv" if name == "pseudo" else f"{name}.csv"), rows)
    return root


def make_cfg(folder: Path, *changed: Any) -> CfgNode:
    cfg = get_cfg()
    small = {
        "DATA.PATH_PREFIX": str(folder),
        "DATA.NUM_FRAMES": 4,
        "DATA.TRAIN_CROP_SIZE": 16,
        "DATA.TEST_CROP_SIZE": 24,
        "MODEL.NUM_CLASSES": 3,
        "TRAIN.BATCH_SIZE": 4,
        "TRAIN.MICRO_BATCH": 2,
        "DATA_LOADER.NUM_WORKERS": 0,
    }
    cfg.merge_from_list([part for pair in small.items() for part in pair] + list(changed))
    return cfg


def names(items: Sequence[Any]) -> list[str]:
    return [item.name for item in items]


def test_items_of_a_split(folder: Path) -> None:
    items = build_items.build_items(make_cfg(folder), "train")
    assert [(item.name, item.label) for item in items] == LABELLED + VALIDATION
    assert items[0].path == folder / "labeled_train/Train/l0.mp4"
    assert items[-1].path == folder / "dry_run/Validation/v1.mp4"
    with pytest.raises(
        UserError, match=r"row 3: label 2 is out of range, expected -1 \(unknown\) or 0..1"
    ):
        build_items.build_items(make_cfg(folder, "MODEL.NUM_CLASSES", 2), "train")


def test_validation_videos_are_left_out_of_training_unless_asked(folder: Path) -> None:
    assert names(build_items.build_train_items(make_cfg(folder))) == [name for name, _ in LABELLED]
    kept = build_items.build_train_items(make_cfg(folder, "DATA.EXCLUDE_VAL", False))
    assert names(kept) == [name for name, _ in LABELLED + VALIDATION]


def test_validation_videos_spelled_in_another_way_are_left_out_too(
    folder: Path, tmp_path: Path
) -> None:
    spelled = [(f"./{name}", label) for name, label in LABELLED + VALIDATION]
    own = with_lists(folder, tmp_path, **{"train_label+val_dry": spelled})
    kept = build_items.build_train_items(make_cfg(own))
    assert names(kept) == [name for name, _ in LABELLED]


def test_videos_of_other_folders_stay_in_training_whatever_they_are_called(
    folder: Path, tmp_path: Path
) -> None:
    """A dark list that names its clips as the bright one does: they are other files."""
    own = with_lists(folder, tmp_path, arid=[*LABELLED, ("0.mp4", 1)])
    kept = build_items.build_train_items(make_cfg(own, "TRAIN.BEST_SPLIT", "arid"))
    assert names(kept) == [name for name, _ in LABELLED + VALIDATION]


def test_training_needs_labels_and_videos(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(
        UserError,
        match=r"split 'total_unlabel' is to be trained on, but row 1 \('0.mp4'\) has label -1",
    ):
        build_items.build_train_items(make_cfg(folder, "DATA.TRAIN_SPLIT", "total_unlabel"))
    own = with_lists(folder, tmp_path, **{"train_label+val_dry": VALIDATION})
    with pytest.raises(UserError, match=r"has no video left to train on; see DATA\.EXCLUDE_VAL"):
        build_items.build_train_items(make_cfg(own))


def test_pseudo_items(folder: Path) -> None:
    items = build_items.build_pseudo_items(make_cfg(folder, "DATA.PSEUDO_CSV", "pseudo/stage1.csv"))
    assert [(item.name, item.label, *item.probs) for item in items] == [
        pytest.approx(row) for row in PSEUDO
    ]
    assert items[0].path == folder / "dark_train/Train/0.mp4"


def test_pseudo_items_of_low_confidence_are_left_out(folder: Path) -> None:
    """Confidences .8, .5, .9, .7: mean .725, deviation .171; half of it below the mean lies .64."""
    cfg = make_cfg(folder, "DATA.PSEUDO_CSV", "pseudo/stage1.csv", "TRAIN.THRESHOLD", 0.5)
    assert names(build_items.build_pseudo_items(cfg)) == ["0.mp4", "2.mp4", "Run/Run_1_1.mp4"]
    cfg.TRAIN.THRESHOLD = -9.0
    with pytest.raises(UserError, match=r"TRAIN\.THRESHOLD -9.0 leaves no row"):
        build_items.build_pseudo_items(cfg)


def test_the_confidence_threshold_is_the_formula() -> None:
    values = np.array([0.8, 0.5, 0.9, 0.7])
    deviation = np.sqrt(sum((value - 0.725) ** 2 for value in values) / 3)
    assert build_items.confidence_threshold(values, 2.0) == pytest.approx(0.725 - 2 * deviation)
    assert build_items.confidence_threshold(values, -1) == -1.0
    assert build_items.confidence_threshold(values[:1], 2.0) == -1.0
    # Their mean is rounded to a number above 0.7.
    assert build_items.confidence_threshold(np.full(7, 0.7), 0.0) == 0.7


def test_mixing_follows_its_keys(folder: Path) -> None:
    on = build_clips.build_mixup(make_cfg(folder, "MIXUP.PROB", 0.5, "MIXUP.SWITCH_PROB", 0.3))
    assert (on.mixup_alpha, on.cutmix_alpha, on.prob, on.switch_prob) == (0.8, 1.0, 0.5, 0.3)
    off = build_clips.build_mixup(make_cfg(folder, "MIXUP.ENABLE", False))
    assert (off.mixup_alpha, off.cutmix_alpha, off.label_smoothing, off.num_classes) == (
        0.0,
        0.0,
        0.1,
        3,
    )


@pytest.mark.parametrize("phase", ["TRAIN", "ADAPT", "VAL", "TEST"])
def test_only_dark_splits_are_lit(folder: Path, phase: str) -> None:
    frames = np.arange(256, dtype=np.uint8).reshape(1, 16, 16, 1).repeat(3, axis=3)
    cfg = make_cfg(folder, f"ENHANCE.{phase}", "gamma", "ENHANCE.GAMMA", 0.5)
    assert (build.build_phase_enhancement(cfg, phase, dark=False)(frames) == frames).all()
    assert (
        build.build_phase_enhancement(cfg, phase, dark=True)(frames) == gamma_lut(0.5)[frames]
    ).all()


@pytest.mark.parametrize(
    ("batch", "micro", "world", "expected"),
    [(32, 8, 1, 8), (32, 8, 4, 8), (32, 0, 4, 8), (6, 3, 2, 3)],
)
def test_micro_batches(
    folder: Path, monkeypatch: pytest.MonkeyPatch, batch: int, micro: int, world: int, expected: int
) -> None:
    monkeypatch.setattr(distributed, "world_size", lambda: world)
    cfg = make_cfg(folder, "TRAIN.BATCH_SIZE", batch, "TRAIN.MICRO_BATCH", micro)
    assert build.micro_batch_size_of(cfg) == expected


@pytest.mark.parametrize(
    ("batch", "micro", "world", "said"),
    [
        (32, 8, 3, "TRAIN.BATCH_SIZE 32"),
        (32, 8, 8, "TRAIN.MICRO_BATCH 8"),
        (32, 5, 1, "TRAIN.MICRO_BATCH 5"),
    ],
)
def test_micro_batches_that_do_not_divide(
    folder: Path, monkeypatch: pytest.MonkeyPatch, batch: int, micro: int, world: int, said: str
) -> None:
    monkeypatch.setattr(distributed, "world_size", lambda: world)
    with pytest.raises(ConfigError, match=said):
        build.micro_batch_size_of(
            make_cfg(folder, "TRAIN.BATCH_SIZE", batch, "TRAIN.MICRO_BATCH", micro)
        )


@pytest.mark.parametrize(
    ("views", "crops", "pairs"),
    [
        ([1], [1], [(1, 1)]),
        ([1, 3], [3], [(1, 3), (3, 3)]),
        ([3], [1, 3], [(3, 1), (3, 3)]),
        ([1, 3], [3, 1], [(1, 3), (3, 1)]),
    ],
)
def test_pairs(
    folder: Path, views: list[int], crops: list[int], pairs: list[tuple[int, int]]
) -> None:
    cfg = make_cfg(folder, "TEST.NUM_ENSEMBLE_VIEWS", views, "TEST.NUM_SPATIAL_CROPS", crops)
    assert build.view_crop_pairs_of(cfg) == pairs


def test_lists_that_do_not_pair(folder: Path) -> None:
    cfg = make_cfg(folder, "TEST.NUM_ENSEMBLE_VIEWS", [1, 2, 3], "TEST.NUM_SPATIAL_CROPS", [1, 3])
    with pytest.raises(
        ConfigError, match=r"NUM_ENSEMBLE_VIEWS \[1, 2, 3\] and .*NUM_SPATIAL_CROPS \[1, 3\]"
    ):
        build.view_crop_pairs_of(cfg)


def test_samplers_follow_their_keys(folder: Path) -> None:
    segment, dense = (
        make_cfg(folder),
        make_cfg(folder, "DATA.SAMPLING", "dense", "DATA.SAMPLING_RATE", 3),
    )
    published = make_cfg(folder, "TEST.VIEWS", "published")
    generators = [np.random.default_rng(0) for _ in range(4)]
    drawn = build_clips.build_frame_sampler(segment)(50, generators[0])
    assert drawn.tolist() == frame_sampling.random_segment_indices(50, generators[1], 4).tolist()
    drawn = build_clips.build_frame_sampler(dense)(50, generators[2])
    assert drawn.tolist() == frame_sampling.random_dense_indices(50, generators[3], 4, 3).tolist()
    place = {"view": 1, "num_views": 3}
    expected = [
        frame_sampling.segment_indices(50, 4, **place),
        frame_sampling.dense_indices(50, 4, 3, **place),
        frame_sampling.segment_indices(50, 4, **place, published=True),
    ]
    got = [build_clips.build_view_sampler(cfg)(50, 1, 3) for cfg in (segment, dense, published)]
    assert [one.tolist() for one in got] == [one.tolist() for one in expected]
    assert len({tuple(one) for one in got}) == 3


def epoch_of(stream: build.TrainStream, epoch: int = 0) -> list[dict[str, Any]]:
    stream.sampler.set_position(epoch)
    return list(stream.loader)


def test_the_labelled_stream(folder: Path) -> None:
    """Six videos in steps of four: one step of two micro-batches of two videos, two copies each."""
    (stream,) = build.build_train_streams(make_cfg(folder))
    batches = epoch_of(stream)
    assert (stream.name, len(batches)) == ("labelled", 2)
    for batch in batches:
        assert batch["clip"].shape == (4, 3, 4, 16, 16)
        assert batch["index"][0::2].tolist() == batch["index"][1::2].tolist()
        assert batch["label"].tolist() == [stream.items[index].label for index in batch["index"]]
        assert batch["probs"] is None
        assert batch["bad"] == []
    assert len({index for batch in batches for index in batch["index"].tolist()}) == 4


def test_augmentation_can_be_left_to_whoever_takes_the_batch(
    folder: Path, caplog: pytest.LogCaptureFixture
) -> None:
    cfg = make_cfg(folder, "AUG.DEVICE", "gpu", "ADAPT.TRANSFORM", "train")
    (stream,) = build.build_train_streams(cfg)
    adapted = next(iter(build.build_adapt_loader(cfg)[1]))
    for clips, num_copies in ((epoch_of(stream)[0]["clip"], 2), (adapted["clip"], 1)):
        assert all(isinstance(raw, DeferredClips) and len(raw.rngs) == num_copies for raw in clips)
    assert torch.cuda.is_available() or "AUG.DEVICE is gpu and there is none" in caplog.text


def test_workers_do_not_change_an_epoch(folder: Path) -> None:
    alone, shared = (
        epoch_of(
            build.build_train_streams(make_cfg(folder, "DATA_LOADER.NUM_WORKERS", workers))[0],
            epoch=2,
        )
        for workers in (0, 2)
    )
    for one, other in zip(alone, shared, strict=True):
        assert torch.equal(one["clip"], other["clip"])
        assert torch.equal(one["index"], other["index"])


@pytest.mark.parametrize(("length", "steps"), [("labelled", 1), ("pseudo", 2), ("both", 2)])
def test_the_length_of_an_epoch_with_two_streams(folder: Path, length: str, steps: int) -> None:
    cfg = make_cfg(folder, "DATA.PSEUDO_CSV", "pseudo/stage1.csv", "TRAIN.EPOCH_LENGTH", length)
    cfg.TRAIN.BATCH_SIZE, cfg.TRAIN.MICRO_BATCH = 2, 2
    cfg.DATA.TRAIN_SPLIT, cfg.DATA.EXCLUDE_VAL = "val_dry", False
    streams = build.build_train_streams(cfg)
    assert [stream.name for stream in streams] == ["labelled", "pseudo"]
    assert [len(epoch_of(stream)) for stream in streams] == [steps, steps]


def test_the_pseudo_stream_brings_its_probabilities(folder: Path) -> None:
    _, stream = build.build_train_streams(make_cfg(folder, "DATA.PSEUDO_CSV", "pseudo/stage1.csv"))
    for batch in epoch_of(stream):
        expected = [PSEUDO[index] for index in batch["index"]]
        assert batch["label"].tolist() == [row[1] for row in expected]
        np.testing.assert_allclose(batch["probs"], [row[2:] for row in expected], atol=1e-6)
    _, hard = build.build_train_streams(make_cfg(folder, "DATA.PSEUDO_CSV", "pseudo/hard.csv"))
    assert all(batch["probs"] is None for batch in epoch_of(hard))


def test_soft_labels_are_not_dropped_because_a_row_has_none(folder: Path, tmp_path: Path) -> None:
    """A list of both forms: an error, or probabilities for every row, but not hard labels without a word."""
    own = with_lists(folder, tmp_path, pseudo=[PSEUDO[0], PSEUDO[1][:2], *PSEUDO[2:]])
    cfg = make_cfg(own, "DATA.PSEUDO_CSV", "pseudo/own.csv")
    try:
        _, stream = build.build_train_streams(cfg)
    except UserError:
        return
    assert all(batch["probs"] is not None for batch in epoch_of(stream))


def test_only_the_pseudo_stream_is_lit_and_only_the_labelled_darkened(folder: Path) -> None:
    """Against the same streams without the key: equal where the key must not reach, else different."""

    def first_clips(*changed: Any) -> list[torch.Tensor]:
        cfg = make_cfg(folder, "DATA.PSEUDO_CSV", "pseudo/stage1.csv", "AUG.AA_TYPE", "", *changed)
        return [epoch_of(stream)[0]["clip"] for stream in build.build_train_streams(cfg)]

    plain = first_clips()
    lit = first_clips("ENHANCE.TRAIN", "gamma")
    dark = first_clips("AUG.DARKEN", 1.0, "DATA.CAMERA", "night")
    assert torch.equal(plain[0], lit[0])
    assert lit[1].mean() > plain[1].mean() + 0.5
    assert torch.equal(plain[1], dark[1])
    assert dark[0].mean() < plain[0].mean() - 0.5
    lit = first_clips("AUG.DARKEN", 1.0, "DATA.CAMERA", "night", "ENHANCE.TRAIN", "gamma")
    assert lit[0].mean() > dark[0].mean() + 0.5


def test_a_bad_training_video_is_replaced_and_counted(folder: Path, tmp_path: Path) -> None:
    rows = [*LABELLED, ("missing.mp4", 1)]
    own = with_lists(folder, tmp_path, **{"train_label+val_dry": rows})
    (stream,) = build.build_train_streams(make_cfg(own))
    batches = [batch for epoch in range(4) for batch in epoch_of(stream, epoch)]
    drawn = [index for epoch in range(4) for index in stream.sampler.epoch_items(epoch)]
    bad = [video for batch in batches for video in batch["bad"]]
    assert len(bad) >= drawn.count(6) >= 1
    assert {(video.name, video.cause) for video in bad} == {
        ("missing.mp4", "cannot be opened: No such file or directory")
    }
    assert all(len(batch["clip"]) == 4 for batch in batches)
    assert all(6 not in batch["index"] for batch in batches)


def test_an_evaluation_decodes_each_video_once(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    decoded = count_decodes(monkeypatch)
    pairs = [(1, 1), (1, 3), (3, 3)]
    found = build.build_eval_set(make_cfg(folder), "total_unlabel", "TEST", pairs)
    samples = [sample for chunk in found.loader for sample in chunk]
    assert [sample["index"] for sample in samples] == [0, 1, 2, 3]
    assert decoded == [Path(name).name for name, _ in DARK]
    assert found.pairs == pairs
    assert (found.split.name, found.split.dark, names(found.items)) == (
        "total_unlabel",
        True,
        [n for n, _ in DARK],
    )
    lut = gamma_lut(0.25)
    for item, sample in zip(found.items, samples, strict=True):
        whole = read_file(item.path, lambda num_frames: range(num_frames)).frames
        for (views, crops), members in sample["members"].items():
            expected = torch.cat(
                [
                    eval_crops(
                        whole[
                            frame_sampling.segment_indices(
                                len(whole), 4, view=view, num_views=views
                            )
                        ],
                        size=24,
                        num_crops=crops,
                        enhance=lambda frames: lut[frames],
                        mean=[0.45] * 3,
                        std=[0.225] * 3,
                    )
                    for view in range(views)
                ]
            )
            torch.testing.assert_close(sample["clip"][members], expected, rtol=0, atol=1e-6)


def test_a_bad_test_video_is_named_in_its_place(folder: Path, tmp_path: Path) -> None:
    own = with_lists(folder, tmp_path, val_dry=[VALIDATION[0], ("gone.mp4", 1), VALIDATION[1]])
    found = build.build_eval_set(make_cfg(own), "val_dry", "VAL", [(1, 1)])
    samples = [sample for chunk in found.loader for sample in chunk]
    assert [sample["status"] for sample in samples] == [
        "ok",
        "error: cannot be opened: No such file or directory (open)",
        "ok",
    ]


@pytest.mark.parametrize(
    ("pairs", "sizes"), [([(1, 1)], [4]), ([(1, 3)], [2, 2]), ([(10, 3)], [1, 1, 1, 1])]
)
def test_chunks_hold_about_a_batch_of_clips(
    folder: Path, pairs: list[tuple[int, int]], sizes: list[int]
) -> None:
    found = build.build_eval_set(
        make_cfg(folder, "TEST.BATCH_SIZE", 8), "total_unlabel", "TEST", pairs
    )
    assert [len(chunk) for chunk in found.loader] == sizes


@pytest.mark.parametrize("transform", ["eval", "train"])
def test_adaptation_clips(folder: Path, transform: str) -> None:
    """Each dark video once, one clip each, no label."""
    cfg = make_cfg(folder, "ADAPT.TRANSFORM", transform)
    sampler, loader, items = build.build_adapt_loader(cfg)
    batches = list(loader)
    assert len(batches) == len(sampler) == 2
    assert sorted(index for batch in batches for index in batch["index"].tolist()) == [0, 1, 2, 3]
    size = 24 if transform == "eval" else 16
    assert {tuple(batch["clip"].shape) for batch in batches} == {(2, 3, 4, size, size)}
    assert {label for batch in batches for label in batch["label"].tolist()} == {-1}
    assert names(items) == [name for name, _ in DARK]


def test_adaptation_takes_as_many_batches_as_told(folder: Path) -> None:
    cfg = make_cfg(
        folder, "BN.NUM_BATCHES_PRECISE", 1, "TRAIN.BATCH_SIZE", 2, "TRAIN.MICRO_BATCH", 1
    )
    sampler, loader, _ = build.build_adapt_loader(cfg)
    assert len(list(loader)) == len(sampler) == 2
    cfg.BN.NUM_BATCHES_PRECISE = 0
    assert len(list(build.build_adapt_loader(cfg)[1])) == 4


def test_frames_are_scaled_while_decoding_where_asked(folder: Path) -> None:
    cfg = make_cfg(folder, "DATA.DECODE_SHORT_SIDE", 15)
    reader = build_video.build_video_reader(cfg)
    decoded = read_frames(reader, folder / "dark_train/Train/0.mp4", lambda num_frames: [0])
    assert decoded.frames.shape == (1, 15, 20, 3)
