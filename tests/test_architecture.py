"""The shape of the code, read from its syntax trees: who sees `cfg`, who imports whom, what is safe, what is short.

A rule is a function from a source to its faults (`line: what`); each is tried on bad code before it judges ours.
"""

from __future__ import annotations

import ast
import functools
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.paths import ROOT

PACKAGE = "nightcrawler"
MAX_FILE_LINES = 400
MAX_FUNCTION_LINES = 60
TOP_LEVEL = ("tools", "gen_pseudo_tools", "tests", "setup", "test_ensemble_vote")

# Package to what it may import of ours, besides itself; a dotted name is one module of a package.
ENGINE = ("config", "data", "models", "adapt", "pseudo", "synthetic", "utils")
IMPORTS: dict[str, tuple[str, ...]] = {
    "": ("data", "models", "predict", "pseudo"),
    "utils": (),
    "config": ("utils",),
    "data": ("config", "utils"),
    "models": ("config", "utils"),
    "adapt": ("utils",),
    "adapt.build": ("config", "utils"),
    "pseudo": ("data.lists", "data.splits", "utils"),
    "pseudo.recipe_yaml": ("config.yaml_file", "utils"),
    "synthetic": ("data.lowlight.camera", "utils"),
    "prepare": ("data", "utils"),
    "engine": ENGINE,
    "workflow": (*ENGINE, "prepare", "engine"),
    "report": (*ENGINE, "prepare", "engine", "workflow"),
    "predict": (*ENGINE, "prepare", "engine"),
    "export": (*ENGINE, "engine", "predict.checkpoints"),
    "web": (*ENGINE, "engine", "predict"),
    "cli": (*ENGINE, "prepare", "engine", "workflow", "report", "predict", "export", "web"),
}

Function = ast.FunctionDef | ast.AsyncFunctionDef


@dataclass(frozen=True)
class Source:
    """A Python file: its path below the project's root, and its text."""

    path: str
    text: str

    @functools.cached_property
    def tree(self) -> ast.Module:
        return ast.parse(self.text)

    @property
    def module(self) -> str:
        """Dotted name below the package: `data.lists`; empty for the package itself and for command lines."""
        parts = Path(self.path).with_suffix("").parts
        if parts[0] != PACKAGE:
            return ""
        return ".".join(parts[1:-1] if parts[-1] == "__init__" else parts[1:])


Faults = Iterator[tuple[int, str]]


def sources(*folders: str) -> list[Source]:
    """The Python files of folders (or single files) that are there."""
    paths: list[Path] = []
    for folder in folders:
        found = ROOT / folder
        paths += [found] if found.is_file() else sorted(found.rglob("*.py"))
    return [Source(str(path.relative_to(ROOT)), path.read_text(encoding="utf-8")) for path in paths]


def all_sources() -> list[Source]:
    return sources(PACKAGE, "tools", "gen_pseudo_tools", "test_ensemble_vote.py", "setup.py")


def judge(rule: Callable[[Source], Faults], found: list[Source]) -> None:
    assert found
    faults = [f"{source.path}:{line}: {what}" for source in found for line, what in rule(source)]
    assert not faults, "\n" + "\n".join(faults)


def functions(tree: ast.AST) -> Iterator[Function]:
    return (
        node for node in ast.walk(tree) if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef))
    )


def own_nodes(node: ast.AST) -> Iterator[ast.AST]:
    """The nodes below one, without those of functions inside."""
    for child in ast.iter_child_nodes(node):
        if not isinstance(child, (ast.FunctionDef, ast.AsyncFunctionDef)):
            yield child
            yield from own_nodes(child)


def arguments(function: Function | ast.Lambda) -> list[ast.arg]:
    args = function.args
    return [
        *args.posonlyargs,
        *args.args,
        *args.kwonlyargs,
        *filter(None, (args.vararg, args.kwarg)),
    ]


def dotted(node: ast.AST) -> str:
    """`a.b.c` of an expression of names and attributes, with `?` for anything else."""
    if isinstance(node, ast.Attribute):
        return f"{dotted(node.value)}.{node.attr}"
    return node.id if isinstance(node, ast.Name) else "?"


# --- who sees cfg -----------------------------------------------------------------------------------------------


def sees_cfg(source: Source) -> Faults:
    """Only `build*`, `_build*` and `from_cfg` may name `cfg` or take a CfgNode; nobody keeps one."""
    tree = source.tree
    for scope in (tree, *functions(tree)):
        name = getattr(scope, "name", "the module")
        if name.startswith(("build", "_build")) or name == "from_cfg":
            continue
        if scope is not tree and any(_is_cfg_argument(argument) for argument in arguments(scope)):
            yield scope.lineno, f"{name} takes a configuration"
        for node in own_nodes(scope):
            if (isinstance(node, ast.Name) and node.id == "cfg") or (
                isinstance(node, ast.arg) and node.arg == "cfg"
            ):
                yield node.lineno, f"{name} names cfg"
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute) and node.attr in ("cfg", "_cfg"):
            yield node.lineno, f"{dotted(node)} keeps a configuration"


def _is_cfg_argument(argument: ast.arg) -> bool:
    annotation = ast.unparse(argument.annotation) if argument.annotation else ""
    return argument.arg == "cfg" or "CfgNode" in annotation


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
def test_the_rule_on_cfg_sees(text: str) -> None:
    assert list(sees_cfg(Source("nightcrawler/data/x.py", text)))


def test_configuration_stops_at_the_door() -> None:
    allowed = "def build_x(cfg):\n    return cfg.A\nclass T:\n    @classmethod\n    def from_cfg(cls, cfg): return cfg.A"
    assert not list(sees_cfg(Source("nightcrawler/data/x.py", allowed)))
    judge(
        sees_cfg, [source for source in sources(PACKAGE) if not source.module.startswith("config")]
    )


# --- who imports whom -------------------------------------------------------------------------------------------


def imported(tree: ast.AST) -> Iterator[tuple[int, str]]:
    """Line and dotted name of everything that is imported, in functions too."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from ((node.lineno, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = "." * node.level + (node.module or "")
            yield from ((node.lineno, f"{base}.{alias.name}") for alias in node.names)


def breaks_the_table(source: Source) -> Faults:
    module = source.module
    package = module.split(".")[0]
    if package not in IMPORTS:
        yield 1, f"package {package} is not in the table"
        return
    allowed = (package, *IMPORTS.get(module, IMPORTS[package]))
    for line, name in imported(source.tree):
        if name.startswith("."):
            yield line, f"imports {name}: write whole names"
        elif name.split(".")[0] in TOP_LEVEL:
            yield line, f"imports {name}: nothing imports command lines or tests"
        elif name.split(".")[0] == PACKAGE:
            target = name.removeprefix(f"{PACKAGE}.")
            if target != "__version__" and not any(
                f"{target}.".startswith(f"{other}.") for other in allowed if other
            ):
                yield (
                    line,
                    f"{package or PACKAGE} imports {name}, it may only import {', '.join(allowed) or 'nothing'}",
                )


@pytest.mark.parametrize(
    ("path", "text"),
    [
        ("utils/x.py", "from nightcrawler.config.node import dump"),
        ("data/x.py", "import nightcrawler.models.build"),
        ("models/x.py", "def f():\n    from nightcrawler.data.transforms import normalise"),
        ("adapt/batchnorm.py", "from nightcrawler.config.node import dump"),
        ("pseudo/x.py", "from nightcrawler.data import batch_sampler"),
        ("engine/x.py", "from tools.run_net import main"),
        ("engine/x.py", "from . import trainer"),
        ("new/x.py", ""),
    ],
)
def test_the_rule_on_imports_sees(path: str, text: str) -> None:
    assert list(breaks_the_table(Source(f"{PACKAGE}/{path}", text)))


def test_imports_follow_the_table() -> None:
    for path, text in (
        (
            "pseudo/x.py",
            "from nightcrawler.data.lists import read_list\nfrom nightcrawler.data import lists",
        ),
        ("adapt/build.py", "from nightcrawler.config.node import dump"),
        (
            "utils/x.py",
            "from nightcrawler import __version__\nfrom nightcrawler.utils import io\nimport torch",
        ),
    ):
        assert not list(breaks_the_table(Source(f"{PACKAGE}/{path}", text)))
    judge(breaks_the_table, sources(PACKAGE))


def imports_any_of(source: Source, *packages: str) -> Faults:
    return (
        (line, f"imports {name}")
        for line, name in imported(source.tree)
        if name.split(".")[0] in packages
    )


def test_nothing_imports_the_command_lines() -> None:
    judge(lambda source: imports_any_of(source, *TOP_LEVEL), all_sources())


def test_pseudo_labels_need_no_torch() -> None:
    assert list(imports_any_of(Source("x.py", "def f():\n    import torch.nn"), "torch"))
    judge(
        lambda source: imports_any_of(source, "torch", "torchvision", "fvcore"),
        sources(f"{PACKAGE}/pseudo"),
    )


# --- what is safe -----------------------------------------------------------------------------------------------

UNPICKLER = f"{PACKAGE}/pseudo/predictions.py"
STRICT_YAML = f"{PACKAGE}/config/yaml_file.py"
FORBIDDEN_CALLS = {
    "eval",
    "exec",
    "compile",
    "__import__",
    "os.system",
    "os.popen",
    "torch.jit.load",
    "torch.hub.load",
}
FORBIDDEN_MODULES = {
    "dill",
    "cloudpickle",
    "joblib",
    "shelve",
    "marshal",
    "_pickle",
    "cPickle",
    "commands",
    "pty",
}
# Readers that run what a file says, whatever object they are called on.
FORBIDDEN_METHODS = {
    "read_pickle",
    "merge_from_file",
    "merge_from_list",
    "load_yaml_with_base",
    "load_cfg",
}
WATCHED = ("pickle", "yaml", "os", "subprocess", "torch", "builtins")
PICKLE = {
    "pickle.dump",
    "pickle.dumps",
    "pickle.UnpicklingError",
    "pickle.PickleError",
    "pickle.PicklingError",
}
YAML_WRITING = {"yaml.dump", "yaml.safe_dump", "yaml.SafeDumper", "yaml.ScalarNode"}
YAML_READING = re.compile(r"yaml\.(parse|compose|SafeLoader|YAMLError|\w+Event|\w*Node)")


def is_unsafe(source: Source) -> Faults:
    for line, name in imported(source.tree):
        base, _, last = name.rpartition(".")
        if name.split(".")[0] in FORBIDDEN_MODULES:
            yield line, f"imports {name}"
        elif (
            base in ("pickle", "yaml", "os", "builtins") and last not in ("PathLike", "path")
        ) or name == "torch.load":
            yield line, f"imports {last} from {base}: import the module, so that its use is seen"
    for node in ast.walk(source.tree):
        if isinstance(node, (ast.Import, ast.ImportFrom)):
            hidden = [alias.name for alias in node.names if alias.asname and alias.name in WATCHED]
            yield from ((node.lineno, f"renames {name}") for name in hidden)
        elif isinstance(node, ast.Call):
            yield from _unsafe_call(node)
        if isinstance(node, ast.Attribute):
            yield from _unsafe_name(node, source.path)


def _unsafe_call(node: ast.Call) -> Faults:
    name, keywords = dotted(node.func), {keyword.arg: keyword.value for keyword in node.keywords}
    if name in FORBIDDEN_CALLS or name.rpartition(".")[2] in FORBIDDEN_METHODS:
        yield node.lineno, f"calls {name}"
    if name == "torch.load" and not _is_constant(keywords.get("weights_only"), True):
        yield node.lineno, "torch.load without weights_only=True"
    for option in ("shell", "allow_pickle"):
        if option in keywords and not _is_constant(keywords[option], False):
            yield node.lineno, f"{name} with {option}"
    if (
        name in ("yaml.parse", "yaml.compose")
        and dotted(keywords.get("Loader", node)) != "yaml.SafeLoader"
    ):
        yield node.lineno, f"{name} without Loader=yaml.SafeLoader"


def _is_constant(node: ast.AST | None, value: bool) -> bool:
    return isinstance(node, ast.Constant) and node.value is value


def _unsafe_name(node: ast.Attribute, path: str) -> Faults:
    name = dotted(node)
    allowed = PICKLE | ({"pickle.Unpickler"} if path == UNPICKLER else set())
    if name.startswith("pickle.") and name not in allowed:
        yield node.lineno, f"uses {name}"
    reads = path == STRICT_YAML and YAML_READING.fullmatch(name)
    if name.startswith("yaml.") and name not in YAML_WRITING and not reads:
        yield node.lineno, f"uses {name}: configurations are read by {STRICT_YAML}"


UNSAFE = """
pickle.load(file)
pickle.loads(data)
class A(pickle.Unpickler): pass
load = pickle.load
from pickle import load
import pickle as p
import dill
pandas.read_pickle(path)
numpy.load(path, allow_pickle=True)
torch.load(path)
torch.load(path, weights_only=False)
torch.load(path, weights_only=flag)
from torch import load
yaml.load(text, Loader=yaml.UnsafeLoader)
yaml.safe_load(text)
yaml.compose(text)
from yaml import safe_load
settings.merge_from_file(path)
subprocess.run(line, shell=True)
subprocess.run(line, shell=flag)
os.system(line)
from os import system
eval(text)
exec(text)
__import__(name)
"""


@pytest.mark.parametrize("text", UNSAFE.strip().splitlines())
def test_the_rule_on_safety_sees(text: str) -> None:
    assert list(is_unsafe(Source("nightcrawler/data/x.py", text)))


def test_nothing_read_from_outside_is_executed() -> None:
    fine = "model.eval()\ntorch.load(p, weights_only=True)\nsubprocess.run([a])\nre.compile(a)\npickle.dump(a, f)"
    assert not list(is_unsafe(Source("nightcrawler/data/x.py", fine)))
    judge(is_unsafe, all_sources())


# --- what is short and said -------------------------------------------------------------------------------------


def is_long(source: Source) -> Faults:
    lines = len(source.text.splitlines())
    if lines > MAX_FILE_LINES:
        yield lines, f"{lines} lines, at most {MAX_FILE_LINES}"
    for function in functions(source.tree):
        length = (function.end_lineno or 0) - function.lineno + 1
        if length > MAX_FUNCTION_LINES:
            yield (
                function.lineno,
                f"{function.name} has {length} lines, at most {MAX_FUNCTION_LINES}",
            )


def test_files_and_functions_are_short() -> None:
    assert not list(is_long(Source("x.py", "def f():\n" + "    a\n" * 59 + "b\n" * 340)))
    assert len(list(is_long(Source("x.py", "def f():\n" + "    a\n" * 60 + "b\n" * 340)))) == 2
    judge(is_long, all_sources())


def public(node: ast.AST, inside: str = "") -> Iterator[tuple[str, ast.AST]]:
    """Public classes, functions and methods below a module or class: dotted name and node."""
    for child in ast.iter_child_nodes(node):
        if isinstance(child, (ast.If, ast.Try)):
            yield from public(child, inside)
        elif (
            isinstance(child, (ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef))
            and child.name[0] != "_"
        ):
            yield f"{inside}{child.name}", child
            if isinstance(child, ast.ClassDef):
                yield from public(child, f"{inside}{child.name}.")


def is_unsaid(source: Source) -> Faults:
    if not ast.get_docstring(source.tree):
        yield 1, "the module has no docstring"
    for name, node in public(source.tree):
        if not ast.get_docstring(node):
            yield node.lineno, f"{name} has no docstring"


def is_untyped(source: Source) -> Faults:
    """Public functions and methods, and the special methods of all classes."""
    found = {node: name for name, node in public(source.tree) if not isinstance(node, ast.ClassDef)}
    for node in ast.walk(source.tree):
        if isinstance(node, ast.ClassDef):
            methods = [child for child in node.body if isinstance(child, ast.FunctionDef)]
            found |= {method: method.name for method in methods if method.name.startswith("__")}
    for function, name in found.items():
        missing = [argument.arg for argument in arguments(function) if argument.annotation is None]
        missing = [argument for argument in missing if argument not in ("self", "cls")]
        if missing:
            yield function.lineno, f"{name} does not say the type of {', '.join(missing)}"
        if function.returns is None:
            yield function.lineno, f"{name} does not say what it returns"


def test_everything_public_has_a_docstring() -> None:
    bad = "class A:\n    @property\n    def p(self): pass\n    def forward(self): pass\nif True:\n    def f(): pass"
    assert len(list(is_unsaid(Source("x.py", bad)))) == 5
    assert not list(
        is_unsaid(
            Source("x.py", '"""M."""\ndef _f(): pass\ndef f():\n    """F."""\n    def g(): pass')
        )
    )
    judge(is_unsaid, sources(PACKAGE))


def test_everything_public_has_types() -> None:
    bad = "def f(a, *, b: int, **c) -> None: pass\nclass A:\n    def g(self): pass\n    def __init__(self, x): pass"
    assert [what for _, what in is_untyped(Source("x.py", bad))] == [
        "f does not say the type of a, c",
        "A.g does not say what it returns",
        "__init__ does not say the type of x",
        "__init__ does not say what it returns",
    ]
    judge(is_untyped, sources(PACKAGE))
