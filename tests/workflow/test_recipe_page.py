"""The page about recipes lists every key, with the default that it has."""

from __future__ import annotations

import re

from nightcrawler.workflow import recipe_file
from tests.paths import ROOT

SECTIONS: dict[str, type[recipe_file.Section]] = {
    "": recipe_file.RecipeFile,
    "DATA.": recipe_file.DataSection,
    "MODELS.NAME.": recipe_file.ModelSection,
    "STAGES.NAME.": recipe_file.StageSection,
    "TEST.": recipe_file.TestSection,
    "VOTE.": recipe_file.VoteSection,
    "RESOURCES.KIND.": recipe_file.Resources,
}
NESTED = {"DATA", "MODELS", "STAGES", "TEST", "VOTE", "RESOURCES"}


def rows() -> dict[str, str]:
    """Key to the text of its default."""
    text = (ROOT / "docs/recipes.md").read_text()
    found = re.findall(r"^\| `([A-Z_.]+)` \| .* \| ([^|]+) \|$", text, re.MULTILINE)
    return {key: default.strip("` ") for key, default in found}


def test_every_key_is_listed_and_no_other() -> None:
    keys = {
        f"{start}{info.alias}"
        for start, section in SECTIONS.items()
        for info in section.model_fields.values()
    }
    assert set(rows()) == keys - NESTED


def test_defaults_are_those_of_the_code() -> None:
    listed = rows()
    for start, section in SECTIONS.items():
        for info in section.model_fields.values():
            key = f"{start}{info.alias}"
            if key in listed and isinstance(info.default, int | float | str) and info.default != "":
                told = listed[key]
                assert float(told) == info.default if told[0].isdigit() else told == info.default
