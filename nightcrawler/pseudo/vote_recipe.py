"""Vote recipes: the modes of the final submission, and the vote among them.

Each mode is an ensemble with label switches. A key that nothing reads is an error.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from nightcrawler.pseudo.ensemble_recipe import (
    ENSEMBLE_KEYS,
    read_classes,
    read_ensemble,
    read_label_use,
)
from nightcrawler.pseudo.label_switches import parse_switches
from nightcrawler.pseudo.recipe_yaml import Values, open_values
from nightcrawler.pseudo.vote import TIES, Mode
from nightcrawler.utils.errors import UserError

VOTE_KEYS = (
    "CLASSES",
    "LABELS",
    "MODELS",
    "ENSEMBLE",
    "MODES",
    "VOTE.MODES",
    "VOTE.TIE",
    "OUTPUT.SOFTMAX",
)


@dataclass(frozen=True)
class VoteRecipe:
    """Recipe for the final submission.

    Attributes:
        classes: names of the K classes (empty if it fits any).
        labels: label use of the recipe's numbers, `label-free` or `oracle`.
        modes: number to mode.
        voters: numbers of the modes that vote.
        tie: one of `vote.TIES`.
        softmax_again: probabilities are soft-maxed once more when written, as the published
            files were.
    """

    classes: list[str]
    labels: str
    modes: dict[int, Mode]
    voters: list[int]
    tie: str
    softmax_again: bool

    def mode(self, number: int) -> Mode:
        """Return a mode by its number.

        Args:
            number: of the mode.

        Raises:
            UserError: listing the modes.
        """
        if number not in self.modes:
            raise UserError(
                f"mode {number}: the recipe has modes {', '.join(map(str, self.modes))}"
            )
        return self.modes[number]


def read_vote_recipe(path: str | Path) -> VoteRecipe:
    """Read a vote recipe.

    Args:
        path: the YAML file.

    Raises:
        ConfigError: naming file, line and key.

    Example:
        >>> recipe = read_vote_recipe("configs/vote/default.yaml")
        >>> recipe.voters, recipe.tie
        ([0, 1, 2, 3, 4], 'probability')
    """
    values = open_values(path)
    values.known(*VOTE_KEYS)
    classes = read_classes(values)
    modes = _modes(values, classes)
    voters = values.get("VOTE.MODES", list(modes))
    # `type` and not `isinstance`: True would be mode 1.
    are_modes = isinstance(voters, list) and all(
        type(one) is int and one in modes for one in voters
    )
    if not voters or not are_modes or len(set(voters)) < len(voters):
        raise values.fault("VOTE.MODES", f"{voters!r}, expected some of {list(modes)}, each once")
    labels = read_label_use(values)
    tie = values.choice("VOTE.TIE", TIES, TIES[0])
    softmax_again = values.flag("OUTPUT.SOFTMAX", False)
    return VoteRecipe(classes, labels, modes, voters, tie, softmax_again)


def _modes(values: Values, classes: list[str]) -> dict[int, Mode]:
    """Return number to mode."""
    # dict.fromkeys: each number once, in the order of the file.
    numbers = list(dict.fromkeys(name.split(".")[0] for name in values.mapping("MODES")))
    # Of a number spelled in two ways, one mode would hide the other.
    if not numbers or not all(re.fullmatch(r"0|[1-9]\d{0,8}", number) for number in numbers):
        raise values.fault(
            "MODES",
            f"{', '.join(numbers) or 'none'}: expected modes by their quoted numbers, such as "
            "'0' and '1'",
        )
    return {int(number): _mode(values.for_mode(number), classes) for number in numbers}


def _mode(values: Values, classes: list[str]) -> Mode:
    """Return the mode of values that are its own."""
    # Names of a mode were moved below ENSEMBLE by `for_mode`.
    values.known("MODELS", *ENSEMBLE_KEYS, "ENSEMBLE.RULES")
    try:
        switches = parse_switches(values.get("ENSEMBLE.RULES", []), classes)
    except UserError as error:
        raise values.fault("ENSEMBLE.RULES", str(error)) from None
    return Mode(read_ensemble(values, classes), switches)
