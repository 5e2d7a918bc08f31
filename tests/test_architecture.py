"""Configuration stops at the door: below builders and command lines, nothing sees `cfg`.

The other rules on the code are those of ruff, import-linter, mypy and the readability measure (`make
lint`). Linters have no rule like this one, so it is read from the syntax trees here.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.paths import ROOT

PACKAGE = ROOT / "nightcrawler"
# Command lines and the package of the configuration itself are in front of the door.
OUTSIDE = ("cli", "config")

Function = ast.FunctionDef | ast.AsyncFunctionDef


def is_door(name: str) -> bool:
    """Whether a function of this name may see a configuration."""
    return name.startswith(("build", "_build")) or name.endswith(("from_cfg", "_of"))


def own_nodes(node: ast.AST) -> Iterator[ast.AST]:
    """The nodes below one, without those of functions inside."""
    for child in ast.iter_child_nodes(node):
        if not isinstance(child, Function):
            yield child
            yield from own_nodes(child)


def arguments(function: Function) -> list[ast.arg]:
    args = function.args
    others = [one for one in (args.vararg, args.kwarg) if one is not None]
    return [*args.posonlyargs, *args.args, *args.kwonlyargs, *others]


def is_cfg_argument(argument: ast.arg) -> bool:
    annotation = ast.unparse(argument.annotation) if argument.annotation else ""
    return argument.arg == "cfg" or "CfgNode" in annotation


def faults(text: str) -> Iterator[tuple[int, str]]:
    """Line and reason of every place below the door that names or keeps a configuration."""
    tree = ast.parse(text)
    functions = [node for node in ast.walk(tree) if isinstance(node, Function)]
    for scope in (tree, *functions):
        name = getattr(scope, "name", "the module")
        if is_door(name):
            continue
        if isinstance(scope, Function) and any(map(is_cfg_argument, arguments(scope))):
            yield scope.lineno, f"{name} takes a configuration"
        for node in own_nodes(scope):
            named = isinstance(node, ast.Name) and node.id == "cfg"
            if named or (isinstance(node, ast.arg) and node.arg == "cfg"):
                yield node.lineno, f"{name} names cfg"
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute) and node.attr in ("cfg", "_cfg"):
            yield node.lineno, f"{ast.unparse(node)} keeps a configuration"


@pytest.mark.parametrize(
    "text",
    [
        "def make(cfg): pass",
        "def make(settings: CfgNode): pass",
        "def make(): return cfg.DATA",
        "def build_x(cfg):\n    def inner(): return cfg.DATA\n    return inner",
        "class A:\n    def forward(self): return self.cfg.DATA",
        "class A:\n    def __init__(self, cfg): pass",
        "make = lambda cfg: cfg.DATA",
        "cfg = get_cfg()",
    ],
)
def test_the_rule_sees(text: str) -> None:
    assert list(faults(text))


@pytest.mark.parametrize(
    "text",
    [
        "def build_x(cfg):\n    return cfg.A",
        "def image_size_of(cfg):\n    return cfg.A",
        "class T:\n    @classmethod\n    def from_cfg(cls, cfg): return cfg.A",
    ],
)
def test_the_rule_lets_builders_see_a_configuration(text: str) -> None:
    assert not list(faults(text))


def test_configuration_stops_at_the_door() -> None:
    found: list[str] = []
    paths = sorted(PACKAGE.rglob("*.py"))
    assert paths
    for path in paths:
        place = path.relative_to(PACKAGE)
        if place.parts[0] not in OUTSIDE:
            text = Path(path).read_text(encoding="utf-8")
            found += [f"{place}:{line}: {reason}" for line, reason in faults(text)]
    assert not found, "\n" + "\n".join(found)
