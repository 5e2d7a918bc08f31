"""Ways of fine-tuning beside training the whole model."""

from __future__ import annotations

import pytest
import torch

from benchmarks import finetuning


def test_every_way_is_measured_and_trains_what_it_says(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("peft")
    monkeypatch.setattr(finetuning, "STEPS", 1)
    monkeypatch.setattr(finetuning, "ROUNDS", 1)
    threads = torch.get_num_threads()
    try:
        finetuning.main()
    finally:
        torch.set_num_threads(threads)
    rows = [line.strip("| ").split(" | ") for line in capsys.readouterr().out.splitlines()[2:]]
    shares = {row[0]: [float(cell) for cell in row[1:]] for row in rows}
    assert list(shares) == list(finetuning.WAYS)
    assert shares["the whole model"] == [1.0, 1.0, 1.0, 1.0]
    assert shares["`MODEL.PROBE linear`"][0] < shares["`MODEL.LORA_RANK 4`"][0] < 0.2
    assert shares["`MODEL.USE_CHECKPOINT True`"][2] < 0.5
