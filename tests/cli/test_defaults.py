"""`--help` of every command tells what holds where an option is not given."""

from __future__ import annotations

import argparse
import importlib
import re
from collections.abc import Iterator

import pytest

from nightcrawler.cli.commands import COMMANDS
from nightcrawler.config.node import get_cfg

# Words after a command's name that lead to its parsers.
WORDS = {"label": (["--help"],), "predict": ([], ["merge"])}
# Options that add something: without them it is simply not done, not written or not read.
ADDING = {
    "--annotate",
    "--bright",
    "--ceiling",
    "--cfg",
    "--check",
    "--control-of",
    "--csv",
    "--dark",
    "--data",
    "--ensemble",
    "--from",
    "--imports",
    "--json",
    "--jsonl",
    "--labels",
    "--list",
    "--mqtt",
    "--only",
    "--out",
    "--overlay",
    "--poses",
    "--pseudo",
    "--ray",
    "--recall",
    "--rename",
    "--results",
    "--shard",
    "--snakemake",
    "--split",
    "--timeline",
    "--to",
    "--truth",
    "--watch",
    "--webhook",
    "--zero-dce-weights",
}


class _Asked(Exception):
    """A parser that was asked to parse."""


def _parsers(parser: argparse.ArgumentParser) -> Iterator[argparse.ArgumentParser]:
    yield parser
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            for task in action.choices.values():
                yield from _parsers(task)


def parsers_of(name: str, monkeypatch: pytest.MonkeyPatch) -> list[argparse.ArgumentParser]:
    """All parsers of a command."""

    def ask(parser: argparse.ArgumentParser, *_: object) -> None:
        raise _Asked(parser)

    for method in ("parse_args", "parse_known_args", "parse_intermixed_args"):
        monkeypatch.setattr(argparse.ArgumentParser, method, ask)
    command = COMMANDS[name]
    function = getattr(
        importlib.import_module(f"nightcrawler.cli.{command.module}"), command.function
    )
    found: list[argparse.ArgumentParser] = []
    for words in WORDS.get(name, ([],)):
        with pytest.raises(_Asked) as asked:
            function(words)
        found += _parsers(asked.value.args[0])
    return found


def is_told(action: argparse.Action) -> bool:
    return re.search(r"\bdefault\b", action.help or "") is not None


@pytest.mark.parametrize("name", [name for name, one in COMMANDS.items() if not one.hidden])
def test_every_option_tells_its_default(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    untold = []
    for parser in parsers_of(name, monkeypatch):
        for action in parser._actions:
            if not action.option_strings or action.nargs == 0 or action.required:
                continue
            adds = not action.default and bool(ADDING.intersection(action.option_strings))
            if not adds and not is_told(action):
                untold.append(f"{parser.prog} {action.option_strings[-1]}: {action.help}")
    assert untold == []


def test_the_defaults_of_show_are_those_of_a_configuration(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    (parser,) = parsers_of("show", monkeypatch)
    told = {}
    for action in parser._actions:
        found = re.search(r"\(default ([^)]+)\)", action.help or "")
        if found:
            told[action.dest.upper()] = found[1]
    for key in ("GAMMA", "TARGET_MEAN", "CLAHE_CLIP", "CLAHE_TILES", "RETINEX_SIGMAS"):
        value = get_cfg().ENHANCE[key]
        numbers = value if isinstance(value, list) else [value]
        assert told[key] == " ".join(f"{number:g}" for number in numbers), key
    assert told["DENOISE_FRAMES"] == str(get_cfg().ENHANCE.DENOISE_FRAMES)
