"""LLaVA and LLaVA-1.5 (transformers: LlavaForConditionalGeneration): CLIP tower, MLP projector, Llama-like decoder."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from vlmprune.errors import UserError
from vlmprune.methods.base import Tower
from vlmprune.models.base import Adapter

# text_relevance is absent: it needs the CLIP text tower, which a LLaVA checkpoint does not carry.
SIGNALS = frozenset(
    {
        "seeds",
        "cls_attention",
        "received_attention",
        "keys",
        "queries",
        "features",
        "cls_feature",
        "projected",
        "decoder_attention",
    }
)


class Llava(Adapter):
    """One image is one grid of patches; its [CLS] is dropped before the projector."""

    signals = SIGNALS

    def __init__(self, model: Any) -> None:
        super().__init__(model)
        self.tower = describe_tower(model.config)

    @property
    def base_model(self) -> Any:
        return self.model.model

    @property
    def vision_tower(self) -> Any:
        return self.model.model.vision_tower

    @property
    def projector(self) -> Any:
        return self.model.model.multi_modal_projector

    @property
    def language_model(self) -> Any:
        return self.model.model.language_model

    def vision_layer(self, index: int) -> Any:
        # transformers 5.17 keeps the transformer one module deeper than 5.23.
        tower = getattr(self.vision_tower, "vision_model", self.vision_tower)
        return tower.encoder.layers[index]

    def vision_attention(self, index: int) -> Any:
        return self.vision_layer(index).self_attn

    def visual_mask(self, input_ids: Tensor) -> Tensor:
        return input_ids == self.config.image_token_id


def describe_tower(config: Any) -> Tower:
    """The tower's facts from config.json alone, so that impossible pairs are refused before weights load."""
    vision, layer = config.vision_config, config.vision_feature_layer
    if not isinstance(layer, int):
        raise UserError(f"vision_feature_layer={layer}: only LLaVA checkpoints that read one layer are supported")
    if config.vision_feature_select_strategy != "default":
        raise UserError(
            f"vision_feature_select_strategy='{config.vision_feature_select_strategy}': only 'default' is supported"
        )
    side = vision.image_size // vision.patch_size
    # hidden_states counts the embeddings as entry 0, so entry -2 of a 24-layer tower is the output of layer 22.
    feature_layer = layer - 1 if layer >= 0 else vision.num_hidden_layers + layer
    has_cls = vision.model_type == "clip_vision_model"
    return Tower(vision.num_hidden_layers, feature_layer, (side, side), has_cls)


def adapt(model: Any) -> Llava:
    """The adapter of a LlavaForConditionalGeneration."""
    return Llava(model)
