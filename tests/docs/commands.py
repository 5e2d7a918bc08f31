"""Commands held against what there is: scripts, their options, configuration keys and values, files, make targets."""

from __future__ import annotations

import functools
import importlib.util
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

import yaml
from fvcore.common.config import CfgNode

from nightcrawler.cli.commands import COMMANDS
from nightcrawler.config.load import load_experiment
from nightcrawler.config.node import get_cfg
from nightcrawler.pseudo.ensemble_recipe import ENSEMBLE_KEYS
from nightcrawler.pseudo.label_recipe import SELECT_KEYS
from nightcrawler.utils.errors import ConfigError
from nightcrawler.workflow.recipe_file import keys_at
from tests import tiny
from tests.paths import ROOT

KEY = re.compile(r"[A-Z][A-Z0-9_]*(\.[A-Z0-9_]+)+")
# Folders whose files are the project's; in an experiment's folder only these are, the rest is what comes out.
FOLDERS = re.compile(r"(configs|tools|gen_pseudo_tools|nightcrawler|docs|tests|exp_\w+)/\S*")
IN_EXPERIMENT = ("config.yaml", "run.sh", "test.sh")
# Words that stand for something of the reader's.
PLACEHOLDER = re.compile(r"\b(MODEL|FILE|DIR|EXPERIMENT|CONFIG|RECIPE|VIDEO|X|N|W)\b|\.\.\.|[{*<]")
SHELL = ("cd", "find", "tr", "xargs", "source", "ls")
PYTHONS = ("python", "python3", ".venv/bin/python")
# Programs of others, whose options are theirs.
INSTALLERS = ("pip", "git", "pre-commit", "curl")
CONTAINERS = ("docker", "apptainer", "kubectl")
# Those that `tests/workflow/test_snakemake.py` gives to the real program.
SNAKEMAKE_OPTIONS = ("--snakefile", "--cores", "--rerun-incomplete")
VALUE = re.compile(r"(--?[A-Za-z][\w-]*)(=.*)?")

Faults = Iterator[str]


def check(line: str, root: Path = ROOT, values: bool = True) -> Faults:
    """What is wrong with a line of commands, run in the folder `root`.

    Args:
        line: the commands.
        root: the project, or a copy that documents have added to.
        values: whether values of configurations are looked at, too, which needs no more than the project itself.
    """
    try:
        words = shlex.split(line)
    except ValueError as error:
        yield f"{line}: {error}"
        return
    for part in _parts(words):
        yield from (f"{' '.join(part)}: {fault}" for fault in _check_one(part, root, values))


def _parts(words: Sequence[str]) -> Iterator[list[str]]:
    """The simple commands of a line, without the variables set before them; `&&` and the like stand alone."""
    part: list[str] = []
    for word in [*words, ";"]:
        if word in ("&&", "||", "|", ";", "&"):
            while part and re.fullmatch(r"[A-Z_]+=.*", part[0]):
                part.pop(0)
            if part:
                yield part
            part = []
        else:
            part.append(word)


def _check_container(words: list[str], root: Path, values: bool) -> Faults:
    """Files of the project that are named, and the command of the package behind the image."""
    for number, word in enumerate(words):
        if word.startswith("containers/") and not (ROOT / word).is_file():
            yield f"no file {word}"
        is_image = word.startswith("nightcrawler:") or word.endswith(".sif")
        if words[0] == "run" and is_image:
            yield from _check_command(words[number + 1 :], values)
            return


def _check_one(words: list[str], root: Path, values: bool) -> Faults:
    program, rest = words[0], words[1:]
    if program in SHELL:
        return
    if program == "make":
        yield from (
            f"no target '{target}'"
            for target in rest
            if "=" not in target and target not in make_targets()
        )
    elif program in PYTHONS and rest[:1] == ["-m"]:
        if importlib.util.find_spec(rest[1]) is None:
            yield f"no module {rest[1]}"
    elif program in PYTHONS:
        yield from _check_script(rest[0], rest[1:], root, values)
    elif program == "nightcrawler":
        yield from _check_command(rest, values)
    elif program in INSTALLERS:
        return
    elif program in ("bash", "sbatch", "torchrun"):
        yield from _check_launched(rest, root, values)
    elif program in CONTAINERS:
        yield from _check_container(rest, root, values)
    elif program == "snakemake":
        yield from (
            f"no option {word}"
            for word in rest
            if word.startswith("-") and word not in SNAKEMAKE_OPTIONS
        )
    else:
        yield "a program that the test does not know"
    yield from check_paths(rest, root)


def _check_launched(words: Sequence[str], root: Path, values: bool) -> Faults:
    if "--wrap" in words:
        yield from check(words[words.index("--wrap") + 1], root, values)
        return
    scripts = [word for word in words if word.endswith((".sh", ".py"))]
    if not scripts:
        yield "starts no script"
        return
    rest = list(words[words.index(scripts[0]) + 1 :])
    script = Path(scripts[0])
    if script.name in ("run.sh", "test.sh"):
        rest = ["train", "--cfg", str(script.parent / "config.yaml"), *rest]
        script = Path("tools/run_net.py")
    elif script.suffix == ".sh" and rest and (root / rest[0] / "config.yaml").is_file():
        rest = ["train", "--cfg", f"{rest[0]}/config.yaml", *rest[1:]]
        script = Path("tools/run_net.py")
    if script.suffix == ".py":
        yield from _check_script(str(script), rest, root, values)


def _check_script(script: str, arguments: Sequence[str], root: Path, values: bool) -> Faults:
    if not (root / script).is_file():
        yield "no such script"
        return
    word = arguments[0] if arguments and re.fullmatch(r"[a-z0-9]+", arguments[0]) else ""
    known = options(script, "") | options(script, word)
    given = [match[1] for match in map(VALUE.fullmatch, arguments) if match]
    yield from (f"{script} has no option {option}" for option in given if option not in known)
    yield from _check_overrides(arguments, values)


def _check_command(words: Sequence[str], values: bool) -> Faults:
    """A sub-command of `nightcrawler` exists, with the options that are given."""
    name, *arguments = words or ["--help"]
    if name.startswith("-"):
        return
    if name not in COMMANDS:
        yield f"no command {name}"
        return
    script = f"-m nightcrawler {name}"
    word = arguments[0] if arguments and re.fullmatch(r"[a-z0-9]+", arguments[0]) else ""
    known = options(script, "") | options(script, word)
    given = [match[1] for match in map(VALUE.fullmatch, arguments) if match]
    yield from (f"{name} has no option {option}" for option in given if option not in known)
    yield from _check_overrides(arguments, values)


def _check_overrides(arguments: Sequence[str], values: bool) -> Faults:
    """Keys exist; where the experiment is known, it can be loaded with these values."""
    pairs = [
        place for place, word in enumerate(arguments) if KEY.fullmatch(word) or word in plain_keys()
    ]
    unknown = [arguments[place] for place in pairs if arguments[place] not in config_keys()]
    yield from (f"no key {key}" for key in unknown)
    if unknown or not values or "--cfg" not in arguments:
        return
    cfg = ROOT / arguments[arguments.index("--cfg") + 1]
    layers = [
        ROOT / arguments[place + 1] for place, word in enumerate(arguments) if word == "--overlay"
    ]
    overrides = [word for place in pairs for word in arguments[place : place + 2]]
    if all(path.is_file() for path in (cfg, *layers)) and not any(
        map(PLACEHOLDER.search, overrides)
    ):
        try:
            load_experiment(cfg, layers, overrides)
        except ConfigError as error:
            yield str(error)


def check_paths(words: Sequence[str], root: Path) -> Faults:
    """Paths of the project's own files lead somewhere."""
    for word in words:
        path = Path(word)
        if not FOLDERS.fullmatch(word):
            continue
        if path.parts[0].startswith("exp_") and path.suffix and path.name not in IN_EXPERIMENT:
            path = path.parent
        pattern = re.sub(PLACEHOLDER, "*", str(path)).replace("}", "").replace(">", "")
        if not any(root.glob(pattern)):
            yield f"there is no {path}"


@functools.cache
def options(script: str, word: str) -> frozenset[str]:
    """Options that the help of a script (or of `-m nightcrawler COMMAND`) knows.

    Args:
        script: path of the script, or the module and its command.
        word: a sub-command of it; empty for none.
    """
    started = script.split() if script.startswith("-m ") else [str(ROOT / script)]
    command = [sys.executable, *started, *([word] if word else []), "--help"]
    env = tiny.environment(PYTHONPATH=str(ROOT))
    found = subprocess.run(
        command, capture_output=True, text=True, env=env, timeout=60, check=False
    ).stdout
    return frozenset(re.findall(r"(?<![\w-])--?[A-Za-z][\w-]*", found.partition("examples:")[0]))


@functools.cache
def make_targets() -> frozenset[str]:
    """Targets of the Makefile."""
    return frozenset(re.findall(r"^([a-z][\w-]*):", (ROOT / "Makefile").read_text(), re.MULTILINE))


def _flat(node: CfgNode | dict[str, object], prefix: str = "") -> Iterator[str]:
    for key, value in node.items():
        yield prefix + str(key)
        if isinstance(value, dict):
            yield from _flat(value, f"{prefix}{key}.")


@functools.cache
def config_keys() -> frozenset[str]:
    """Every key of an experiment's configuration."""
    return frozenset(_flat(get_cfg()))


def plain_keys() -> frozenset[str]:
    """Keys outside sections."""
    return frozenset(
        key for key in config_keys() if "." not in key and not hasattr(get_cfg()[key], "keys")
    )


@functools.cache
def all_keys() -> frozenset[str]:
    """Keys of configurations and recipes."""
    recipes = [
        *(ROOT / "configs").glob("pseudo/**/*.yaml"),
        *(ROOT / "configs").glob("[vp]*/*.yaml"),
    ]
    found = {key for path in recipes for key in _flat(yaml.safe_load(path.read_text()))}
    select = {f"SELECT.{key}" for keys in SELECT_KEYS.values() for key in keys}
    # `NAME` stands for the name of a model or stage, `KIND` for a kind of task.
    chain = set()
    places = ((), ("DATA",), ("MODELS", "NAME"), ("STAGES", "NAME"), ("TEST",), ("VOTE",))
    for place in (*places, ("RESOURCES", "KIND")):
        chain |= {".".join((*place, key)) for key in keys_at(place)}
    return frozenset({*config_keys(), *found, *select, *chain, *ENSEMBLE_KEYS})
