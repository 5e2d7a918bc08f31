"""Public weights by name: their table, and where their files are.

A name stands wherever a checkpoint is named: `TRAIN.CHECKPOINT_FILE_PATH`,
`TEST.CHECKPOINT_FILE_PATH`, `predict --experiment`, `load()`, `create_model(pretrained=...)`.
"""

from __future__ import annotations

import os
from pathlib import Path

from nightcrawler.download.cache import cached_weights, offline_switch, read_record
from nightcrawler.download.fetch import Wanted, fetch, is_address
from nightcrawler.models.zoo_families import (
    FAMILIES,
    address_entry,
    family_entry,
    listed_entries,
)
from nightcrawler.models.zoo_table import PUBLISHED, ZooEntry
from nightcrawler.utils.errors import UserError
from nightcrawler.utils.lazy_registry import unknown_name
from nightcrawler.utils.project import packaged_root

WEIGHTS_FOLDER = "weights"
# Names of the small models inside the package start with this.
DEMO_PREFIX = "demo/"
# Best checkpoint that a training writes into its experiment's folder.
OWN_BEST = "best.pyth"
# Names with a table of their own. Families of libraries are looked up in those.
ZOO: dict[str, ZooEntry] = dict(PUBLISHED)


def zoo_names() -> list[str]:
    """Return all names that can be listed: the table's and torchvision's video models."""
    return list(listed_weights())


def listed_weights() -> dict[str, ZooEntry]:
    """Return the facts of all names that can be listed."""
    return {**ZOO, **listed_entries()}


def find_entry(name: str) -> ZooEntry | None:
    """Return the facts of weights by their name or address, `None` for a path.

    Args:
        name: a name of `zoo_names`, `timm/NAME`, `hf://OWNER/REPOSITORY/FILE` or `https://...`.

    Raises:
        UserError: if it is an address that must not be read, or a name that a library lacks.
    """
    if name in ZOO:
        return ZOO[name]
    if is_address(name):
        return address_entry(name)
    # Files of the user come before names of libraries.
    if name.startswith(FAMILIES) and not Path(name).exists():
        return family_entry(name)
    return None


def weights_files(entry: ZooEntry) -> tuple[Path, Path]:
    """Return where the file of a name is looked for: in `weights/`, then in the cache."""
    return Path(WEIGHTS_FOLDER) / entry.file, cached_weights(entry.file)


def demo_models() -> dict[str, Path]:
    """Return the models inside the package: name, such as `demo/uniformer_b32_k600`, to weights."""
    models = {}
    for path in sorted((packaged_root() / "configs/demo_weights").glob("*.safetensors")):
        models[f"{DEMO_PREFIX}{path.stem}"] = path
    return models


def find_weights(name_or_path: str | Path) -> Path:
    """Return the file of a path, of a name or of an address, if it is on this machine.

    Args:
        name_or_path: a path, or see `find_entry`.

    Raises:
        UserError: if there is no such file. The message says where to get it.
    """
    name = str(name_or_path)
    entry = find_entry(name)
    if entry is None:
        path = Path(name)
        if path.is_file():
            return path
        if name.startswith(DEMO_PREFIX) and name in demo_models():
            return demo_models()[name]
        raise UserError(_missing(path))
    for path in weights_files(entry):
        if path.is_file():
            return path
    raise UserError(_absent(name, entry))


def obtain_weights(name_or_path: str | Path) -> Path:
    """Return the file of a path, of a name or of an address, and download it if it is missing.

    Args:
        name_or_path: a path, or see `find_entry`.

    Raises:
        UserError: if there is no such file, and it cannot be had. The message says where to get it.
    """
    name = str(name_or_path)
    entry = find_entry(name)
    if entry is None or not entry.address or any(path.is_file() for path in weights_files(entry)):
        return find_weights(name)
    if offline_switch():
        raise UserError(_absent(name, entry))
    by_hand, target = weights_files(entry)
    # An address stands before the error already.
    what = "a checkpoint" if is_address(name) else f"weights '{name}'"
    fetch(entry.address, target, Wanted(what, entry.sha256, by_hand=by_hand))
    return target


def _absent(name: str, entry: ZooEntry) -> str:
    """Return a message about weights that are known and not on this machine."""
    switch = offline_switch()
    if not entry.address:
        how = f"get {Path(entry.file).name} from {entry.source}"
    elif switch:
        how = (
            f"{switch} is set, so nothing is downloaded: unset it, or get {entry.address} "
            f"({entry.source})"
        )
    else:
        how = f"run `nightcrawler weights pull {name}`, or get {entry.address} ({entry.source})"
    return (
        f"weights '{name}' are missing: {how} and put it at {weights_files(entry)[0]}, or name "
        "another file"
    )


def _missing(path: Path) -> str:
    """Return a message about a path without a file, with the next step where it is known."""
    message = f"{path}: no such checkpoint"
    if path.is_dir():
        return f"{message}, it is a folder: name a file in it"
    for entry in ZOO.values():
        if path.name == Path(entry.file).name:
            return f"{message}: get it from {entry.source}"
    if path.name == OWN_BEST:
        script = path.parent / "run.sh"
        how = f" (bash {script})" if script.is_file() else ""
        return f"{message}: training writes it, so run that experiment first{how}"
    if os.sep in str(path) and not str(path).startswith(tuple(_first_parts())):
        return message
    # A word without a slash is likely to be a misspelt name.
    return f"{message}, and {unknown_name('name of public weights', str(path), ZOO)}"


def _first_parts() -> set[str]:
    """Return the first part of each name that has several."""
    return {name.partition("/")[0] + "/" for name in ZOO if "/" in name}


def check_weights(name_or_path: str | Path, sha256: str) -> None:
    """Compare a file's hash with the published one of its name, and with that of its download.

    Args:
        name_or_path: as given to `find_weights`. Files named by a path are not checked.
        sha256: of the file.

    Raises:
        UserError: if the file is not the published one, or not the one that was downloaded.
    """
    name = str(name_or_path)
    entry = find_entry(name)
    if entry is not None:
        check_file(name, entry, find_weights(name), sha256)


def check_file(name: str, entry: ZooEntry | None, path: Path, sha256: str) -> None:
    """Compare the hash of a file that was found with those that are known.

    Args:
        name: name or address of the weights.
        entry: their facts, `None` for none.
        path: of the file.
        sha256: of the file.

    Raises:
        UserError: as there.
    """
    if entry is not None and not sha256.startswith(entry.sha256):
        raise UserError(
            f"{path}: not the published file: its sha256 is {sha256}, expected {entry.sha256}; "
            f"get it again from {entry.source}, or name the file by its path to load it anyway"
        )
    record = read_record(path)
    if record is not None and record.sha256 != sha256:
        raise UserError(
            f"{path}: changed since it was downloaded: its sha256 is {sha256}, expected "
            f"{record.sha256}; remove the file, and run `nightcrawler weights pull {name}`"
        )
