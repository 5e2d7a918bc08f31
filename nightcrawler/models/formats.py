"""Checkpoint files of several lineages: read as plain tensors, recognised by names, renamed.

Nothing in a file is ever executed.
"""

from __future__ import annotations

import json
import re
import warnings
import zipfile
from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from nightcrawler.utils.errors import UserError
from nightcrawler.utils.io import sha256_file
from nightcrawler.utils.safetensors_files import check_safetensors
from nightcrawler.utils.torch_files import check_torch_file

# Keys that hold the entries in files of one lineage or another.
CONTAINERS = ("model_state", "model", "state_dict", "model_state_dict")
# Prefixes of wrappers: DistributedDataParallel, torch.compile, and those of public trainers.
PREFIXES = ("module.", "backbone.", "_orig_mod.", "encoder.", "model.")
# Part of the names in a layer that low-rank adapters were added to.
ADAPTED = ".base_layer."
# A format is recognised when at least this share of the names follow it.
KNOWN_SHARE = 0.5

Rename = tuple[str, str | Callable[[re.Match[str]], str]]


@dataclass(frozen=True)
class Format:
    """Names of a model's entries in one lineage of checkpoints.

    Attributes:
        name: of the lineage and architecture.
        model: name of the registered model that such files fill.
        names: pattern of the entries' names.
        mark: pattern of at least one of them, where other lineages have the same names otherwise.
        renames: patterns and replacements, applied in this order, that lead to our names.
    """

    name: str
    model: str
    names: str
    mark: str = ""
    renames: tuple[Rename, ...] = ()

    def share(self, names: Collection[str]) -> float:
        """Return the share of names that follow this format, 0 to 1.

        Args:
            names: of a checkpoint's or a model's entries, without prefixes.
        """
        if self.mark and not any(re.search(self.mark, name) for name in names):
            return 0.0
        following = sum(re.fullmatch(self.names, name) is not None for name in names)
        return following / max(len(names), 1)

    def renamed(self, name: str) -> str:
        """Return our name of an entry.

        Args:
            name: in this format.
        """
        for pattern, replacement in self.renames:
            name = re.sub(pattern, replacement, name)
        return name


# Vision transformers of images name blocks alike, but have neither pools nor separate positions.
_MVIT_MARK = r"pos_embed_|\.pool_[qkv]\.weight$"
_MVIT_BLOCK = r"blocks\.\d+\.(norm[12]|attn|mlp|proj)\..+"
# A new lineage is a new row here; models whose own names are in the file need none.
FORMATS = (
    Format("Sense-X UniFormer", "uniformer", r"(patch_embed[1-4]|blocks[1-4]\.\d+|norm|head)\..+"),
    Format(
        "PySlowFast MViT",
        "mvit",
        r"cls_token|pos_embed\w*|(patch_embed\.proj|norm|norm_stem|head\.projection)\..+"
        rf"|{_MVIT_BLOCK}",
        _MVIT_MARK,
    ),
    Format(
        "pytorchvideo MViT",
        "mvit",
        r"(cls_positional_encoding|patch_embed\.patch_model|norm_embed|head\.proj)\..+"
        rf"|{_MVIT_BLOCK}",
        _MVIT_MARK,
        (
            (r"^cls_positional_encoding\.", ""),
            (r"^patch_embed\.patch_model\.", "patch_embed.proj."),
            (r"^norm_embed\.", "norm."),
            (r"^head\.proj\.", "head.projection."),
            # Later versions name the pools twice, the second time inside a module of their own.
            (r"\._attention_pool_([qkv])\.(pool|norm)\.", r".\2_\1."),
        ),
    ),
    Format(
        "PySlowFast X3D",
        "x3d",
        r"(s1\.pathway0_stem|s\d\.pathway0_res\d+|head\.(projection|conv_5|conv_5_bn|lin_5))\..+",
        r"^head\.lin_5\.",
    ),
    Format(
        "PySlowFast SlowFast or ResNet",
        "resnet3d",
        r"(s1\.pathway\d_stem|s\d_fuse|s\d\.pathway\d_(res|nonlocal)\d+|head\.projection)\..+",
        renames=((r"(_nonlocal\d+)\.bn\.", r"\1.norm."),),
    ),
    Format(
        "pytorchvideo SlowFast or ResNet",
        "resnet3d",
        r"blocks\.\d\.(multipathway_(blocks|fusion)|res_blocks|conv|norm|proj)\..+",
        renames=(
            (r"^blocks\.\d\.proj\.", "head.projection."),
            (r"^blocks\.(\d)\.multipathway_fusion\.", lambda found: f"s{int(found[1]) + 1}_fuse."),
            (
                r"^blocks\.(\d)\.(?:multipathway_blocks\.(\d)\.)?res_blocks\.(\d+)\.",
                lambda found: f"s{int(found[1]) + 1}.pathway{found[2] or 0}_res{found[3]}.",
            ),
            (
                r"^blocks\.0\.(?:multipathway_blocks\.(\d)\.)?",
                lambda found: f"s1.pathway{found[1] or 0}_stem.",
            ),
            (r"\.conv_fast_to_slow\.", ".conv_f2s."),
            (r"\.branch1_conv\.", ".branch1."),
            (r"\.branch1_norm\.", ".branch1_bn."),
            (r"\.branch2\.conv_([abc])\.", r".branch2.\1."),
            (r"\.branch2\.norm_([abc])\.", r".branch2.\1_bn."),
            (r"\.norm\.", ".bn."),
        ),
    ),
    Format(
        "AlphAction SlowFast",
        "slowfast",
        r"(slow|fast)\.(conv1|bn1|res_nl\d|Tconv\d)\..+|(projection|cls_head\.pred)\..+",
        renames=((r"^cls_head\.pred\.", "projection."),),
    ),
)


def nearest_format(names: Iterable[str]) -> tuple[Format, float]:
    """Return the format that most names follow (the first of equals), and their share.

    Args:
        names: of entries, without prefixes.
    """
    names = list(names)
    # Equal shares go to the first format: the order of FORMATS matters.
    shares = [known.share(names) for known in FORMATS]
    return FORMATS[shares.index(max(shares))], max(shares)


def recognise(names: Iterable[str]) -> Format | None:
    """Return the format that at least half of the names follow, or `None`.

    Args:
        names: of entries, without prefixes.
    """
    nearest, share = nearest_format(names)
    if share < KNOWN_SHARE:
        return None
    return nearest


@dataclass(frozen=True)
class WeightsFile:
    """Weights of a checkpoint, and its metadata (empty where the file has none).

    Attributes:
        path: of the file.
        sha256: of the file.
        format: format of its names, if known.
        state: tensors by our names.
        class_names: names of the classifier's rows.
        config_text: configuration of the experiment that wrote it.
        config_hash: hash of that configuration.
        labels: label use, `label-free` or `oracle`.
        judges: text of `predict.calibrate.judges_to_carry` in exported files.
    """

    path: Path
    sha256: str
    format: Format | None
    state: dict[str, Tensor]
    class_names: tuple[str, ...] = ()
    config_text: str = ""
    config_hash: str = ""
    labels: str = ""
    judges: str = ""


def read_weights(path: str | Path) -> WeightsFile:
    """Read a checkpoint of any of `FORMATS`, a `.safetensors` file or one of `torch.save`.

    Args:
        path: the file.

    Raises:
        UserError: if it is not a checkpoint of plain types and tensors. Nothing in it is executed.

    Example:
        >>> file = read_weights("exp_adapt_bn/uniformer_b32_k600/best.pyth")
        >>> file.format.name, file.labels
        ('Sense-X UniFormer', 'oracle')
    """
    path = Path(path)
    content = _read_safetensors(path) if path.suffix == ".safetensors" else _read_pickle(path)
    metadata = content if isinstance(content, dict) else {}
    # Containers are nested in some lineages, in this order.
    for container in CONTAINERS:
        if isinstance(content, dict) and isinstance(content.get(container), dict):
            content = content[container]
    tensors: dict[str, Tensor] = {}
    if isinstance(content, dict):
        # Optimizer states and counters beside the tensors are not weights.
        tensors = {str(name): v for name, v in content.items() if isinstance(v, Tensor)}
    if not tensors:
        raise UserError(f"{path}: not a checkpoint, it holds no tensors by name{_inside(content)}")
    # Formats describe plain names, so prefixes of wrappers go first.
    state = {plain: tensors[name] for plain, name in plain_names(tensors).items()}
    known = recognise(state)
    class_names = metadata.get("class_names")
    texts = {key: value for key, value in metadata.items() if isinstance(value, str)}
    return WeightsFile(
        path=path,
        sha256=sha256_file(path),
        format=known,
        state=_renamed(path, state, known) if known else state,
        class_names=tuple(map(str, class_names)) if isinstance(class_names, list) else (),
        config_text=texts.get("cfg", ""),
        config_hash=texts.get("config_hash", ""),
        labels=texts.get("labels", ""),
        judges=texts.get("judges", ""),
    )


def _inside(content: Any) -> str:
    """Return which parts of a file hold tensors under a name that is not known, for its error."""
    if not isinstance(content, dict):
        return ""
    parts = []
    for name, part in content.items():
        if isinstance(part, dict) and any(isinstance(one, Tensor) for one in part.values()):
            parts.append(str(name))
    if not parts:
        return ""
    known = ", ".join(CONTAINERS)
    return (
        f"; parts of it do ({', '.join(parts)}): save the one that is meant in a file of its own, "
        f"or under one of {known}"
    )


def plain_names(names: Iterable[str]) -> dict[str, str]:
    """Return names without prefixes of wrappers, each with the name it comes from.

    Names stay as they are if two would be equal without prefixes.

    Args:
        names: of entries.
    """
    names = list(names)
    plain = {_stripped(name): name for name in names}
    if len(plain) == len(names):
        return plain
    return {name: name for name in names}


def _stripped(name: str) -> str:
    """Return a name without prefixes of wrappers."""
    while name.startswith(PREFIXES):
        name = name.split(".", 1)[1]
    return name.replace(ADAPTED, ".")


def _renamed(path: Path, state: dict[str, Tensor], known: Format) -> dict[str, Tensor]:
    """Return the entries by our names."""
    renamed: dict[str, Tensor] = {}
    for name, value in state.items():
        ours = known.renamed(name)
        if ours in renamed and not _same(renamed[ours], value):
            raise UserError(
                f"{path}: two entries of other values are renamed to {ours}, one of them is {name}"
            )
        renamed[ours] = value
    return renamed


def _same(one: Tensor, other: Tensor) -> bool:
    """Return whether two entries hold the same values: one module under two names."""
    return one.dtype == other.dtype and torch.equal(one, other)


def _read_pickle(path: Path) -> Any:
    """Return the content of a file of `torch.save`, plain types and tensors only."""
    try:
        check_torch_file(path)
        with warnings.catch_warnings():
            # torch warns of pickle protocols it may not know in full. Unknown parts are errors.
            warnings.simplefilter("ignore", UserWarning)
            # One of two places that may: it reads plain types and tensors only.
            return torch.load(path, map_location="cpu", weights_only=True)  # noqa: TID251
    except UserError:
        raise
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror or error})") from None
    except Exception as error:  # Bytes that are no checkpoint can raise almost anything.
        raise UserError(f"{path}: {unreadable(path, error)}") from None


def unreadable(path: Path, error: Exception) -> str:
    """Explain an error of `torch.load`, whose own message advises to run the file's code.

    Args:
        path: the file.
        error: the error.
    """
    if not path.stat().st_size:
        return "the file is empty: get it again"
    # Only the name of the refused class is taken from torch's message.
    wanted = re.search(r"GLOBAL ([\w.]+)", str(error))
    if wanted:
        return (
            f"refused, and nothing of it was run: it asks for {wanted[1]}, expected only tensors "
            "and plain types"
        )
    if _is_program(path):
        return (
            "a program of torch.export, which is not read here: give model.onnx or "
            "model.safetensors of the same export"
        )
    if path.suffix == ".pkl":
        return (
            "not a checkpoint of torch.save (Caffe2's .pkl files are not read): take the .pyth of "
            "the same model"
        )
    return (
        f"not a readable checkpoint of plain types and tensors ({type(error).__name__}): "
        "truncated, or not torch's"
    )


def _is_program(path: Path) -> bool:
    """Return whether a file is one of `torch.export.save`, such as `model.pt2` of an export."""
    try:
        with zipfile.ZipFile(path) as container:
            return any(name.endswith("/archive_format") for name in container.namelist())
    except (zipfile.BadZipFile, ValueError, NotImplementedError):
        return False


def _read_safetensors(path: Path) -> dict[str, Any]:
    """Return tensors under `state_dict`, and metadata as text, but `class_names` as a list."""
    from safetensors import SafetensorError, safe_open

    try:
        check_safetensors(path)
        with safe_open(path, framework="pt") as file:
            # The file is no dict: iterating it needs keys().
            state = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
            metadata: dict[str, Any] = file.metadata() or {}
        names = json.loads(metadata.get("class_names", "[]"))
    except (SafetensorError, OSError, ValueError, RecursionError) as error:
        reason = str(error).splitlines()[0]
        raise UserError(f"{path}: not a readable safetensors file ({reason})") from None
    return {**metadata, "state_dict": state, "class_names": names}
