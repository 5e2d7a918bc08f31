"""Folders of models of the hub: settings and safetensors, never code or pickles."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from huggingface_hub import constants

from nightcrawler.download.hub_folder import obtain_folder, weights_sha256
from nightcrawler.utils.errors import UserError
from nightcrawler.utils.io import sha256_file
from tests.download.server import Site

FILES = {
    "README.md": b"# a model",
    "config.json": b'{"model_type": "videomae"}',
    "modeling_x.py": b"raise SystemExit",
    "preprocessor_config.json": b"{}",
    "pytorch_model.bin": b"a pickle",
}
SAFE = {
    "model-00001-of-00002.safetensors": b"one",
    "model-00002-of-00002.safetensors": b"two",
    "model.safetensors.index.json": b"{}",
}


def publish(site: Site, files: dict[str, bytes], revision: str = "main") -> None:
    about = {"id": "me/repo", "siblings": [{"rfilename": name} for name in files]}
    place = "" if revision == "main" else f"/revision/{revision}"
    site.files[f"/api/models/me/repo{place}"] = json.dumps(about).encode()
    for name, content in files.items():
        site.files[f"/me/repo/resolve/{revision}/{name}"] = content


@pytest.fixture
def hub(site: Site, cache: Path, monkeypatch: pytest.MonkeyPatch) -> Site:
    """A hub with one repository."""
    monkeypatch.setattr(constants, "ENDPOINT", site.address)
    monkeypatch.setattr(
        constants,
        "HUGGINGFACE_CO_URL_TEMPLATE",
        site.address + "/{repo_id}/resolve/{revision}/{filename}",
    )
    site.headers = {"X-Repo-Commit": "0" * 40}
    return site


@pytest.mark.parametrize("revision", ["", "@v1"])
def test_settings_and_safetensors_are_fetched_once(hub: Site, revision: str) -> None:
    publish(hub, {**FILES, **SAFE}, revision[1:] or "main")
    folder = obtain_folder(f"me/repo{revision}")
    names = {path.name for path in folder.iterdir() if not path.name.startswith(".")}
    assert {name for name in names if not name.endswith(".download.json")} == {
        "config.json",
        "preprocessor_config.json",
        *SAFE,
    }
    hub.files.clear()
    assert obtain_folder(f"me/repo{revision}") == folder


def test_a_tokenizer_that_was_not_needed_before_is_fetched_later(
    hub: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    words = {"tokenizer.json": b"{}", "merges.txt": b"a b"}
    publish(hub, {**FILES, **SAFE, **words})
    folder = obtain_folder("me/repo")
    wanted = (["merges.txt"], ["tokenizer.json", "vocab.json"])
    monkeypatch.setenv("NIGHTCRAWLER_OFFLINE", "1")
    assert obtain_folder("me/repo", *wanted) == folder, "whoever needs a tokenizer says so"
    monkeypatch.delenv("NIGHTCRAWLER_OFFLINE")
    assert not (folder / "merges.txt").exists()
    obtain_folder("me/repo", *wanted)
    assert {name: (folder / name).read_bytes() for name in words} == words
    hub.files.clear()
    obtain_folder("me/repo", *wanted)


def test_a_repository_of_pickles_is_refused(hub: Site) -> None:
    publish(hub, FILES)
    with pytest.raises(UserError, match=r"me/repo: has no model.safetensors: pickled weights"):
        obtain_folder("me/repo")


def test_an_interrupted_download_is_continued(hub: Site) -> None:
    publish(hub, {**FILES, **SAFE})
    del hub.files["/me/repo/resolve/main/config.json"]
    with pytest.raises(UserError, match=r"config\.json: the hub refuses"):
        obtain_folder("me/repo")
    publish(hub, {**FILES, **SAFE})
    assert (obtain_folder("me/repo") / "config.json").read_bytes() == FILES["config.json"]


def test_a_repository_that_is_not_there_is_an_error_of_one_line(hub: Site) -> None:
    with pytest.raises(UserError, match="hf://me/nothing: ") as caught:
        obtain_folder("me/nothing")
    assert len(str(caught.value).splitlines()) == 1


def test_nothing_is_fetched_where_that_is_forbidden(
    hub: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("NIGHTCRAWLER_OFFLINE", "1")
    with pytest.raises(UserError, match="me/repo: no such folder, and NIGHTCRAWLER_OFFLINE is set"):
        obtain_folder("me/repo")
    assert hub.requests == []


def test_a_folder_is_known_by_all_its_weights(tmp_path: Path) -> None:
    assert weights_sha256(tmp_path) == ""
    one, two = (tmp_path / f"model-0000{i}-of-00002.safetensors" for i in (1, 2))
    one.write_bytes(b"one")
    assert weights_sha256(tmp_path) == sha256_file(one)
    two.write_bytes(b"two")
    both = weights_sha256(tmp_path)
    two.write_bytes(b"too")
    assert len(both) == 64
    assert both not in (sha256_file(one), weights_sha256(tmp_path))
