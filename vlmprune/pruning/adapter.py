"""What the engine must know of a model. Families implement it in vlmprune/models, one file each."""

from __future__ import annotations

from typing import Protocol

from torch import Tensor, nn

from vlmprune.methods.base import Tower


class Adapter(Protocol):
    """Where one model family keeps the parts that pruning touches. All modules are the model's own, unmodified."""

    model: nn.Module  # the XForConditionalGeneration
    base_model: nn.Module  # the XModel inside it: receives input_ids
    vision_tower: nn.Module  # receives pixel_values
    projector: nn.Module  # vision features [B, N, C] -> decoder embeddings [B, N, D]
    language_model: nn.Module  # the decoder stack without its head
    tower: Tower
    signals: frozenset[str]  # names of methods.base.Signals fields that this model can give

    def vision_layer(self, index: int) -> nn.Module:
        """Encoder layer `index`, 0-based."""

    def vision_attention(self, index: int) -> nn.Module:
        """The attention module of encoder layer `index`."""

    def decoder_layer(self, index: int) -> nn.Module:
        """Decoder layer `index`, 0-based."""

    def decoder_attention(self, index: int) -> nn.Module:
        """The attention module of decoder layer `index`."""

    @property
    def decoder_depth(self) -> int:
        """Number of decoder layers."""

    def visual_mask(self, input_ids: Tensor) -> Tensor:
        """bool [B, L]: which positions of a prompt hold visual tokens."""
