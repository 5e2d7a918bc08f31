"""Model folders in the layout of the Hugging Face hub: settings as JSON, weights as safetensors.

Of a repository of the hub, only these files are fetched: neither code nor pickles.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Collection, Sequence
from pathlib import Path

from nightcrawler.download import hub
from nightcrawler.download.cache import cached_weights, offline_switch
from nightcrawler.download.fetch import Wanted, fetch, file_of_address
from nightcrawler.utils.errors import UserError
from nightcrawler.utils.io import sha256_file

# Family of model names that folders follow.
HUB_FAMILY = "transformers/"
CONFIG = "config.json"
PROCESSORS = ("preprocessor_config.json", "video_preprocessor_config.json", "processor_config.json")
WEIGHTS = re.compile(r"model(-\d{5}-of-\d{5})?\.safetensors|model\.safetensors\.index\.json")
_REPOSITORY = re.compile(r"[\w][\w.-]*/[\w][\w.-]*(@[\w.-]+)?")


def obtain_folder(name: str, others: Sequence[str] = (), one_of: Sequence[str] = ()) -> Path:
    """Return the folder of a model, and download it if it is missing.

    Args:
        name: a folder on this machine, or `OWNER/NAME` or `OWNER/NAME@REVISION` of the hub.
        others: files to download where the hub has them.
        one_of: further ones, of which a whole folder has one, such as the words of a tokenizer.

    Raises:
        UserError: if there is no such folder, and it cannot be had.

    Example:
        >>> folder = obtain_folder("weights/videomae-base")
    """
    folder = Path(name).expanduser()
    if folder.is_dir():
        if not (folder / CONFIG).is_file():
            raise UserError(f"{folder}: no {CONFIG} in it: name a folder of a saved model")
        return folder
    if not _REPOSITORY.fullmatch(name):
        raise UserError(f"{folder}: no such folder, and no OWNER/NAME of the Hugging Face hub")
    cached = cached_weights(file_of_address(f"{hub.SCHEME}{name}/{CONFIG}")).parent
    # The last file that is fetched: where it is, the others are.
    is_there = (cached / CONFIG).is_file()
    # Unless somebody who did not need these fetched it.
    is_whole = is_there and (not one_of or any((cached / file).is_file() for file in one_of))
    if not is_whole and not (is_there and offline_switch()):
        _download(name, cached, (*PROCESSORS, *others, *one_of))
    return cached


def weights_sha256(folder: Path) -> str:
    """Return the SHA-256 of a folder's weights: of its file, or of those of its parts in order.

    Args:
        folder: of a model.

    Returns:
        Empty for a folder without weights.
    """
    files = sorted(folder.glob("*.safetensors"))
    hashes = [sha256_file(file) for file in files]
    if len(hashes) > 1:
        return hashlib.sha256("".join(hashes).encode()).hexdigest()
    return "".join(hashes)


def _download(name: str, cached: Path, others: Collection[str]) -> None:
    """Fetch the weights and other files of a repository, the configuration last."""
    switch = offline_switch()
    if switch:
        raise UserError(
            f"{name}: no such folder, and {switch} is set, so nothing is downloaded: unset it, or "
            f"put the files of https://huggingface.co/{name.partition('@')[0]} into {cached}"
        )
    files = hub.list_files(name)
    wanted = [file for file in files if WEIGHTS.fullmatch(file)]
    if not wanted:
        raise UserError(
            f"{name}: has no model.safetensors: pickled weights (.bin) are not read, as they may "
            "run code; ask its authors for safetensors, or convert it by save_pretrained"
        )
    wanted += [file for file in others if file in files]
    for file in [*wanted, CONFIG]:
        target = cached / file
        what = Wanted(f"'{name}'", by_hand=target)
        fetch(f"{hub.SCHEME}{name}/{file}", target, what)
