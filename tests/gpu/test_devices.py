"""No model mixes devices: on tensors without values that are said to lie on a GPU, any operation that does is refused.

These tests need no GPU.
"""

from __future__ import annotations

import pytest
import torch
from torch._subclasses.fake_tensor import FakeTensorMode

from nightcrawler.models.flops import fake_state
from tests.gpu.test_models import MODELS, build


def test_mixed_devices_are_refused() -> None:
    with FakeTensorMode(), pytest.raises(RuntimeError, match="same device"):
        torch.empty(2, 3, device="cuda") @ torch.empty(3, 2)


@pytest.mark.parametrize("training", [True, False], ids=["training", "test"])
@pytest.mark.parametrize("name", MODELS)
def test_a_forward_pass_stays_on_the_gpu(name: str, training: bool) -> None:
    """A backward pass on such tensors needs CUDA itself, and computes where the forward pass did."""
    model, clips = build(name)
    model.train(training)
    with FakeTensorMode(allow_non_fake_inputs=True) as mode, torch.no_grad():
        state = {key: tensor.to("cuda") for key, tensor in fake_state(mode, model).items()}
        fake = mode.from_tensor(clips)
        logits = torch.func.functional_call(model, state, (fake.to("cuda"),))
        assert logits.device.type == "cuda"
        # Else nothing would be refused.
        with pytest.raises(RuntimeError, match="same device"):
            torch.func.functional_call(model, state, (fake,))
