"""Probes: a frozen backbone, and a classifier that is trained on its features."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from nightcrawler.models.formats import plain_names
from nightcrawler.models.pretrained import is_head
from nightcrawler.utils.errors import ArgumentError

# Channels of an attention head.
HEAD_DIM = 64
INIT_STD = 0.02


class LinearProbe(nn.Module):
    """Model of which only the classifier is trained.

    The rest has no gradients and stays in evaluation mode: no dropout, and BatchNorm with its
    statistics. Entries have their names behind `model.`, a prefix that loading ignores.

    Args:
        model: clips to logits. It belongs to the wrapper from now on.
    """

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model
        # Checkpoints of other clip sizes are interpolated to it.
        self.grid = getattr(model, "grid", ())
        model.requires_grad_(False)
        for plain, name in plain_names(name for name, _ in model.named_parameters()).items():
            if self._is_trained(plain):
                model.get_parameter(name).requires_grad_(True)
        self.train(model.training)

    def _is_trained(self, plain: str) -> bool:
        new = getattr(self.model, "new_entries", None)
        if new is None:
            return is_head(plain)
        # Parts that a folder's weights did not fill would stay random for ever.
        return plain.startswith("classifier.") or plain in new

    def train(self, mode: bool = True) -> LinearProbe:
        """Set training mode of the classifier alone.

        Args:
            mode: training, otherwise evaluation.
        """
        super().train(mode)
        self.model.eval()
        for module in self.model.modules():
            parameters = list(module.parameters(recurse=False))
            if parameters and all(parameter.requires_grad for parameter in parameters):
                module.training = mode
        return self

    def forward(self, clip: Tensor) -> Tensor:
        """Classify clips, to logits `[B, K]`."""
        return self.model(clip)


class AttentivePool(nn.Module):
    """Classifier of tokens: one learned query attends to them (Bardes et al. 2024, section 4).

    Args:
        dim: C of the tokens.
        num_classes: K.
        dropout: before the classifier.
    """

    def __init__(self, dim: int, num_classes: int, dropout: float = 0.0) -> None:
        super().__init__()
        heads = dim // HEAD_DIM if dim % HEAD_DIM == 0 else 1
        self.query = nn.Parameter(torch.zeros(1, 1, dim))
        self.norm = nn.LayerNorm(dim)
        self.attention = nn.MultiheadAttention(dim, heads, batch_first=True)
        self.classifier = nn.Linear(dim, num_classes)
        self.dropout = dropout
        nn.init.trunc_normal_(self.query, std=INIT_STD)

    def forward(self, tokens: Tensor) -> Tensor:
        """Return logits `[B, K]` of tokens `[B, N, C]`."""
        tokens = self.norm(tokens)
        # A copy: the counter of operations takes no view of a parameter.
        query = self.query.repeat(len(tokens), 1, 1)
        pooled = self.attention(query, tokens, tokens, need_weights=False)[0].squeeze(1)
        return self.classifier(functional.dropout(pooled, self.dropout, self.training))


class AttentiveProbe(nn.Module):
    """Frozen backbone whose tokens an attentive pool classifies.

    Args:
        model: has `tokens`, from clips to `[B, N, C]`, and `token_dim`, C.
        num_classes: K.
        dropout: before the classifier.

    Raises:
        ArgumentError: if the model gives no tokens.
    """

    def __init__(self, model: nn.Module, num_classes: int, dropout: float = 0.0) -> None:
        super().__init__()
        if not hasattr(model, "tokens"):
            raise ArgumentError(
                f"probe attentive: {type(model).__name__} gives no tokens: take linear, or a model "
                "of transformers or timm",
                "probe",
            )
        self.model = model.requires_grad_(False)
        self.probe = AttentivePool(self._frozen.token_dim, num_classes, dropout)
        self.train(model.training)

    @property
    def _frozen(self) -> Any:
        return self.model

    def train(self, mode: bool = True) -> AttentiveProbe:
        """Set training mode of the pool alone.

        Args:
            mode: training, otherwise evaluation.
        """
        super().train(mode)
        self.model.eval()
        return self

    def forward(self, clip: Tensor) -> Tensor:
        """Classify clips, to logits `[B, K]`."""
        with torch.no_grad():
            tokens = self._frozen.tokens(clip)
        return self.probe(tokens)
