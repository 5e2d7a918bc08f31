"""tools/model_info.py: against figures worked out by hand."""

from __future__ import annotations

from pathlib import Path
from types import ModuleType

import pytest
import torch
from torch import nn

from nightcrawler.utils import command_line
from tests import tiny
from tests.paths import ROOT

DIMS, FRAMES, SIDE, CLASSES = (4, 6, 8, 10), 4, 32, 11
# UniFormer without blocks: four patch embeddings (convolution and LayerNorm), a BatchNorm, a classifier.
BARE = f"""\
DATA: {{NUM_FRAMES: {FRAMES}, TRAIN_CROP_SIZE: {SIDE}}}
UNIFORMER: {{EMBED_DIM: {list(DIMS)}, DEPTH: [0, 0, 0, 0], HEAD_DIM: 2}}
"""
KERNELS = (3 * 4 * 4, 2 * 2, 2 * 2, 2 * 2)
# Positions after each: time 4 -> 2 and stays, space 32 -> 8 -> 4 -> 2 -> 1.
POSITIONS = (2 * 8 * 8, 2 * 4 * 4, 2 * 2 * 2, 2 * 1 * 1)
CONVOLUTIONS = [
    kernel * width * dim for kernel, width, dim in zip(KERNELS, (3, *DIMS[:3]), DIMS, strict=True)
]
PARAMETERS = sum(CONVOLUTIONS) + 3 * sum(DIMS) + 2 * DIMS[-1] + (DIMS[-1] + 1) * CLASSES
MULTIPLY_ADDS = (
    sum(a * b for a, b in zip(CONVOLUTIONS, POSITIONS, strict=True)) + DIMS[-1] * CLASSES
)


@pytest.fixture(scope="module")
def tool() -> ModuleType:
    return tiny.load_tool("model_info")


@pytest.fixture
def bare(tmp_path: Path) -> Path:
    """An experiment's folder."""
    (tmp_path / "bare").mkdir()
    (tmp_path / "bare" / "config.yaml").write_text(BARE, encoding="utf-8")
    return tmp_path / "bare"


def net() -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(3, 4, 3, padding=1), nn.BatchNorm2d(4), nn.ReLU(), nn.Flatten(), nn.Linear(100, 2)
    )


def test_a_bare_model_has_the_figures_worked_out_by_hand(tool: ModuleType, bare: Path) -> None:
    info = tool.describe(bare, tool.parse([str(bare)]))
    assert (info.model, info.clip, info.clips_per_sec) == (
        "uniformer",
        (3, FRAMES, SIDE, SIDE),
        None,
    )
    assert info.parameters == PARAMETERS
    assert info.gmacs == pytest.approx(MULTIPLY_ADDS / 1e9, rel=1e-12)
    assert info.norms == {"BatchNorm": 1, "LayerNorm": 4, "GroupNorm": 0, "RMSNorm": 0}


def test_activations_are_what_the_backward_pass_needs(tool: ModuleType) -> None:
    layers = [nn.Linear(10, 20), nn.ReLU(), nn.Linear(20, 5)]
    # The input, and the output of ReLU, which serves both its own gradient and the next weight's.
    assert tool.count_activation_bytes(nn.Sequential(*layers), (3, 10)) == 4 * 3 * (10 + 20)
    # Input of the convolution, of the norm (with a mean and a deviation a channel), output of ReLU.
    assert tool.count_activation_bytes(net(), (2, 3, 5, 5)) == 4 * 2 * 25 * (3 + 4 + 4) + 4 * 2 * 4
    half = tool.count_activation_bytes(
        nn.Sequential(nn.Linear(10, 20), nn.Tanh()), (3, 10), torch.bfloat16
    )
    # The input's copy and the output, in two bytes a number.
    assert half == 2 * 3 * (10 + 20)


def test_looking_does_not_change_the_model(tool: ModuleType) -> None:
    model = net()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    tool.count_activation_bytes(model, (2, 3, 5, 5))
    assert tiny.differences(before, dict(model.state_dict())) == []
    assert not any(
        isinstance(value, torch._subclasses.FakeTensor) for value in model.state_dict().values()
    )


def test_the_table_is_aligned_and_says_what_it_counts(
    tool: ModuleType, bare: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    other = bare.parent / "wide.yaml"
    other.write_text(BARE.replace("[4, 6,", "[400, 6,"), encoding="utf-8")
    assert tool.main([str(bare), str(other), "DATA.NUM_FRAMES", "8"]) == 0
    head, first, second, legend = capsys.readouterr().out.splitlines()
    end = head.index("parameters") + len("parameters")
    assert first[:end].endswith(f"  {PARAMETERS:,}")
    assert second[:end].split()[0] == str(other)
    assert first[:end].split()[2] == "3x8x32x32"
    assert "multiply-adds" in legend


def test_markdown_is_a_row_a_model(
    tool: ModuleType, bare: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    overlay = bare.parent / "five.yaml"
    overlay.write_text("MODEL: {NUM_CLASSES: 5, CLASS_NAMES: [a, b, c, d, e]}\n", encoding="utf-8")
    tool.main(["--markdown", str(bare), "--overlay", str(overlay)])
    head, line, row = capsys.readouterr().out.splitlines()
    parameters = PARAMETERS - (DIMS[-1] + 1) * (CLASSES - 5)
    assert head.count("|") == line.count("|") == row.count("|")
    assert row.startswith(f"| `{bare}` | uniformer | 3x4x32x32 | {parameters:,} | ")
    assert row.endswith(" | 1 | 4 LayerNorm |")


def test_speed_is_measured_when_asked(
    tool: ModuleType,
    bare: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(tool, "SPEED_SEC", 0.0)
    tool.main([str(bare), "--speed"])
    head, row, _ = capsys.readouterr().out.splitlines()
    assert head.split()[-1] == "clips/s"
    assert float(row.split()[-1]) > 0


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["no/such/folder"], "no/such/folder: no such experiment or configuration"),
        (["configs"], "config.yaml: no such file"),
        (["configs/base.yaml", "DATA.FRAMES", "3"], "DATA.FRAMES: unknown key"),
        (["configs/base.yaml", "DATA.NUM_FRAMES"], "this one has no partner"),
        (
            ["configs/models/tv_s3d.yaml", "DATA.NUM_FRAMES", "2"],
            "torchvision/s3d takes at least 5 frames",
        ),
    ],
)
def test_faults_are_one_line(
    tool: ModuleType,
    words: list[str],
    said: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(ROOT)
    assert command_line.run(tool.main, words) == 2
    shown = capsys.readouterr().err
    assert said in shown
    assert shown.count("\n") == 1


def test_overrides_alone_are_refused(tool: ModuleType, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        tool.parse(["DATA.NUM_FRAMES", "4"])
    assert caught.value.code == 2
    assert "name at least one experiment" in capsys.readouterr().err
