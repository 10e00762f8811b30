"""What the engine must know of a model. Families implement it in vlmprune/models, one file each.

Modules are typed Any: transformers' classes differ by family, and nn.Module's attributes are not typed either.
"""

from __future__ import annotations

from typing import Any, Protocol

from torch import Tensor

from vlmprune.methods.base import Method, Positions, SequenceMethod, Tower
from vlmprune.pruning.layout import Layout


class Adapter(Protocol):
    """Where one model family keeps the parts that pruning touches. All modules are the model's own, unmodified."""

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
        """Every vision encoder that the model has."""

    @property
    def projector(self) -> Any:
        """Vision features [tiles, N, C] -> decoder embeddings [tiles, N, D]."""

    @property
    def projects_each_token(self) -> bool:
        """Whether the projector maps each token by itself, so that dropped ones need not pass it."""

    @property
    def encodes_tiles_apart(self) -> bool:
        """Whether a tile is a row of its own in every encoder layer, [tiles, N, C], and no other one's matter."""

    @property
    def language_model(self) -> Any:
        """The decoder stack without its head."""

    def vision_layers(self, index: int) -> list[Any]:
        """Encoder layer `index`, 0-based, of each vision encoder that the model has."""

    def vision_attentions(self, index: int) -> list[Any]:
        """The attention modules of those."""

    def layout(self, encoder: str, arguments: dict[str, Any], method: SequenceMethod) -> Layout:
        """How the features that `encoder` returns for these arguments lie, and what `method` ranks together."""

    def per_token(self, parts: list[Tensor]) -> Tensor:
        """What one encoder layer showed of its patches, [tiles, H, P, ...] per call, for tokens: [H, S, ...].

        Where several patches become one token, their mean.
        """

    def decoder_layer(self, index: int) -> Any:
        """Decoder layer `index`, 0-based."""

    def decoder_attention(self, index: int) -> Any:
        """The attention module of decoder layer `index`."""

    def rotary(self, hidden: Tensor, positions: Tensor) -> tuple[Tensor, Tensor]:
        """The decoder's cos and sin of position ids [..., B, n] as the language model is called with them."""

    @property
    def decoder_depth(self) -> int:
        """Number of decoder layers."""

    def visual_mask(self, input_ids: Tensor) -> Tensor:
        """bool [B, L]: which positions of a prompt hold visual tokens."""

    def prepare(self, prunes_before: bool) -> list[Any]:
        """What a session puts in place on the model for this family, to `remove()` at its end.

        prunes_before: whether tokens are dropped before the language model.
        """

    def forget_positions(self) -> None:
        """Drop what the model keeps of its last prompt's positions, which are not those of the next tokens."""

    def detail(self, visual: Tensor) -> Tensor:
        """bool [B, L]: of the visual positions, those of high-resolution tiles. Asked of families with `tiles` only."""

    def position_rule(self, method: Method) -> Positions:
        """Whether position ids are renumbered or kept when `method` drops tokens."""


class TextTower(Protocol):
    """The text half of CLIP, which says how much each image patch has to do with a question."""

    def relevance(self, features: Tensor, questions: list[str]) -> Tensor:
        """float32 [images, N] from the vision features [images, N, C] and one question per prompt."""
