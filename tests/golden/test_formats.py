"""Cases in the public format that are not among the public files, with figures found independently.

Steps and BatchNorm statistics of other families were computed by the references themselves, see
README.md; the rest is worked out here.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torchvision.transforms.functional import adjust_gamma

from tests.golden.__main__ import check_file
from tests.golden.ensemble_cases import logits_table
from tests.paths import GOLDEN

STEPS = (
    "mvit_tiny_adamw_steps",
    "fb_mvitv2_tiny_adamw_steps",
    "fb_slowfast_r50_w16_adamw_steps",
    "fb_slowfast_r50_w16_precise_bn",
)
RUN, SIT, STAND, WALK = 5, 6, 7, 9


def read(name: str) -> Any:
    return json.loads((GOLDEN / name).read_text(encoding="utf-8"))


def failed(case: object, tmp_path: Path) -> list[str]:
    """Names of the checks that fail, of a case that is judged as a whole."""
    path = tmp_path / "case.json"
    path.write_text(json.dumps(case))
    return [check.name for check in check_file(path) if not check.passed]


@pytest.mark.parametrize("stem", STEPS)
def test_steps_of_other_families(stem: str) -> None:
    checks = check_file(GOLDEN / f"{stem}.json")
    assert len(checks) > 20
    assert [check for check in checks if not check.passed] == []


def test_a_transformer_without_batchnorm_stays_as_it_is(tmp_path: Path) -> None:
    model = read("mvit_tiny_sep_cls.json")
    case = {
        name: read("uniformer_tiny_precise_bn.json")[name] for name in ("fill", "batches", "dtype")
    }
    case |= {
        "resolved_config": model["resolved_config"],
        "batch_shapes": [model["input_shape"]],
        "num_bn_layers": 0,
        "stats": {},
        "eval_logits_batch0_after": model["logits_float64"],
    }
    assert failed(case, tmp_path) == []
    case["eval_logits_batch0_after"][0][0] += 1e-6
    assert failed(case, tmp_path) == ["logits of batch 0 after"]


def torchvision_table(gamma: float) -> list[int]:
    """What torchvision makes of the 256 values."""
    values = torch.arange(256, dtype=torch.uint8).reshape(1, 1, 256)
    table: list[int] = adjust_gamma(values, gamma).flatten().tolist()
    return table


def test_gamma_tables_in_a_list_or_by_gamma(tmp_path: Path) -> None:
    tables = {gamma: torchvision_table(gamma) for gamma in (0.2, 0.4, 0.45, 1.0, 1.8, 2.2)}
    listed = [{"gamma": gamma, "lut": table} for gamma, table in tables.items()]
    named = {str(gamma): table for gamma, table in tables.items()}
    for luts in (listed, named):
        assert failed({"luts": luts}, tmp_path) == []
    # Both forms hold this list.
    tables[0.45][7] += 1
    for luts in (listed, named):
        assert failed({"luts": luts}, tmp_path) == ["table of gamma 0.45"]


def softmax(values: np.ndarray) -> np.ndarray:
    powers = np.exp(values.astype(np.float64))
    return np.asarray(powers / powers.sum(axis=1, keepdims=True))


def published_mode(case: Any, number: int, tables: dict[str, np.ndarray]) -> dict[str, Any]:
    """A final mode by the rules of the public file, one row and one switch after the other."""
    probs = {name: softmax(table) for name, table in tables.items()}
    # The published MViT gives probabilities, and softmax is taken of their sum again.
    probs["mvit"] = softmax(tables["mvit"])
    told = case["mode_rules"]["weights (rows whose ssv2 argmax not in {6,7})"]
    weights = next(told[names] for names in told if str(number) in names)
    mixed = sum(weight * probs[name] for name, weight in weights.items())
    led = np.isin(probs["ssv2"].argmax(axis=1), (SIT, STAND))
    mixed[led] = (0.1 * probs["ssv2"] + 0.2 * probs["k600"])[led]
    overruled = np.isin(mixed.argmax(axis=1), (RUN, WALK))
    mixed[overruled] = probs["sf"][overruled]
    before = mixed.argmax(axis=1)
    labels = before.copy()
    for label, gate, most, targets in case["post_rules_table"].get(str(number), []):
        for row in range(len(labels)):
            if labels[row] == label and mixed[row, gate] <= most:
                reached = [to for to, least in targets if mixed[row, to] >= least]
                labels[row] = reached[0] if reached else label
    return {
        "ensemble_prob": mixed.tolist(),
        "ensemble_argmax": before.tolist(),
        "final_pred": labels.tolist(),
        "output_prob_float32_first5rows": softmax(mixed[:5]).tolist(),
        "num_changed_by_rules": int((before != labels).sum()),
    }


def vote_case(variants: tuple[int, int], factors: tuple[float, float]) -> Any:
    """The public case of the final vote with tables of other numbers."""
    case = read("ensemble_final_vote.json")
    rows, numbers = case["table"]["rows"], case["table"]["model_index"]
    for modes, old, new in zip(
        ("modes 0,1,2", "modes 3,4"),
        ("(variant 0, factor 1)", "(variant 2, factor 1.5)"),
        zip(variants, factors, strict=True),
        strict=True,
    ):
        text = case["files"][modes].replace(old, f"(variant {new[0]}, factor {new[1]})")
        case["files"][modes] = text
    for number in range(5):
        late = number >= 3
        tables = {
            name: logits_table(rows, 11, index, variants[late], factors[late])
            for name, index in numbers.items()
        }
        case["modes"][str(number)] = published_mode(case, number, tables)
        if number == 0:
            case["four_model_equal_weight"] = equal_weights(tables)
    first, second = (np.array(case["modes"][number]["final_pred"]) for number in ("1", "4"))
    # Of two voters that differ both have a vote: the smaller class.
    case["vote_modes_1_and_4"] = np.minimum(first, second).tolist()
    return case


def equal_weights(tables: dict[str, np.ndarray]) -> dict[str, Any]:
    probs = {name: softmax(table) for name, table in tables.items()}
    mixed = sum(probs[name] for name in ("ssv2", "k600", "mvit", "sf")) / 4
    led = np.isin(probs["ssv2"].argmax(axis=1), (SIT, STAND))
    mixed[led] = (0.8 * probs["ssv2"] + 0.2 * probs["k600"])[led]
    overruled = np.isin(mixed.argmax(axis=1), (RUN, WALK))
    mixed[overruled] = probs["sf"][overruled]
    return {"argmax": mixed.argmax(axis=1).tolist(), "prob_rows_0_4": mixed[:5].tolist()}


def test_the_rules_worked_out_here_give_the_public_figures() -> None:
    public, found = read("ensemble_final_vote.json"), vote_case((0, 2), (1.0, 1.5))
    for number, expected in public["modes"].items():
        assert found["modes"][number]["final_pred"] == expected["final_pred"]
    assert found["vote_modes_1_and_4"] == public["vote_modes_1_and_4"]


@pytest.mark.parametrize(
    ("variants", "factors"), [((1, 3), (1.0, 1.5)), ((5, 5), (1.0, 1.0)), ((12, 7), (1.25, 2.0))]
)
def test_votes_over_tables_of_any_numbers(
    variants: tuple[int, int], factors: tuple[float, float], tmp_path: Path
) -> None:
    case = vote_case(variants, factors)
    assert failed(case, tmp_path) == []
    # With the numbers of the public file they are other classes.
    case["files"] = read("ensemble_final_vote.json")["files"]
    assert len(failed(case, tmp_path)) > 10


def test_pseudo_labels_of_any_variant(tmp_path: Path) -> None:
    case = read("ensemble_pseudo_labels.json") | {"variant": 4}
    tables = {
        name: logits_table(200, 11, index, 4, 1.0)
        for name, index in case["table"]["model_index"].items()
    }
    probs = {name: softmax(table) for name, table in tables.items()}
    weights = {"ssv2": 0.375, "k600": 0.375, "mvit": 0.1, "sf": 0.1}
    mixed = sum(weight * probs[name] for name, weight in weights.items())
    led = np.isin(probs["ssv2"].argmax(axis=1), (SIT, STAND))
    mixed[led] = (0.8 * probs["ssv2"] + 0.2 * probs["k600"])[led]
    labels = mixed.argmax(axis=1)
    for stage in case["stages"].values():
        least = stage["thresholds"] or dict.fromkeys(map(str, range(11)), 0)
        kept = [row for row in range(200) if mixed[row].max() >= least[str(labels[row])]]
        stage["num_selected"] = len(kept)
        counts = np.bincount(labels[kept], minlength=11)
        stage["label_counts"] = {str(label): int(n) for label, n in enumerate(counts) if n}
        stage["rows"] = [[row, int(labels[row]), *mixed[row].tolist()] for row in kept]
    assert failed(case, tmp_path) == []


def test_a_single_confidence_has_no_deviation(tmp_path: Path) -> None:
    """The reference's threshold is NaN, which a case holds as null: ours keeps the row."""
    logits = 2.5 * np.sin(0.3 + 0.37 * (np.arange(4) * (np.arange(4) + 3)))
    probs = softmax(logits[None])[0]
    one = {"N": 1, "C": 4, "phase": 0.3, "THRESHOLD": 2, "threshold": None}
    one |= {"top_label": int(probs.argmax()), "top_prob": float(probs.max())}
    assert failed({"cal_threshold": [one]}, tmp_path) == []
    assert failed({"cal_threshold": [one | {"threshold": 0.5}]}, tmp_path) != []


def test_a_gradient_that_is_null_is_absent(tmp_path: Path) -> None:
    case = read("uniformer_tiny_train.json")
    name = "head.bias"
    for dtype in ("float64", "float32"):
        case[dtype]["grad_l2"][name] = None
        case[dtype]["grad_first4"][name] = None
    wrong = [f"{dtype} |grad {name}|" for dtype in ("float64", "float32")]
    assert [check for check in failed(case, tmp_path) if "|grad" in check] == wrong


def test_a_branch_without_gradient_is_null(tmp_path: Path) -> None:
    """The last non-local stage of the fast pathway, which nothing reads."""
    case = read("sf32_k700_train_8x64.json")
    del case["float32"]
    name = "fast.res_nl4.res_0.conv1.weight"
    case["float64"]["grad_l2"][name] = None
    assert failed(case, tmp_path) == []


def test_clips_of_a_video_may_come_in_any_order_or_be_missing(tmp_path: Path) -> None:
    case = {"cases": [read("test_meter.json")["cases"][0]]}
    one = case["cases"][0]
    order = [11, 3, 0, 7, 6, 2, 9, 8, 1, 10]
    i = np.arange(12 * 11)
    scores = (2 * np.sin(0.37 * (i * (i + 3) % 10007) + one["phase"]) - 0.6).reshape(12, 11)
    sums = [sum(scores[clip] for clip in order if clip // 3 == video) for video in range(4)]
    ranks = [int((row > row[label]).sum()) for row, label in zip(sums, one["labels"], strict=True)]
    one["clip_order"], one["clip_count"] = order, [3, 1, 3, 3]
    one["video_preds"] = np.array(sums).tolist()
    one["stats"]["top1_acc"] = f"{100 * np.mean(np.array(ranks) < 1):.2f}"
    one["stats"]["top5_acc"] = f"{100 * np.mean(np.array(ranks) < 5):.2f}"
    assert failed(case, tmp_path) == []
    one["clip_order"] = list(range(12))
    assert len(failed(case, tmp_path)) >= 2
