"""`nightcrawler weights`: the known names, downloads from a server of this machine, checks of files."""

from __future__ import annotations

import io
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from nightcrawler.cli import main as program
from nightcrawler.download import client, fetch
from nightcrawler.download.cache import OFFLINE, cached_weights
from nightcrawler.models import zoo
from nightcrawler.models.zoo import WEIGHTS_FOLDER, ZOO, demo_models, zoo_names
from nightcrawler.models.zoo_families import family_entry, listed_entries
from nightcrawler.models.zoo_table import ZooEntry
from nightcrawler.utils.project import use_project
from tests import tiny
from tests.download.server import Site, serving, status


def content() -> bytes:
    """A small checkpoint."""
    buffer = io.BytesIO()
    torch.save({"model_state": {"head.weight": torch.zeros(2, 3)}}, buffer)
    return buffer.getvalue()


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """An empty project and an empty cache, with downloads allowed."""
    monkeypatch.setenv("NIGHTCRAWLER_CACHE", str(tmp_path / "cache"))
    for name in OFFLINE:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(client, "PATIENCE", client.Patience(attempts=1))
    monkeypatch.chdir(tmp_path)
    with use_project(tmp_path):
        yield tmp_path


def test_an_unknown_name_counts_and_points_to_what_is_listed(
    project: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert program.main(["weights", "list"]) == 0
    lines = capsys.readouterr().out.splitlines()
    # A heading first, and two lines of other names last.
    num_names = len(lines) - 3
    assert program.main(["weights", "list", "nosuch"]) == 2
    error = capsys.readouterr().err
    assert f"({num_names} are known); `nightcrawler weights list` prints all names" in error
    assert program.main(["weights", "verify"]) == 0
    num_files = num_names - len(demo_models())
    assert f"0 of {num_files} files to download are there" in capsys.readouterr().out


@pytest.fixture
def site() -> Iterator[Site]:
    with serving() as found:
        yield found


@pytest.fixture
def served(project: Path, site: Site, monkeypatch: pytest.MonkeyPatch) -> Site:
    """Every name of the table at an address of this machine, with a small file at each."""
    monkeypatch.setattr(fetch, "DRIVE_DOWNLOAD", f"{site.address}/drive?id={{}}")
    site.files["/drive"] = content()
    monkeypatch.setattr(zoo, "listed_entries", dict)
    for name, entry in ZOO.items():
        if not entry.address.startswith("https://drive"):
            address = f"{site.address}/{entry.file}"
            monkeypatch.setitem(ZOO, name, ZooEntry(entry.file, entry.source, address=address))
            site.files[f"/{entry.file}"] = content()
    return site


def weights(*argv: str) -> int:
    return program.main(["weights", *argv])


def test_listed_names_are_those_of_torchvision() -> None:
    from torchvision.models import get_model_weights, list_models, video

    expected = []
    for model in list_models(module=video):
        members = get_model_weights(model)
        others = [one.name for one in members if one is not members.DEFAULT]
        expected += [f"torchvision/{model}", *(f"torchvision/{model}/{name}" for name in others)]
    listed = listed_entries()
    assert list(listed) == expected
    for name, entry in listed.items():
        assert entry == family_entry(name)


def test_a_list_waits_for_no_library() -> None:
    code = (
        "import sys; from nightcrawler.cli import main; main.main(['weights', 'list']); "
        "slow = {'torch', 'torchvision', 'timm', 'transformers', 'pandas'} & set(sys.modules); "
        "sys.exit(f'imports {slow}' if slow else 0)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        env=tiny.environment(),
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")


def test_list_names_every_file_its_accuracy_and_what_chose_it(
    project: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    first = next(iter(ZOO))
    path = project / WEIGHTS_FOLDER / ZOO[first].file
    path.parent.mkdir(parents=True)
    path.touch()
    assert weights("list") == 0
    lines = capsys.readouterr().out.splitlines()
    rows = {line.split()[0]: line for line in lines}
    assert len(ZOO) == 26
    assert {"torchvision/mvit_v2_s", "torchvision/r3d_18", *ZOO} <= set(rows)
    for name in zoo_names():
        assert ("not there" in rows[name]) == (name != first)
    assert "90.30 % top-1 on ARID" in rows["ug2-2022/stage4/mvit_b32_k600"]
    assert "labels of dark clips (oracle)" in rows["ug2-2022/stage4/mvit_b32_k600"]


def test_models_inside_the_package_are_listed_as_there(
    project: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert weights("list") == 0
    rows = {line.split()[0]: line for line in capsys.readouterr().out.splitlines()}
    assert demo_models().keys() <= rows.keys()
    assert all("not there" not in rows[name] for name in demo_models())
    assert weights("list", "demo/uniformer_b32_k600") == 0
    assert str(demo_models()["demo/uniformer_b32_k600"]) in capsys.readouterr().out
    assert weights("pull", "demo/uniformer_b32_k600") == 0
    assert "demo/uniformer_b32_k600: " in capsys.readouterr().out
    assert "80.76 % top-1 on Kinetics-400" in rows["torchvision/mvit_v2_s"]


def test_list_tells_all_of_one_name(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    names = (
        "ug2-2022/stage4/sf32_k700",
        "torchvision/swin3d_b/KINETICS400_IMAGENET22K_V1",
        "timm/resnet50",
        "hf://me/repo@v1/x.safetensors",
    )
    assert weights("list", *names) == 0
    shown = capsys.readouterr().out
    for text in (
        "https://drive.google.com/file/d/1MshRoDb0YXIfmhNEhfcYsC7708x-zAJC/view",
        "exp_pseudo_stage4/sf32_k700/config.yaml",
        "expect that model's file, which is refused",
        "https://download.pytorch.org/models/swin3d_b_22k-7c6ae6fa.pth",
        "sha256   7c6ae6fa",
        "hf://timm/resnet50.a1_in1k/model.safetensors",
        "apache-2.0",
        "weights/hf/me/repo@v1/x.safetensors (not there)",
    ):
        assert text in shown


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("mvit_b_32x3_k60", "did you mean 'mvit_b_32x3_k600'"),
        ("torchvision/mvit", "unknown name of torchvision's video weights"),
        ("torchvision/swin3d_b/X", "unknown weights of torchvision/swin3d_b 'X'"),
        ("timm/resnet5", "unknown name of timm's weights"),
        ("http://example.org/x.pth", "expected an https:// address"),
    ],
)
def test_an_unknown_name_is_one_line(
    project: Path, capsys: pytest.CaptureFixture[str], name: str, text: str
) -> None:
    for task in ("list", "pull"):
        assert weights(task, name) == 2
        shown = capsys.readouterr().err
        assert text in shown
        assert shown.count("\n") == 1


def test_pull_brings_every_name_and_verify_reads_them(
    served: Site, capsys: pytest.CaptureFixture[str]
) -> None:
    assert weights("pull", "--all") == 0
    shown = capsys.readouterr().out
    for name, entry in ZOO.items():
        path = cached_weights(entry.file)
        assert f"{name}: {path}\n" in shown
        assert path.read_bytes() == content()
    assert "26 of 26 files are there" in shown
    num_requests = len(served.requests)
    assert num_requests == 26
    assert weights("pull", "--all") == 0
    assert len(served.requests) == num_requests
    capsys.readouterr()
    assert weights("verify") == 0
    shown = capsys.readouterr().out
    assert shown.count("ok     ") == 26
    damaged = cached_weights(ZOO["mvit_b_32x3_k600"].file)
    torch.save({"model_state": {"head.weight": torch.ones(2, 3)}}, damaged)
    assert weights("verify") == 1
    assert f"{damaged}: changed since it was downloaded" in capsys.readouterr().err


def test_pull_goes_on_after_a_fault(served: Site, capsys: pytest.CaptureFixture[str]) -> None:
    served.faults["/k600.pyth"] = [status(404)]
    names = ("mvit_b_32x3_k600", "ug2-2022/adapt_bn/sf32_k700")
    assert weights("pull", *names) == 1
    shown = capsys.readouterr()
    assert "1 of 2 files are there" in shown.out
    assert f"error: {served.address}/k600.pyth: answers with status 404 (Not Found)" in shown.err
    assert "put it at weights/k600.pyth" in shown.err
    assert not cached_weights("k600.pyth").exists()


def test_any_address_is_pulled_and_verified(
    served: Site, capsys: pytest.CaptureFixture[str]
) -> None:
    served.files["/a/best.pth"] = content()
    address = f"{served.address}/a/best.pth"
    assert weights("pull", address) == 0
    path = capsys.readouterr().out.split(": ")[-1].strip()
    assert Path(path).read_bytes() == content()
    assert weights("verify") == 0
    assert f"ok     {address}: " in capsys.readouterr().out


def test_an_address_that_fails_is_named_once(
    served: Site, capsys: pytest.CaptureFixture[str]
) -> None:
    address = f"{served.address}/nowhere.pth"
    assert weights("pull", address) == 1
    shown = capsys.readouterr().err
    assert shown.startswith(
        f"error: {address}: answers with status 404 (Not Found): expected a checkpoint, "
    )
    assert shown.count(address) == 1
    assert shown.count("\n") == 1


def test_pull_needs_names_or_all(project: Path) -> None:
    for argv in (("pull",), ("pull", "--all", "mvit_b_32x3_k600")):
        with pytest.raises(SystemExit) as caught:
            weights(*argv)
        assert caught.value.code == 2


def test_verify_without_files(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert weights("verify") == 0
    total = len(zoo_names())
    assert (
        capsys.readouterr().out == f"0 of {total} files to download are there, 0 cannot be used\n"
    )


def test_verify_tells_a_good_file_from_a_damaged_one(
    project: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    good, bad = list(ZOO)[:2]
    for name in (good, bad):
        path = project / WEIGHTS_FOLDER / ZOO[name].file
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content())
    damaged = project / WEIGHTS_FOLDER / ZOO[bad].file
    damaged.write_bytes(content()[: len(content()) // 2])
    assert weights("verify") == 1
    shown = capsys.readouterr()
    assert f"ok     {good}: " in shown.out
    assert f"2 of {len(zoo_names())} files to download are there, 1 cannot be used" in shown.out
    assert shown.err.startswith(f"WRONG  {bad}: ")
    assert damaged.name in shown.err
    assert shown.err.count("\n") == 1


def test_verify_tells_a_damaged_record_and_goes_on(
    project: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    good = next(iter(ZOO))
    path = project / WEIGHTS_FOLDER / ZOO[good].file
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content())
    record = project / "cache/weights/a/x.pth.download.json"
    record.parent.mkdir(parents=True)
    record.write_text("{")
    assert weights("verify") == 1
    shown = capsys.readouterr()
    assert f"ok     {good}: " in shown.out
    assert f"1 of {len(zoo_names())} files to download are there, 1 cannot be used" in shown.out
    assert shown.err.startswith(f"WRONG  {record.parent / 'x.pth'}: {record}: not a record")
    assert shown.err.count("\n") == 1
