"""Activation checkpointing that runs a block twice and counts its batch once."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

import torch
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.utils.checkpoint import checkpoint


def recomputed(block: nn.Module, *inputs: Any) -> Any:
    """Apply a block whose activations are computed again in the backward pass.

    That trades time for memory (Chen et al. 2016, "Training deep nets with sublinear memory cost").

    Args:
        block: in train mode.
        *inputs: its inputs, tensors and plain values.

    Returns:
        What the block returns.

    Example:
        >>> x = recomputed(block, x)
    """
    if torch.compiler.is_compiling():
        # The compiler takes no contexts, and applies updates of buffers once by itself.
        return checkpoint(block, *inputs, use_reentrant=False)
    return checkpoint(
        block,
        *inputs,
        use_reentrant=False,
        context_fn=lambda: (contextlib.nullcontext(), _kept_statistics(block)),
    )


@contextlib.contextmanager
def _kept_statistics(block: nn.Module) -> Iterator[None]:
    """Keep BatchNorm's running statistics from counting the batch of a forward pass again.

    Copies of them are counted on and dropped. To write the old values back would not do: autograd
    refuses to go through tensors that changed since the forward pass.
    """
    layers = [module for module in block.modules() if isinstance(module, _BatchNorm)]
    kept = [dict(layer.named_buffers()) for layer in layers]
    for layer, buffers in zip(layers, kept, strict=True):
        for name, value in buffers.items():
            setattr(layer, name, value.clone())
    try:
        yield
    finally:
        for layer, buffers in zip(layers, kept, strict=True):
            for name, value in buffers.items():
                setattr(layer, name, value)
