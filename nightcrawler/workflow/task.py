"""One link of the chain: a command, the files it reads and those it writes."""

from __future__ import annotations

import fnmatch
import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from nightcrawler.utils.errors import UserError

STATE_FOLDER = ".pipeline"


@dataclass(frozen=True)
class Task:
    """A step of the chain.

    Attributes:
        name: kind and what it is about: `train/exp_adapt_bn/sf32_k700`, `test/.../arid`, `label/round1`, `vote`.
        kind: `data`, `train`, `test`, `label` or `vote`.
        command: what is run, from the project's root.
        signature: hash of all that settles its outputs beside its inputs (configuration, recipe).
        inputs: what it reads, by names that do not depend on where the files are.
        outputs: files that it writes.
        folder: where its outputs are; its stamp is in `folder/.pipeline`.
        about: what reports want to know (`round`, `stage`, `model`, `experiment`, `split`, `control`).
        writes: small files that are made for it before it starts.
        leftovers: what a run leaves beside its outputs, removed before it starts anew.
        ok_codes: exit codes that mean done.
        run_hash: configuration hash that a finished run's `run.json` must have to be adopted.
        guards: the command itself refuses to replace what it did not make.
    """

    name: str
    kind: str
    command: tuple[str, ...]
    signature: str
    inputs: Mapping[str, Path]
    outputs: tuple[Path, ...]
    folder: Path
    about: Mapping[str, Any] = field(default_factory=dict)
    writes: Mapping[Path, str] = field(default_factory=dict)
    leftovers: tuple[Path, ...] = ()
    ok_codes: tuple[int, ...] = (0,)
    run_hash: str = ""
    guards: bool = False

    @property
    def stamp(self) -> Path:
        """Where what is known of its last run is written."""
        return self.folder / STATE_FOLDER / f"{self.slug}.json"

    @property
    def slug(self) -> str:
        """Its name as that of a file."""
        return self.name.replace("/", "-")


def digest(value: Any) -> str:
    """Hex SHA-256 of plain values."""
    return hashlib.sha256(json.dumps(value, sort_keys=True, default=str).encode()).hexdigest()


def dependencies(links: Sequence[Task]) -> dict[str, tuple[str, ...]]:
    """Name of each link to the names of links that write what it reads.

    Raises:
        UserError: if two links write one file.
    """
    writers: dict[Path, str] = {}
    for link in links:
        for path in link.outputs:
            if path in writers:
                raise UserError(f"{path}: written by {writers[path]} and by {link.name}")
            writers[path] = link.name
    return {
        link.name: tuple(
            dict.fromkeys(writers[path] for path in link.inputs.values() if path in writers)
        )
        for link in links
    }


def downstream(names: Iterable[str], after: Mapping[str, Sequence[str]]) -> set[str]:
    """These links and all that depend on them; `after` is in order (a link comes after those it depends on)."""
    found = set(names)
    for name, before in after.items():
        if found.intersection(before):
            found.add(name)
    return found


def match(links: Sequence[Task], patterns: Sequence[str]) -> set[str]:
    """Names that a pattern matches: a whole name, a part of it between slashes (`exp_adapt_bn`), or one with `*`.

    Raises:
        UserError: for a pattern that matches none.
    """
    found: set[str] = set()
    for pattern in patterns:
        names = {link.name for link in links if link.name == pattern} or {
            link.name
            for link in links
            if fnmatch.fnmatchcase(link.name, pattern)
            or f"/{pattern.strip('/')}/" in f"/{link.name}/"
        }
        if not names:
            raise UserError(
                f"{pattern!r} matches no link; --dry-run lists them (the first: {links[0].name})"
            )
        found |= names
    return found
