"""Low-rank adapters beside linear layers (Hu et al. 2022, "LoRA"), by the library peft."""

from __future__ import annotations

import warnings
from collections.abc import Sequence

import torch
from torch import nn

from nightcrawler.models.flops import fake_state
from nightcrawler.models.formats import plain_names
from nightcrawler.models.pretrained import is_head
from nightcrawler.utils.errors import ArgumentError, missing_extra


def add_lora(model: nn.Module, rank: int, alpha: int, clip: Sequence[int]) -> nn.Module:
    """Freeze a model but for its classifier, and add adapters to its linear layers.

    Each layer's output gains alpha / rank x B A x, with A of `rank` rows and B zero at first, so
    that the model begins with its own answers. Layers whose weights a model reads without calling
    them are left alone: an adapter there would have no effect.

    Args:
        model: clips to logits, changed in place. Names of entries in an adapted layer gain
            `base_layer.`, which loading ignores.
        rank: of the adapters.
        alpha: scale of the adapters.
        clip: shape of the model's input, such as `[1, 3, T, H, W]`.

    Returns:
        The model.

    Raises:
        UserError: if peft is missing.
        ArgumentError: if no linear layer is called.
    """
    try:
        import peft
    except ImportError:
        raise missing_extra("a low-rank adapter", "lora") from None
    layers = called_linear_layers(model, clip)
    if not layers:
        raise ArgumentError(
            f"lora_rank {rank}: {type(model).__name__} calls no linear layer but its classifier: "
            "set it to 0",
            "lora_rank",
        )
    settings = peft.LoraConfig(r=rank, lora_alpha=alpha, target_modules=layers)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        peft.inject_adapter_in_model(settings, model)
    for plain, name in plain_names(name for name, _ in model.named_parameters()).items():
        if is_head(plain):
            model.get_parameter(name).requires_grad_(True)
    return model


def called_linear_layers(model: nn.Module, clip: Sequence[int]) -> list[str]:
    """Return the names of the linear layers that a forward pass calls, without the classifier.

    Nothing is computed: fake tensors have shapes only.

    Args:
        model: in any mode.
        clip: shape of its input.
    """
    from torch._subclasses.fake_tensor import FakeTensorMode

    called: list[str] = []
    hooks = []
    for name, module in model.named_modules():
        [plain] = plain_names([f"{name}."])
        if type(module) is nn.Linear and not is_head(plain):
            # Default arguments: the hook must keep this name, not the loop's last.
            def note(layer: nn.Module, inputs: object, name: str = name) -> None:
                called.append(name)

            hooks.append(module.register_forward_pre_hook(note))
    training = model.training
    model.eval()
    try:
        with torch.no_grad(), FakeTensorMode(allow_non_fake_inputs=True) as mode:
            clips = torch.empty(*clip)
            torch.func.functional_call(model, fake_state(mode, model), (clips,))
    finally:
        for hook in hooks:
            hook.remove()
        model.train(training)
    return list(dict.fromkeys(called))
