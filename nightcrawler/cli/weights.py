"""List public weights that may be named for a checkpoint, download and verify them."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nightcrawler.utils.command_line import add_task, make_parser
from nightcrawler.utils.errors import UserError
from nightcrawler.utils.project import project_root

if TYPE_CHECKING:
    from nightcrawler.models.zoo_table import ZooEntry

EXAMPLES = """\
  {command} list
  {command} list ug2-2022/stage4/mvit_b32_k600
  {command} pull torchvision/mvit_v2_s
  {command} pull hf://OWNER/REPOSITORY/model.safetensors https://example.org/best.pth
  {command} pull --all
  {command} verify

files are looked for in weights/ of the project, then in the cache: the folder of the variable
NIGHTCRAWLER_CACHE, or one in the user's cache. NIGHTCRAWLER_OFFLINE=1 (or HF_HUB_OFFLINE=1)
forbids downloads. A name is also downloaded where a command or a configuration needs it."""
COLUMNS = "{:<47} {:<12} {:<31} {}"
CHOSEN = {"oracle": "labels of dark clips (oracle)", "label-free": "no label of a dark clip"}


def parse(argv: Sequence[str]) -> Any:
    """Parse the command line."""
    parser = make_parser(__doc__ or "", EXAMPLES)
    tasks = parser.add_subparsers(dest="task", required=True, metavar="TASK")
    listing = add_task(
        tasks,
        "list",
        "Print every known name, whether its file is there, its accuracy, what chose it.",
        EXAMPLES,
    )
    listing.add_argument("names", nargs="*", metavar="NAME", help="print all facts of these alone")
    pull = add_task(tasks, "pull", "Download weights, check and record their hashes.", EXAMPLES)
    pull.add_argument("names", nargs="*", metavar="NAME", help="names, hf:// or https:// addresses")
    pull.add_argument("--all", action="store_true", help="every name of the list (gigabytes)")
    add_task(
        tasks, "verify", "Read every file that is there and print its format and SHA-256.", EXAMPLES
    )
    arguments = parser.parse_args(argv)
    if arguments.task == "pull" and arguments.all == bool(arguments.names):
        parser.error("pull: give names, or --all")
    return arguments


def main(argv: Sequence[str]) -> int:
    """List, pull or verify weights, and return 1 if a file cannot be had or used."""
    arguments = parse(argv)
    root = project_root()
    if arguments.task == "list":
        return describe_weights(root, arguments.names) if arguments.names else list_weights(root)
    if arguments.task == "pull":
        return pull_weights(root, arguments.names)
    return verify_weights(root)


def list_weights(root: Path) -> int:
    """Print one line per name."""
    from nightcrawler.models.zoo import demo_models, listed_weights

    print(COLUMNS.format("name", "file", "published accuracy", "chosen with"))
    for name in demo_models():
        print(COLUMNS.format(name, "in package", "see MODEL_ZOO.md", CHOSEN["label-free"]))
    for name, entry in listed_weights().items():
        state = "not there" if _present(root, entry) is None else "there"
        print(COLUMNS.format(name, state, entry.accuracy or "-", _chosen_with(entry)))
    print(
        "also: timm/NAME of every image model of timm, hf://OWNER/REPOSITORY/FILE, https://...\n"
        "`list NAME` prints address, file, licence and notes"
    )
    return 0


def describe_weights(root: Path, names: Sequence[str]) -> int:
    """Print all facts of some names."""
    from nightcrawler.models.zoo import demo_models

    for name in names:
        if name in demo_models():
            print(f"{name}\n  file     {demo_models()[name]} (in the package)")
            print(f"  chosen   {CHOSEN['label-free']}")
            continue
        entry = _entry(name)
        path = _present(root, entry)
        facts = {
            "file": f"{path} (there)" if path else f"{_places(root, entry)[1]} (not there)",
            "from": entry.address or "by hand only",
            "source": entry.source,
            "sha256": entry.sha256 or "not published: that of the first download is recorded",
            "classes": str(entry.classes or "unknown"),
            "config": entry.config,
            "accuracy": entry.accuracy,
            "chosen": _chosen_with(entry),
            "licence": entry.licence,
            "note": entry.note,
        }
        print(name)
        for label, value in facts.items():
            if value:
                print(f"  {label:<8} {value}")
    return 0


def _chosen_with(entry: ZooEntry) -> str:
    """Say whether labels of dark clips chose the weights."""
    return CHOSEN.get(entry.labels, "unknown")


def _entry(name: str) -> ZooEntry:
    """Return the facts of a name.

    Raises:
        UserError: if it is unknown.
    """
    from nightcrawler.models.zoo import demo_models, find_entry, listed_weights
    from nightcrawler.utils.lazy_registry import unknown_name

    entry = find_entry(name)
    if entry is None:
        fault = unknown_name("name of public weights", name, [*demo_models(), *listed_weights()])
        raise UserError(f"{fault}; `nightcrawler weights list` prints all names that are read")
    return entry


def _places(root: Path, entry: ZooEntry) -> tuple[Path, Path]:
    """Return where a file is looked for: in the project, then in the cache."""
    from nightcrawler.models.zoo import weights_files

    own, cached = weights_files(entry)
    return root / own, cached


def _present(root: Path, entry: ZooEntry) -> Path | None:
    """Return the file of an entry, if there is one."""
    for path in _places(root, entry):
        if path.is_file():
            return path
    return None


def pull_weights(root: Path, names: Sequence[str]) -> int:
    """Download the files of names, all of the list if none is given."""
    from nightcrawler.models.zoo import demo_models, obtain_weights, zoo_names

    wanted = list(names) or zoo_names()
    packaged = [name for name in wanted if name in demo_models()]
    # Faults of the command line come before the first download.
    entries = {name: _entry(name) for name in wanted if name not in packaged}
    for name in packaged:
        print(f"{name}: {demo_models()[name]}")
    num_bad = 0
    for name, entry in entries.items():
        try:
            # A file in `weights/` of the project is one that the user put there.
            path = _present(root, entry) or obtain_weights(name)
        except UserError as error:
            # The others are pulled all the same.
            num_bad += 1
            print(f"error: {error}", file=sys.stderr)
            continue
        print(f"{name}: {path}")
    if len(entries) > 1:
        print(f"{len(entries) - num_bad} of {len(entries)} files are there")
    return 1 if num_bad else 0


def verify_weights(root: Path) -> int:
    """Read each file of a known name and each downloaded one, and nothing but its tensors."""
    from nightcrawler.download.cache import downloaded_weights
    from nightcrawler.models.formats import read_weights
    from nightcrawler.models.zoo import check_file, find_entry, zoo_names

    entries = {name: find_entry(name) for name in zoo_names()}
    found = {}
    for name, entry in entries.items():
        path = _present(root, entry) if entry else None
        if path is not None:
            found[name] = path
    num_known = len(found)
    num_bad = 0
    for path, record in downloaded_weights():
        if path in found.values():
            continue
        if isinstance(record, UserError):
            num_bad += 1
            print(f"WRONG  {path}: {record}", file=sys.stderr)
            continue
        found[record.address] = path
    # Every file is read, so that one damaged file does not hide another.
    for name, path in found.items():
        try:
            file = read_weights(path)
            # A file that reads well may still be another one than the name promises.
            check_file(name, entries.get(name), path, file.sha256)
        except UserError as error:
            num_bad += 1
            print(f"WRONG  {name}: {error}", file=sys.stderr)
            continue
        kind = file.format.name if file.format else "names of no format of ours"
        print(f"ok     {name}: {kind}, sha256 {file.sha256}")
    print(f"{num_known} of {len(entries)} files to download are there, {num_bad} cannot be used")
    return 1 if num_bad else 0
