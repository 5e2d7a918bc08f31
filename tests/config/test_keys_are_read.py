"""A key that has no effect is an error: every key of the defaults is read by some function, and no other key is.

Read are attributes of a section: `cfg.DATA.MEAN`, or through a local name as in `model, section = cfg.MODEL,
cfg.MVIT` and `section.DEPTH`. A section taken by a variable, `cfg.ENHANCE[phase]`, reads the keys that our
code names as text.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator

import pytest

from nightcrawler.config.node import flatten, get_cfg
from tests.paths import ROOT

SECTIONS = {key.split(".")[0] for key in flatten(get_cfg()) if "." in key}
CONFIG = ROOT / "nightcrawler" / "config"


def sources() -> list[str]:
    """Texts of all our code that may read a configuration."""
    paths = [
        path
        for folder in ("nightcrawler", "tools")
        for path in sorted((ROOT / folder).rglob("*.py"))
    ]
    # The loader itself reads `IMPORTS`; the rest of the package declares and checks.
    own = [path for path in paths if not path.is_relative_to(CONFIG)] + [CONFIG / "load.py"]
    return [path.read_text(encoding="utf-8") for path in own]


def is_cfg(node: ast.AST) -> bool:
    return isinstance(node, ast.Name) and node.id == "cfg"


def section_of(node: ast.AST, aliases: dict[str, str]) -> str | None:
    """The section that an expression is: `cfg.DATA`, or a local name of it."""
    if isinstance(node, ast.Attribute) and is_cfg(node.value) and node.attr in SECTIONS:
        return node.attr
    return aliases.get(node.id) if isinstance(node, ast.Name) else None


def aliases_in(function: ast.AST) -> dict[str, str]:
    """Local name to section, of assignments in a function (alone, or several in a tuple)."""
    found = {}
    for node in ast.walk(function):
        if not isinstance(node, ast.Assign) or len(node.targets) != 1:
            continue
        target, value = node.targets[0], node.value
        pairs = (
            zip(target.elts, value.elts, strict=True)
            if _are_tuples(target, value)
            else [(target, value)]
        )
        for name, expression in pairs:
            section = section_of(expression, {})
            if section and isinstance(name, ast.Name):
                found[name.id] = section
    return found


def _are_tuples(*nodes: ast.AST) -> bool:
    return (
        all(isinstance(node, ast.Tuple) for node in nodes)
        and len({len(node.elts) for node in nodes}) == 1
    )


def texts_in(text: str) -> set[str]:
    """The string constants of a module."""
    found = (node.value for node in ast.walk(ast.parse(text)) if isinstance(node, ast.Constant))
    return {value for value in found if isinstance(value, str)}


def keys_read(text: str, constants: set[str]) -> Iterator[str]:
    """The keys, `SECTION.KEY`, that a module's functions read; `constants` are the keys that variables may hold."""
    tree = ast.parse(text)
    for function in ast.walk(tree):
        if not isinstance(function, (ast.FunctionDef, ast.AsyncFunctionDef)):
            continue
        aliases = aliases_in(function)
        for node in ast.walk(function):
            if isinstance(node, ast.Attribute) and (section := section_of(node.value, aliases)):
                yield f"{section}.{node.attr}"
            elif (
                isinstance(node, ast.Attribute) and is_cfg(node.value) and node.attr not in SECTIONS
            ):
                yield node.attr
            elif isinstance(node, ast.Subscript) and (section := section_of(node.value, aliases)):
                yield from (f"{section}.{key}" for key in get_cfg()[section] if key in constants)


@pytest.fixture(scope="module")
def read() -> set[str]:
    constants = set().union(*map(texts_in, sources()))
    return {key for text in sources() for key in keys_read(text, constants)}


@pytest.mark.parametrize("key", flatten(get_cfg()))
def test_the_key_is_read(read: set[str], key: str) -> None:
    assert key in read, f"{key} of nightcrawler/config/schema has no effect: nothing reads it"


def test_no_other_key_is_read(read: set[str]) -> None:
    assert sorted(key for key in read if key == key.upper() and key not in flatten(get_cfg())) == []


def test_the_reader_tells_sections_and_functions_apart() -> None:
    text = """
def build_a(cfg, phase):
    model, section = cfg.MODEL, cfg.MVIT
    test = cfg.TEST
    return model.NAME, section.DEPTH, test.VIEWS, cfg.DATA.MEAN, cfg.RNG_SEED, cfg.ENHANCE[phase], "ADAPT"

def build_b(cfg):
    return section.EMBED_DIM, other.DATA.STD, cfg.AUG
"""
    expected = {"MODEL.NAME", "MVIT.DEPTH", "TEST.VIEWS", "DATA.MEAN", "RNG_SEED", "ENHANCE.ADAPT"}
    assert set(keys_read(text, texts_in(text))) == expected
