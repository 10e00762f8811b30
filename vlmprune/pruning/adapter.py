"""What the engine must know of a model. Families implement it in vlmprune/models, one file each.

Modules are typed Any: transformers' classes differ by family, and nn.Module's attributes are not typed either.
"""

from __future__ import annotations

from typing import Any, Protocol

from torch import Tensor

from vlmprune.methods.base import Method, Positions, Tower


class Adapter(Protocol):
    """Where one model family keeps the parts that pruning touches. All modules are the model's own, unmodified."""

    model: Any  # the XForConditionalGeneration
    tower: Tower
    signals: frozenset[str]  # names of methods.base.Signals fields that this model can give

    @property
    def base_model(self) -> Any:
        """The XModel inside `model`: receives input_ids."""

    @property
    def vision_tower(self) -> Any:
        """Receives pixel_values."""

    @property
    def projector(self) -> Any:
        """Vision features [B, N, C] -> decoder embeddings [B, N, D]."""

    @property
    def language_model(self) -> Any:
        """The decoder stack without its head."""

    def vision_layer(self, index: int) -> Any:
        """Encoder layer `index`, 0-based."""

    def vision_attention(self, index: int) -> Any:
        """The attention module of encoder layer `index`."""

    def decoder_layer(self, index: int) -> Any:
        """Decoder layer `index`, 0-based."""

    def decoder_attention(self, index: int) -> Any:
        """The attention module of decoder layer `index`."""

    @property
    def decoder_depth(self) -> int:
        """Number of decoder layers."""

    def visual_mask(self, input_ids: Tensor) -> Tensor:
        """bool [B, L]: which positions of a prompt hold visual tokens."""

    def detail(self, visual: Tensor) -> Tensor:
        """bool [B, L]: of the visual positions, those of high-resolution tiles; all where there are no tiles."""

    def position_rule(self, method: Method) -> Positions:
        """Whether position ids are renumbered or kept when `method` drops tokens."""


class TextTower(Protocol):
    """The text half of CLIP, which says how much each image patch has to do with a question."""

    def relevance(self, features: Tensor, questions: list[str]) -> Tensor:
        """float32 [images, N] from the vision features [images, N, C] and one question per prompt."""
