"""A model's state_dict against the manifest of the public one."""

from __future__ import annotations

import json

from torch import nn

from tests.paths import MANIFESTS


def assert_public(name: str, model: nn.Module) -> None:
    """Same names in the same order, same shapes, same buffers, same number of parameters; `model` may be meta."""
    manifest = json.loads((MANIFESTS / f"{name}.json").read_text(encoding="utf-8"))
    state = {key: list(value.shape) for key, value in model.state_dict().items()}
    assert list(state) == list(manifest["state_dict"])
    assert state == manifest["state_dict"]
    parameters = dict(model.named_parameters())
    assert sum(parameter.numel() for parameter in parameters.values()) == manifest["num_params"]
    assert len(parameters) == manifest["num_parameters_tensors"]
    # The manifests name the first six buffers.
    assert [key for key in state if key not in parameters][:6] == manifest["buffers"][:6]
