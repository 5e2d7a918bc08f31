"""Label switches: passes over a table."""

from __future__ import annotations

import numpy as np
import pytest

from nightcrawler.pseudo.label_switches import Switch, apply_switches, parse_switches
from nightcrawler.utils.errors import UserError

NAMES = ["Sit", "Stand", "Walk"]


def one_at_a_time(labels: np.ndarray, probs: np.ndarray, switches: list[Switch]) -> list[int]:
    """The rules of the docstring, a video at a time."""
    result = []
    for label, p in zip(labels.tolist(), probs, strict=True):
        for switch in switches:
            if label == switch.source and p[switch.gate] <= switch.at_most:
                label = next(
                    (target for target, least in switch.targets if p[target] >= least), label
                )
        result.append(label)
    return result


def test_passes_are_applied_in_turn_as_a_plain_loop_does() -> None:
    rng = np.random.default_rng(0)
    probs = rng.dirichlet(np.ones(5), 400)
    labels = probs.argmax(axis=1)
    switches = [
        Switch(0, 0, 0.6, ((1, 0.3), (2, 0.2))),
        Switch(1, 3, 0.1, ((0, 0.2), (4, 0.05))),
        Switch(2, 2, 0.5, ((0, 0.25),)),
        Switch(0, 0, 0.3, ((3, 0.01),)),
    ]
    found = apply_switches(labels, probs, switches)
    assert found.tolist() == one_at_a_time(labels, probs, switches)
    assert (found != labels).sum() > 20
    assert labels.tolist() == probs.argmax(axis=1).tolist()


def test_bounds_are_reached_by_their_equals() -> None:
    probs = np.array([[0.5, 0.25, 0.25]])
    assert apply_switches(np.array([0]), probs, [Switch(0, 0, 0.5, ((1, 0.25),))]).tolist() == [1]
    assert apply_switches(np.array([0]), probs, [Switch(0, 0, 0.4, ((1, 0.25),))]).tolist() == [0]
    assert apply_switches(np.array([0]), probs, [Switch(0, 0, 0.5, ((1, 0.26),))]).tolist() == [0]


def test_no_switches_change_nothing() -> None:
    labels = np.array([2, 0])
    assert apply_switches(labels, np.full((2, 3), 1 / 3), []).tolist() == [2, 0]


def test_a_table_is_read_by_class_names() -> None:
    table = [{"FROM": "Walk", "IF": "Sit", "AT_MOST": 0.5, "TO": [["Stand", 0.2], ["Sit", 0]]}]
    assert parse_switches(table, NAMES) == [Switch(2, 0, 0.5, ((1, 0.2), (0, 0.0)))]
    assert parse_switches([], NAMES) == []


GOOD = {"FROM": "Walk", "IF": "Sit", "AT_MOST": 0.5, "TO": [["Stand", 0.2]]}


@pytest.mark.parametrize(
    ("table", "said"),
    [
        ("x", "expected a list"),
        ([GOOD, 3], "row 2: expected the keys"),
        ([{**GOOD, "ELSE": 1}], "row 1: expected the keys"),
        (
            [{**GOOD, "FROM": "Run"}],
            "row 1: 'Run' is not a class; the classes are Sit, Stand, Walk",
        ),
        ([{**GOOD, "FROM": ["Walk"]}], "is not a class"),
        ([{**GOOD, "AT_MOST": 1.5}], "AT_MOST: 1.5, expected a number 0..1"),
        ([{**GOOD, "AT_MOST": True}], "AT_MOST"),
        ([{**GOOD, "TO": [["Stand"]]}], r"TO: expected \[\[class"),
        ([{**GOOD, "TO": [["Stand", "much"]]}], "TO Stand: 'much'"),
    ],
)
def test_a_bad_table_is_an_error_that_names_the_row(table: object, said: str) -> None:
    with pytest.raises(UserError, match=said):
        parse_switches(table, NAMES)
