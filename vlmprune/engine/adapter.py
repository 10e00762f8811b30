"""Interface of a model family for the engine. Families implement it in vlmprune/models, one file each.

Modules are typed Any: transformers' classes differ by family, and nn.Module's attributes are not typed either.
"""

from __future__ import annotations

from typing import Any, Protocol

from torch import Tensor

from vlmprune.engine.layout import Layout
from vlmprune.methods.base import Method, Positions, Tower


class ModelInterface(Protocol):
    """Access to the parts of one loaded model that pruning touches. All modules are the model's own, unmodified."""

    model: Any  # the XForConditionalGeneration
    tower: Tower
    signals: frozenset[str]  # names of methods.base.Signals fields that this model can give

    @property
    def base_model(self) -> Any:
        """The XModel inside `model`: receives input_ids."""

    @property
    def encoders(self) -> tuple[str, ...]:
        """Methods of `base_model` that turn pixels into features: get_image_features, get_video_features."""

    @property
    def vision_towers(self) -> list[Any]:
        """All vision encoders of the model."""

    @property
    def projector(self) -> Any:
        """Vision features [tiles, N, C] -> decoder embeddings [tiles, N, D]."""

    @property
    def projects_each_token(self) -> bool:
        """True if the projector maps each token independently, so that it can run on the kept tokens only."""

    @property
    def encodes_tiles_apart(self) -> bool:
        """True if every encoder layer takes [tiles, N, C] and no tile depends on another: tiles can be cached."""

    @property
    def language_model(self) -> Any:
        """The decoder stack without its head."""

    def vision_layers(self, index: int) -> list[Any]:
        """Return encoder layer `index`, 0-based, of each vision encoder."""

    def vision_attentions(self, index: int) -> list[Any]:
        """Return the attention module of encoder layer `index`, 0-based, of each vision encoder."""

    def layout(self, encoder: str, arguments: dict[str, Any], scope: str) -> Layout:
        """Return the layout of the features that `encoder` makes of these arguments. scope: the unit, tile or image."""

    def per_token(self, parts: list[Tensor]) -> Tensor:
        """Return one encoder layer's signal per token, [H, S, ...], from that per patch, [tiles, H, P, ...] per call.

        Where several patches become one token, it gets their mean.
        """

    def decoder_layer(self, index: int) -> Any:
        """Return decoder layer `index`, 0-based."""

    def decoder_attention(self, index: int) -> Any:
        """Return the attention module of decoder layer `index`."""

    def rotary(self, hidden: Tensor, positions: Tensor) -> tuple[Tensor, Tensor]:
        """Return the decoder's cos and sin of position ids [..., B, n] as the language model is called with them."""

    @property
    def decoder_depth(self) -> int:
        """Number of decoder layers."""

    def visual_mask(self, input_ids: Tensor) -> Tensor:
        """Return bool [B, L], True at the positions of a prompt that hold visual tokens."""

    def prepare(self, prunes_before: bool) -> list[Any]:
        """Install the family's own hooks on the model, and return handles that the session will `remove()`.

        prunes_before: True if tokens are dropped before the language model.
        """

    def clear_positions(self) -> None:
        """Clear the positions that the model keeps of its last prompt, which would be wrong for the next tokens."""

    def detail(self, visual: Tensor) -> Tensor:
        """Return bool [B, L], True at visual positions of high-resolution tiles; for families with `tiles` only."""

    def position_rule(self, method: Method) -> Positions:
        """Return "renumber" or "keep": the treatment of position ids when `method` drops tokens."""


class TextRelevance(Protocol):
    """The text half of CLIP, which scores the relevance of each image patch to a question."""

    def relevance(self, features: Tensor, questions: list[str]) -> Tensor:
        """Return float32 [images, N] from the vision features [images, N, C] and one question per prompt."""
