"""The files of `containers/` and the Dockerfile: by their schemas, and beside what they refer to."""

from __future__ import annotations

import fnmatch
import re
import runpy
import shlex
from pathlib import Path
from typing import Any

import pytest
import yaml

from nightcrawler.cli.predict import parse
from nightcrawler.predict.shards import parse_shard
from tests.paths import ROOT

JOB = ROOT / "containers/predict-job.yaml"
PACKAGE_FILES = ("nightcrawler/__init__.py", "setup.py", "pyproject.toml", "README.md", "LICENSE")


def job() -> dict[str, Any]:
    found: dict[str, Any] = yaml.safe_load(JOB.read_text())
    return found


def wheel_files() -> list[str]:
    """Files that the wheel is built from, by their paths in the checkout."""
    layout = runpy.run_path(str(ROOT / "nightcrawler/cli/layout.py"))
    return [*map(str, layout["project_files"](ROOT)), *PACKAGE_FILES]


@pytest.mark.parametrize("version", ["1.31", "1.34"])
def test_the_job_is_valid(version: str) -> None:
    kubernetes_validate = pytest.importorskip("kubernetes_validate")
    kubernetes_validate.validate(job(), version, strict=True)
    wrong = job()
    wrong["spec"]["completionMod"] = wrong["spec"].pop("completionMode")
    with pytest.raises(kubernetes_validate.ValidationError):
        kubernetes_validate.validate(wrong, version, strict=True)


def test_each_pod_of_the_job_has_a_shard() -> None:
    spec = job()["spec"]
    container = spec["template"]["spec"]["containers"][0]
    env = {entry["name"]: entry["value"] for entry in container["env"]}
    count = spec["completions"]
    shards = [
        parse_shard("env", {**env, "JOB_COMPLETION_INDEX": str(index)}) for index in range(count)
    ]
    assert shards == [(index, count) for index in range(count)]
    assert container["args"][0] == "predict"
    assert parse(container["args"][1:]).shard == "env"


def test_exit_codes_are_those_of_the_documents() -> None:
    rules = job()["spec"]["podFailurePolicy"]["rules"]
    actions = {}
    for rule in rules:
        for code in rule.get("onExitCodes", {}).get("values", []):
            actions[code] = rule["action"]
    assert actions == {75: "Ignore", 3: "FailIndex", 2: "FailJob"}
    table = (ROOT / "docs/clusters.md").read_text()
    assert all(f"| {code} |" in table for code in actions)


def test_the_build_context_holds_all_of_the_wheel_and_no_data() -> None:
    lines = (ROOT / ".dockerignore").read_text().splitlines()
    kept = [line[1:] for line in lines if line.startswith("!")]

    def is_kept(path: str) -> bool:
        return any(fnmatch.fnmatch(path, pattern.replace("**", "*")) for pattern in kept)

    assert [path for path in wheel_files() if not is_kept(path)] == []
    assert not is_kept("data/dark_train/a.mp4")
    assert not is_kept("exp_pose/skeleton/best.pyth")


def test_the_apptainer_image_gets_all_of_the_wheel() -> None:
    text = (ROOT / "containers/nightcrawler.def").read_text()
    section = text.split("%files")[1].split("%post")[0]
    sources = [word for line in section.splitlines() for word in line.split()[:-1]]
    missing = []
    for path in wheel_files():
        if not any(path == source or path.startswith(f"{source}/") for source in sources):
            missing.append(path)
    assert missing == []


def test_the_extras_of_the_images_exist() -> None:
    pyproject = (ROOT / "pyproject.toml").read_text()
    for name in ("Dockerfile", "containers/nightcrawler.def"):
        found = re.search(r"^\s*(?:ARG )?extras=(\S+)", (ROOT / name).read_text(), re.M | re.I)
        assert found is not None
        for extra in found[1].split(","):
            assert re.search(rf"^{extra} = \[", pyproject, re.M)


def test_the_image_runs_as_a_user_without_rights() -> None:
    lines = (ROOT / "Dockerfile").read_text().splitlines()
    users = [shlex.split(line)[1] for line in lines if line.startswith("USER ")]
    assert users == ["1000"]
    assert Path(ROOT / "docs/containers.md").exists()
