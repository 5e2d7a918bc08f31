"""Two streams: length of an epoch, separate and joint steps, losses of pseudo-labels."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from nightcrawler.data.build import build_train_streams
from nightcrawler.engine.build import build_trainer
from nightcrawler.engine.trainer import Trainer
from nightcrawler.utils.errors import UserError
from tests import tiny

STILL = (
    "SOLVER.BASE_LR",
    0,
    "SOLVER.COSINE_END_LR",
    0,
    "SOLVER.WARMUP_EPOCHS",
    0,
)
QUICK = (
    "SOLVER.MAX_EPOCH",
    1,
    "ADAPT.NAME",
    "none",
    "AUG.AA_TYPE",
    "",
    "TRAIN.VAL_SPLITS",
    "[val_dry]",
)


def build(data: Path, out: Path, *overrides: Any) -> Trainer:
    shown = (*QUICK, "SOLVER.WARMUP_EPOCHS", 0, *overrides)
    return build_trainer(tiny.config(data, out, *shown, experiment=tiny.PSEUDO_EXPERIMENT))


def count_updates(trainer: Trainer) -> list[int]:
    """A list that grows by one with each optimiser step."""
    updates: list[int] = []
    trainer.optimizer.register_step_post_hook(lambda *_: updates.append(1))
    return updates


def test_labelled_classes_are_drawn_equally_often_however_few_clips_they_have(
    own_data: Path, tmp_path: Path
) -> None:
    """Five clips of class 0 and one each of 1 to 3: every class comes twice in a pass of eight."""
    path = own_data / "train_label+val_dry.csv"
    rows = [line.split(",")[0] for line in path.read_text().split()]
    labels = [0, 0, 0, 0, 0, 1, 2, 3, *range(tiny.NUM_VAL)]
    tiny.write_rows(path, list(zip(rows, labels, strict=True)))

    def drawn(balance: str) -> Counter[int]:
        cfg = tiny.config(own_data, tmp_path / balance, "TRAIN.BALANCE_LABELLED", balance)
        (stream,) = build_train_streams(cfg)
        assert len(stream.items) == 8
        return Counter(stream.items[place].label for place in stream.sampler.epoch_items(0))

    assert drawn("none") == {0: 5, 1: 1, 2: 1, 3: 1}
    assert drawn("draws") == {0: 2, 1: 2, 2: 2, 3: 2}
    assert drawn("logits") == drawn("weights") == drawn("none")


@pytest.mark.parametrize("joint", [False, True])
@pytest.mark.parametrize(
    ("num_pseudo", "length", "steps"),
    [
        (12, "labelled", 2),
        (12, "pseudo", 3),
        (12, "both", 3),
        (4, "labelled", 2),
        (4, "pseudo", 1),
        (4, "both", 2),
        (3, "pseudo", 1),
    ],
)
def test_steps_of_an_epoch(
    own_data: Path, tmp_path: Path, num_pseudo: int, length: str, steps: int, joint: bool
) -> None:
    """8 labelled clips make 2 batches of 4; a stream shorter than the epoch starts again, one with 3 clips too."""
    tiny.write_pseudo(own_data, num_pseudo)
    trainer = build(
        own_data, tmp_path / "run", "TRAIN.EPOCH_LENGTH", length, "TRAIN.JOINT_STEP", joint
    )
    updates = count_updates(trainer)
    trainer.fit()
    rows = tiny.metrics(tmp_path / "run", "train")
    assert [row["step"] for row in rows] == list(range(1, steps + 1))
    assert len(updates) == steps * (1 if joint else 2)
    assert all(
        set(row["top1"]) == {"labelled", "pseudo"} and isinstance(row["loss"], float)
        for row in rows
    )


def test_every_video_of_both_streams_is_seen(own_data: Path, tmp_path: Path) -> None:
    """Over two epochs of three steps of four, 8 labelled clips come three times each and 12 dark clips twice."""
    tiny.write_pseudo(own_data, 12)
    trainer = build(
        own_data, tmp_path / "run", "SOLVER.MAX_EPOCH", 2, "TRAIN.BALANCE_PSEUDO", False
    )
    seen: dict[str, list[int]] = {"labelled": [], "pseudo": []}
    load = trainer.train_step._next

    def noted(number: int) -> dict[str, Any]:
        batch = load(number)
        seen[trainer.stream_losses[number].stream.name] += batch["index"].tolist()
        return batch

    trainer.train_step._next = noted
    trainer.fit()
    assert sorted(seen["labelled"]) == sorted([*range(8)] * 3)
    assert sorted(seen["pseudo"]) == sorted([*range(12)] * 2)


def last_loss(data: Path, out: Path, *overrides: Any) -> float:
    """Mean loss of an epoch in which the weights stand still."""
    build(data, out, *overrides, *STILL).fit()
    return tiny.metrics(out, "train")[-1]["loss"]


# Keys of the stream's steps have no effect beside weight 0.
WEIGHTLESS = ("TRAIN.PSEUDO_WEIGHT", 0, "TRAIN.BALANCE_PSEUDO", False)


def test_a_joint_step_sums_what_separate_steps_take_in_turn(own_data: Path, tmp_path: Path) -> None:
    tiny.write_pseudo(own_data, 12)
    apart = last_loss(own_data, tmp_path / "apart")
    joint = last_loss(own_data, tmp_path / "joint", "TRAIN.JOINT_STEP", True)
    assert joint == pytest.approx(2 * apart, rel=1e-6)


def test_pseudo_weight_scales_the_pseudo_loss_alone(own_data: Path, tmp_path: Path) -> None:
    tiny.write_pseudo(own_data, 12)
    losses = [last_loss(own_data, tmp_path / "without", *WEIGHTLESS)]
    for weight in (1, 3):
        keys = ("TRAIN.JOINT_STEP", True, "TRAIN.PSEUDO_WEIGHT", weight)
        losses.append(last_loss(own_data, tmp_path / str(weight), *keys))
    assert losses[1] > losses[0] > 0
    assert losses[2] - losses[0] == pytest.approx(3 * (losses[1] - losses[0]), rel=1e-5)


def test_the_pseudo_weight_grows_over_the_ramp(own_data: Path, tmp_path: Path) -> None:
    tiny.write_pseudo(own_data, 12)
    common = ("TRAIN.JOINT_STEP", True, "TRAIN.PSEUDO_WEIGHT")
    without = last_loss(own_data, tmp_path / "without", *WEIGHTLESS)
    unborn = last_loss(own_data, tmp_path / "unborn", *common, 1, "TRAIN.PSEUDO_RAMP_EPOCHS", 1e9)
    assert unborn == pytest.approx(without, rel=1e-6)
    pseudo_loss = build(
        own_data, tmp_path / "run", *common, 3, "TRAIN.PSEUDO_RAMP_EPOCHS", 2
    ).stream_losses[1]
    assert [pseudo_loss.weight_at(epoch) for epoch in (0, 0.5, 1, 2, 7)] == [0, 0.75, 1.5, 3, 3]


def test_balanced_pseudo_classes_come_equally_often(own_data: Path, tmp_path: Path) -> None:
    tiny.write_pseudo(own_data, 12)
    path = own_data / "pseudo/stage1.csv"
    names = [row.split(",")[0] for row in path.read_text().splitlines()]
    path.write_text("".join(f"{name},{int(place < 3)}\n" for place, name in enumerate(names)))
    stream = build(own_data, tmp_path / "run", "TRAIN.BALANCE_PSEUDO", True).stream_losses[1].stream
    drawn = [request.index for batch in stream.sampler for request in batch]
    assert [stream.items[index].label for index in drawn].count(1) == len(drawn) / 2


def test_each_pseudo_loss_trains_and_they_differ(own_data: Path, tmp_path: Path) -> None:
    tiny.write_pseudo(own_data, 4)
    kinds = {
        "hard": (),
        "soft": (),
        "kl": ("MODEL.PSEUDO_TEMPERATURE", 2),
        "kl_published": ("MODEL.PSEUDO_TEMPERATURE", 2),
    }
    losses, weights = set(), []
    for kind, more in kinds.items():
        trainer = build(own_data, tmp_path / kind, "MODEL.PSEUDO_LOSS", kind, *more)
        before = {name: value.clone() for name, value in trainer.model.named_parameters()}
        trainer.fit()
        assert len(tiny.differences(before, dict(trainer.model.named_parameters()))) > 0.9 * len(
            before
        )
        losses.add(tiny.metrics(tmp_path / kind, "train")[-1]["loss"])
        weights.append(trainer.model.head.weight.detach().clone())
    assert len(losses) == 4
    assert all(not weights[0].equal(other) for other in weights[1:])


def test_soft_losses_need_probabilities(own_data: Path, tmp_path: Path) -> None:
    tiny.write_pseudo(own_data, 8, probs=False)
    with pytest.raises(
        UserError, match=r"PSEUDO_LOSS soft needs probabilities.*stage1.csv has none"
    ):
        build(own_data, tmp_path / "run", "MODEL.PSEUDO_LOSS", "soft")
    build(own_data, tmp_path / "hard").fit()


def test_soft_losses_need_probabilities_of_every_row(own_data: Path, tmp_path: Path) -> None:
    tiny.write_pseudo(own_data, 8)
    path = own_data / "pseudo/stage1.csv"
    *rows, last = path.read_text().splitlines()
    path.write_text("\n".join([*rows, ",".join(last.split(",")[:2])]) + "\n")
    with pytest.raises(UserError, match=r"probabilities"):
        build(own_data, tmp_path / "run", "MODEL.PSEUDO_LOSS", "soft")


def test_a_missing_pseudo_file_is_named(data: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"stage1.csv: no such list"):
        build(data, tmp_path / "run")
