"""LLaVA and -1.5 (transformers: LlavaForConditionalGeneration): CLIP encoder, MLP projector, Llama-like decoder."""

from __future__ import annotations

from typing import Any

from PIL import Image
from torch import Tensor

from vlmprune.engine.layout import Layout, tile_layout
from vlmprune.errors import UserError
from vlmprune.methods.base import Tower
from vlmprune.models.base import Adapter, EncoderSizes
from vlmprune.models.geometry import Pixels, View, check_crop, crop_box, grid_of
from vlmprune.models.preprocessing import Media, Preprocessor

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
        "encoder_layers",  # their outputs may be shortened: the model does not count patches after them
        "text_relevance",  # from the text tower of its CLIP, which the checkpoint does not contain (clip_text.py)
        "decoder_attention",
    }
)

RANKS_TOGETHER: frozenset[str] = frozenset()  # a picture is one tile


class Llava(Adapter):
    """Adapter with one image as one grid of patches; its [CLS] is dropped before the projector."""

    signals = SIGNALS

    def __init__(self, model: Any) -> None:
        super().__init__(model)
        self.tower = describe_tower(model.config)

    def vision_layers(self, index: int) -> list[Any]:
        # transformers 5.17 keeps the transformer one module deeper than 5.23.
        towers = (getattr(tower, "vision_model", tower) for tower in self.vision_towers)
        return [tower.encoder.layers[index] for tower in towers]

    def vision_attentions(self, index: int) -> list[Any]:
        return [layer.self_attn for layer in self.vision_layers(index)]

    def layout(self, encoder: str, arguments: dict[str, Any], scope: str) -> Layout:
        return tile_layout(arguments["pixel_values"], self.tower.grid)

    def visual_mask(self, input_ids: Tensor) -> Tensor:
        return input_ids == self.config.image_token_id

    @property
    def encoder_sizes(self) -> EncoderSizes:
        vision, width = self.config.vision_config, self.config.text_config.hidden_size
        c = vision.hidden_size
        return EncoderSizes(
            width=c,
            heads=vision.num_attention_heads,
            cls=int(self.tower.has_cls),
            patch_macs=vision.num_channels * vision.patch_size**2 * c,
            layer_macs=4 * c**2 + 2 * c * vision.intermediate_size,
            projector_macs=c * width + width**2,
            feature_width=c if self.projects_each_token else width,
        )


def describe_tower(config: Any) -> Tower:
    """Return the facts of the encoder from config.json alone, so that pairs can be refused before weights load."""
    vision, layer = config.vision_config, config.vision_feature_layer
    if not isinstance(layer, int):
        raise UserError(f"vision_feature_layer={layer}: only LLaVA checkpoints that read one layer are supported")
    if config.vision_feature_select_strategy != "default":
        raise UserError(
            f"vision_feature_select_strategy='{config.vision_feature_select_strategy}': only 'default' is supported"
        )
    side = vision.image_size // vision.patch_size
    # hidden_states counts the embeddings as entry 0, so entry -2 of a 24-layer encoder is the output of layer 22.
    feature_layer = layer - 1 if layer >= 0 else vision.num_hidden_layers + layer
    has_cls = vision.model_type == "clip_vision_model"
    return Tower(vision.num_hidden_layers, feature_layer, (side, side), has_cls)


class Inputs(Preprocessor):
    """One tile per image, resized and cropped by the processor, or padded first as in LLaVA-1.5's evaluation."""

    def image(self, image: Image.Image) -> Media:
        image = self.squared(image)
        check_crop(image, self.processors.image_processor)
        pixels = self.tensors([image])["pixel_values"]
        rows, columns = self.adapter.tower.grid
        return Media("image", {"pixel_values": pixels}, self.processors.image_token * (rows * columns))

    def views(self, medium: Media, sizes: list[Pixels]) -> list[View]:
        box = self.original_box(sizes[0], lambda size: crop_box(size, self.processors.image_processor))
        return [View(0, box, grid_of(*self.adapter.tower.grid))]


def adapt(model: Any) -> Llava:
    """Return the adapter of a LlavaForConditionalGeneration."""
    return Llava(model)
