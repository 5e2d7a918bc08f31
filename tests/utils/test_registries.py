"""The lists of names: lazily imported builders, registered once."""

from __future__ import annotations

import re
import subprocess
import sys

import pytest

from nightcrawler.utils import registries
from nightcrawler.utils.errors import UserError
from nightcrawler.utils.lazy_registry import Registry
from tests.paths import ROOT

REGISTRIES = {
    name: value for name, value in vars(registries).items() if isinstance(value, Registry)
}
BUILT_IN = [
    (kind, name.replace("NAME", "resnet18"))
    for kind, registry in REGISTRIES.items()
    for name in registry.names()
]


@pytest.mark.parametrize(("kind", "name"), BUILT_IN)
def test_every_name_has_a_builder(kind: str, name: str) -> None:
    assert name in REGISTRIES[kind]
    assert callable(REGISTRIES[kind].get(name))


def test_no_other_module_keeps_a_list_of_names() -> None:
    texts = {path: path.read_text() for path in (ROOT / "nightcrawler").rglob("*.py")}
    made = [path.name for path, text in texts.items() if re.search(r"(?m)^\w+ = Registry\(", text)]
    assert made == ["registries.py"]


def test_names_are_known_without_importing_what_they_name() -> None:
    code = (
        "import sys; from nightcrawler.utils.registries import MODELS;"
        "assert 'uniformer' in MODELS and 'timm/x' in MODELS and 'timm/' not in MODELS;"
        "assert 'unknown' not in MODELS and 'torchvision/unknown' not in MODELS;"
        "print([name for name in sys.modules if name in ('torch', 'numpy', 'timm')])"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert done.stdout == "[]\n"


def build_shape() -> None:
    """A builder."""


def test_a_function_in_the_place_of_the_description_is_told() -> None:
    shapes = Registry("shape")
    with pytest.raises(TypeError, match=r"register\('square'\)\(FUNCTION\)"):
        shapes.register("square", build_shape)
    assert "square" not in shapes


def test_a_name_is_registered_once_by_one_place() -> None:
    shapes = Registry("shape")
    shapes.add("square", f"{__name__}:build_shape", "four sides")
    assert shapes.descriptions() == {"square": "four sides"}
    # The module itself may register it, and may be imported again.
    for _ in range(2):
        assert shapes.register("square")(build_shape) is build_shape
    assert shapes.get("square") is build_shape
    with pytest.raises(ValueError, match=r"shape 'square' is registered twice: by tests\.utils\."):
        shapes.add("square", "elsewhere:build")


def test_a_family_serves_its_names() -> None:
    shapes = Registry("shape")
    shapes.register("polygon/")(build_shape)
    assert shapes.names() == ["polygon/NAME"]
    assert shapes.get("polygon/5") is build_shape
    for name in ("polygon/", "polygon", "other/5", ""):
        assert name not in shapes
        with pytest.raises(UserError, match=r"unknown shape .* \(known: polygon/NAME\)"):
            shapes.get(name)
