"""Checkpoint files of several lineages: read as plain tensors, recognised by their names, renamed to ours."""

from __future__ import annotations

import json
import re
import warnings
from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from nightcrawler.utils.errors import UserError
from nightcrawler.utils.io import sha256_file

# Keys that hold the entries, in the files of one lineage or another.
CONTAINERS = ("model_state", "model", "state_dict", "model_state_dict")
# What wrappers put in front of names.
PREFIXES = ("module.", "backbone.", "_orig_mod.", "encoder.", "model.")
# A format is recognised when at least this share of the names follow it.
KNOWN_SHARE = 0.5

Rename = tuple[str, str | Callable[[re.Match[str]], str]]


@dataclass(frozen=True)
class Format:
    """How a lineage names the entries of a model.

    Attributes:
        name: of the lineage and architecture.
        model: the `MODEL.NAME` that such files fill.
        names: pattern of its entries' names.
        mark: pattern that at least one of them has, where other lineages name the rest alike.
        renames: patterns and replacements, one after the other, that lead to our names.
    """

    name: str
    model: str
    names: str
    mark: str = ""
    renames: tuple[Rename, ...] = ()

    def share(self, names: Collection[str]) -> float:
        """Share of names that follow this format."""
        if self.mark and not any(re.search(self.mark, name) for name in names):
            return 0.0
        return sum(re.fullmatch(self.names, name) is not None for name in names) / max(
            len(names), 1
        )

    def renamed(self, name: str) -> str:
        """Our name of an entry."""
        for pattern, replacement in self.renames:
            name = re.sub(pattern, replacement, name)
        return name


# Vision transformers of images name blocks alike, but have neither pools nor separate positions.
_MVIT_MARK = r"pos_embed_|\.pool_[qkv]\.weight$"
_MVIT_BLOCK = r"blocks\.\d+\.(norm[12]|attn|mlp|proj)\..+"
FORMATS = (
    Format("Sense-X UniFormer", "uniformer", r"(patch_embed[1-4]|blocks[1-4]\.\d+|norm|head)\..+"),
    Format(
        "PySlowFast MViT",
        "mvit",
        rf"cls_token|pos_embed\w*|(patch_embed\.proj|norm|norm_stem|head\.projection)\..+|{_MVIT_BLOCK}",
        _MVIT_MARK,
    ),
    Format(
        "pytorchvideo MViT",
        "mvit",
        rf"(cls_positional_encoding|patch_embed\.patch_model|norm_embed|head\.proj)\..+|{_MVIT_BLOCK}",
        _MVIT_MARK,
        (
            (r"^cls_positional_encoding\.", ""),
            (r"^patch_embed\.patch_model\.", "patch_embed.proj."),
            (r"^norm_embed\.", "norm."),
            (r"^head\.proj\.", "head.projection."),
        ),
    ),
    Format(
        "PySlowFast SlowFast or ResNet",
        "resnet3d",
        r"(s1\.pathway\d_stem|s\d_fuse|s\d\.pathway\d_(res|nonlocal)\d+|head\.projection)\..+",
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
    """The format that most of the names follow (the first of equals), and their share."""
    names = list(names)
    shares = [known.share(names) for known in FORMATS]
    return FORMATS[shares.index(max(shares))], max(shares)


def recognise(names: Iterable[str]) -> Format | None:
    """The format of names (without prefixes), if most follow one."""
    nearest, share = nearest_format(names)
    return nearest if share >= KNOWN_SHARE else None


@dataclass(frozen=True)
class WeightsFile:
    """What a checkpoint holds, as far as weights go.

    Attributes:
        path, sha256: of the file.
        format: whose names it uses, if known.
        state: tensors by our names.
        class_names: of the classifier's rows; empty if the file does not name them.
        config_text, config_hash: of the experiment that made it; empty if the file does not say.
        labels: `label-free` or `oracle`, how labels of dark clips were used; empty if the file does not say.
    """

    path: Path
    sha256: str
    format: Format | None
    state: dict[str, Tensor]
    class_names: tuple[str, ...] = ()
    config_text: str = ""
    config_hash: str = ""
    labels: str = ""


def read_weights(path: str | Path) -> WeightsFile:
    """Read a checkpoint of any format of `FORMATS`: `.safetensors`, or what `torch.save` wrote.

    Raises:
        UserError: if it is not a checkpoint of plain types and tensors. Nothing in it is ever executed.
    """
    path = Path(path)
    content = _read_safetensors(path) if path.suffix == ".safetensors" else _read_pickle(path)
    about = content if isinstance(content, dict) else {}
    for container in CONTAINERS:
        if isinstance(content, dict) and isinstance(content.get(container), dict):
            content = content[container]
    items = content.items() if isinstance(content, dict) else ()
    tensors = {str(name): value for name, value in items if isinstance(value, Tensor)}
    if not tensors:
        raise UserError(f"{path}: no tensors by name in it: not a checkpoint")
    state = {plain: tensors[name] for plain, name in plain_names(tensors).items()}
    known = recognise(state)
    class_names = about.get("class_names")
    texts = {key: value for key, value in about.items() if isinstance(value, str)}
    return WeightsFile(
        path=path,
        sha256=sha256_file(path),
        format=known,
        state=_renamed(path, state, known) if known else state,
        class_names=tuple(map(str, class_names)) if isinstance(class_names, list) else (),
        config_text=texts.get("cfg", ""),
        config_hash=texts.get("config_hash", ""),
        labels=texts.get("labels", ""),
    )


def plain_names(names: Iterable[str]) -> dict[str, str]:
    """Names without what wrappers put in front of them, and the names they come from.

    Where that would make two names equal, they stay as they are.
    """
    names = list(names)
    plain = {_stripped(name): name for name in names}
    return plain if len(plain) == len(names) else dict(zip(names, names, strict=True))


def _stripped(name: str) -> str:
    while name.startswith(PREFIXES):
        name = name.split(".", 1)[1]
    return name


def _renamed(path: Path, state: dict[str, Tensor], known: Format) -> dict[str, Tensor]:
    renamed: dict[str, Tensor] = {}
    for name, value in state.items():
        ours = known.renamed(name)
        if ours in renamed:
            raise UserError(f"{path}: two entries are {ours} in our names, one of them is {name}")
        renamed[ours] = value
    return renamed


def _read_pickle(path: Path) -> Any:
    try:
        with warnings.catch_warnings():
            # Of pickles that it may not know in full: what it does not know is an error anyway.
            warnings.simplefilter("ignore", UserWarning)
            return torch.load(path, map_location="cpu", weights_only=True)
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror or error})") from None
    except Exception as error:  # Bytes that are no checkpoint trip the reader in any of its lines.
        raise UserError(f"{path}: {unreadable(path, error)}") from None


def unreadable(path: Path, error: Exception) -> str:
    """What is wrong with a file that cannot be loaded; torch's own words advise to run what is in it."""
    if not path.stat().st_size:
        return "the file is empty: get it again"
    wanted = re.search(r"GLOBAL ([\w.]+)", str(error))
    if wanted:
        return f"refused, and nothing of it was run: it asks for {wanted[1]}, expected only tensors and plain types"
    if path.suffix == ".pkl":
        return "not a checkpoint of torch.save (Caffe2's .pkl files are not read): take the .pyth of the same model"
    return f"not a readable checkpoint of plain types and tensors ({type(error).__name__}): truncated, or not torch's"


def _read_safetensors(path: Path) -> dict[str, Any]:
    """Tensors under `state_dict`, metadata as texts, but `class_names` as a list."""
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, framework="pt") as file:
            state = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
            metadata: dict[str, Any] = file.metadata() or {}
        names = json.loads(metadata.get("class_names", "[]"))
    except (SafetensorError, OSError, ValueError) as error:
        reason = str(error).splitlines()[0]
        raise UserError(f"{path}: not a readable safetensors file ({reason})") from None
    return {**metadata, "state_dict": state, "class_names": names}
