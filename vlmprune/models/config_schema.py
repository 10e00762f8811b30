"""Schemas of a checkpoint's JSON files, whose values are checked before transformers builds anything from them.

transformers checks the types of many fields and the values of few: a patch of no pixels divides by zero, a billion
layers become a list of a billion names. Bounds are far beyond any published model. Absent fields have the defaults of
transformers; fields that are not declared here are not checked.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import AfterValidator, Field, with_config
from typing_extensions import TypedDict

from vlmprune.typed_json import STRICT

MROPE = {"qwen2_5_vl_text": [16, 24, 24], "qwen3_vl_text": [24, 20, 20]}  # transformers' defaults, by model_type
MOST_PIXELS = 2**16  # of a side

Count = Annotated[int, Field(ge=1, le=4096)]  # of layers, heads, channels, pixels of a patch
Width = Annotated[int, Field(ge=1, le=2**20)]  # of layers; pixels of a picture
Length = Annotated[int, Field(ge=1, le=2**31)]  # of a vocabulary or a sequence
Index = Annotated[int, Field(ge=0, le=2**31)]  # of a token
Indexes = Annotated[list[Annotated[int, Field(ge=0, le=1000)]], Field(max_length=1000)]  # of layers
Layers = Annotated[int, Field(ge=1, le=1000)]
Positive = Annotated[float, Field(gt=0, le=1e15)]
Dtype = Annotated[str, Field(pattern=r"^(torch\.)?b?float\d+\w*$")]
Kernel = Annotated[str, Field(pattern=r"^\w*$")]  # a name with a slash would be code on the hub
Small = Annotated[float, Field(gt=0, lt=1)]


def check_sides(given: Any) -> Any:
    """Return `given`, a length, or a height and a width. Raises ValueError if one is no number of pixels."""
    sides = given if isinstance(given, list) and len(given) == 2 else [given]
    if not all(type(side) is int and 1 <= side <= MOST_PIXELS for side in sides):
        raise ValueError(f"a number of pixels from 1 to {MOST_PIXELS:,}, or two for height and width")
    return given


def check_lengths(given: Any) -> Any:
    """Return `given`, an image processor's size: a number, a list or an object of numbers. Raises ValueError if not."""
    values = list(given.values()) if isinstance(given, dict) else given if isinstance(given, list) else [given]
    if not values or not all(type(value) is int or value is None for value in values):
        raise ValueError("a number of pixels, or several by their names")
    return given


Sides = Annotated[Any, AfterValidator(check_sides)]


Size = Annotated[list[Annotated[int, Field(ge=1, le=MOST_PIXELS)]], Field(min_length=2, max_length=2)]

Pinpoints = Annotated[list[Size], Field(min_length=1, max_length=1000)]
Tiles = Annotated[int, Field(ge=1, le=1000)]  # of a picture
Lengths = Annotated[Any, AfterValidator(check_lengths)]


@with_config(STRICT)
class Rope(TypedDict, total=False):
    """Settings of rotary positions: rope_parameters or rope_scaling."""

    rope_theta: Positive | None
    factor: Positive | None
    partial_rotary_factor: Annotated[float, Field(gt=0, le=1)] | None
    mrope_section: Annotated[list[Count], Field(min_length=3, max_length=3)] | None


@with_config(STRICT)
class Part(TypedDict, total=False):
    """Fields of every part of a model."""

    num_labels: Annotated[int, Field(ge=0, le=2**16)] | None  # transformers makes a name for each
    return_dict: Literal[True]
    output_attentions: bool
    output_hidden_states: bool
    is_encoder_decoder: Literal[False]
    attn_implementation: Kernel | None
    _attn_implementation: Kernel | None
    dtype: Dtype | None
    torch_dtype: Dtype | None


class Text(Part, total=False):
    """text_config: the decoder."""

    hidden_size: Width
    intermediate_size: Width
    num_hidden_layers: Layers
    num_attention_heads: Count
    num_key_value_heads: Count | None
    head_dim: Count | None
    vocab_size: Annotated[int, Field(ge=1, le=2**24)]
    max_position_embeddings: Length
    rms_norm_eps: Small
    rope_theta: Positive | None
    rope_parameters: Rope | None
    rope_scaling: Rope | None
    sliding_window: Length | None
    max_window_layers: Index | None
    layer_types: list[str] | None


class Vision(Part, total=False):
    """vision_config: the vision encoder."""

    hidden_size: Width
    embed_dim: Width  # Qwen's older name
    intermediate_size: Width
    out_hidden_size: Width
    num_hidden_layers: Layers
    depth: Layers
    num_attention_heads: Count
    num_heads: Count
    num_channels: Count
    in_channels: Count
    in_chans: Count
    image_size: Sides
    patch_size: Sides
    temporal_patch_size: Count
    spatial_merge_size: Count
    spatial_patch_size: Count
    window_size: Width
    num_position_embeddings: Length
    projection_dim: Annotated[int, Field(ge=0, le=2**20)]
    layer_norm_eps: Small
    fullatt_block_indexes: Indexes
    deepstack_visual_indexes: Indexes


class Config(Text, total=False):
    """config.json; some Qwen2.5-VL checkpoints have the decoder's fields beside vision_config."""

    text_config: Text
    vision_config: Vision
    image_token_id: Index
    image_token_index: Index
    video_token_id: Index
    video_token_index: Index
    vision_start_token_id: Index
    vision_end_token_id: Index
    image_grid_pinpoints: Pinpoints
    downsample_ratio: Annotated[float, Field(gt=0, le=1)]
    projection_dim: Width  # of a CLIP
    auto_map: dict[str, Any]
    quantization_config: dict[str, Any] | None


@with_config(STRICT)
class ImageProcessor(TypedDict, total=False):
    """preprocessor_config.json: the fields that determine the number of loop steps or the size of a result."""

    min_patches: Tiles
    max_patches: Tiles
    patch_size: Sides | None
    merge_size: Count | None
    temporal_patch_size: Count | None
    size: Lengths | None
    crop_size: Lengths | None
    image_grid_pinpoints: Pinpoints | None


def check_growth(given: Any) -> Any:
    """Return `given`, a tokenizer's steps. Raises ValueError if its replacements could make a text far longer."""
    growth, left = 1, [given]
    while left:
        step = left.pop()
        left += step if isinstance(step, list) else step.values() if isinstance(step, dict) else []
        if isinstance(step, dict) and step.get("type") == "Replace":
            growth *= max(1, len(str(step.get("content"))))
    if growth > 1000:
        raise ValueError(f"its replacements make a text {growth:,} times as long; at most 1,000 times")
    return given


@with_config(STRICT)
class Tokenizer(TypedDict, total=False):
    """tokenizer.json, which is run by native code that cannot be interrupted."""

    added_tokens: Annotated[list[dict[str, Any]], Field(max_length=20_000)]  # three times those of a published one
    normalizer: Annotated[Any, AfterValidator(check_growth)]
    decoder: Annotated[Any, AfterValidator(check_growth)]


@with_config(STRICT)
class TokenizerConfig(TypedDict, total=False):
    """tokenizer_config.json."""

    added_tokens_decoder: Annotated[dict[str, Any], Field(max_length=20_000)]


@with_config(STRICT)
class Processor(TypedDict, total=False):
    """processor_config.json."""

    image_processor: ImageProcessor
    video_processor: dict[str, Any]


def check_agreement(config: Any) -> None:
    """Raise ValueError if sizes of a transformers config do not divide or add up."""
    for name in ("text_config", "vision_config"):
        part = getattr(config, name)
        heads = "num_heads" if hasattr(part, "num_heads") else "num_attention_heads"  # the former is Qwen's name
        count, width = getattr(part, heads), getattr(part, "head_dim", None)
        if width is None and part.hidden_size % count:
            raise ValueError(f"{name}.hidden_size={part.hidden_size}: {heads}={count} does not divide it")
        groups = getattr(part, "num_key_value_heads", None)
        if groups is not None and count % groups:
            raise ValueError(f"{name}.num_key_value_heads={groups}: it does not divide {heads}={count}")
        rotary = getattr(part, "rope_parameters", None) or {}
        width = width or part.hidden_size // count
        if rotary and width % 2:
            raise ValueError(f"{name}.head_dim={width}: rotary positions turn pairs of numbers, which are even")
        sections = rotary.get("mrope_section", MROPE.get(part.model_type))
        if sections is not None and sum(sections) * 2 != width:
            raise ValueError(f"{name}.rope_parameters.mrope_section={sections}: it has to add up to {width // 2}")
        depth = getattr(part, "depth", 0)
        for field in ("fullatt_block_indexes", "deepstack_visual_indexes"):
            if any(index >= depth for index in getattr(part, field, ())):
                raise ValueError(f"{name}.{field}={getattr(part, field)}: there are {depth} layers, from 0 on")
