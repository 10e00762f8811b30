"""The common base of all model families: the adapter of a loaded model, and the sizes of its vision encoder.

A family is one file in families/, named after its `model_type` in config.json. It exports `adapt(model)` and, so that
impossible pairs are refused before weights load, `SIGNALS` and `describe_tower(config)`. It may export
`check_method(method)`, which raises ValueError for methods that it refuses; `KEEPS_POSITIONS` if its adapter keeps
position ids; `RANKS_TOGETHER`, the media of which several tiles or frames can be ranked together, if not both can; and
`Options`, a dataclass of its own settings in `model.`, which are then in its adapter's `options`. No list names the
families.

The sizes come from the checkpoint's config, the input from the question's images or video; flops.py multiplies them.
"""

from __future__ import annotations

import importlib
import pkgutil
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from types import ModuleType
from typing import Any

import torch
from torch import Tensor

from vlmprune.config.settings import OF_EVERY_MODEL
from vlmprune.config.typecheck import construct
from vlmprune.engine.layout import Layout
from vlmprune.errors import UserError, check_choice, nearest
from vlmprune.methods.base import Method, Positions, Tower

Grid = tuple[int, int]  # rows, columns


class UncountableFlops(ValueError):
    """FLOPs that cannot be counted without guessing; the message says why."""


@dataclass(frozen=True)
class EncoderSizes:
    """Matrix sizes of one family's vision encoder, mergers and projector, in multiply-accumulates (MACs).

    width: of its hidden states. heads: of its attention. cls: 1 where a tile has [CLS] before its patches. patch_macs:
    embedding one patch. layer_macs: one token in one layer, without the products of queries and keys. projector_macs:
    one token. merger_macs: one token in other parts than layers and projector (DeepStack's mergers). feature_width: of
    the signal `features`. window: patches along a side of an attention window, None for attention over whole tiles,
    which `full_layers` have in any case.
    """

    width: int
    heads: int
    cls: int
    patch_macs: int
    layer_macs: int
    projector_macs: int
    feature_width: int
    merger_macs: int = 0
    window: int | None = None
    full_layers: frozenset[int] = frozenset()

    def tokens(self, tile: Grid) -> int:
        """Return the number of positions of a tile in a layer: its patches, and [CLS]."""
        return tile[0] * tile[1] + self.cls

    def pairs(self, layer: int, tile: Grid) -> int:
        """Return the number of (query, key) pairs of a tile that attention in `layer` multiplies."""
        if self.window is None or layer in self.full_layers:
            return self.tokens(tile) ** 2
        return _squares(tile[0], self.window) * _squares(tile[1], self.window)

    def layer_flops(self, tokens: int, pairs: int) -> float:
        """Return the FLOPs of one layer for `tokens` positions and `pairs` of (query, key)."""
        return 2 * tokens * self.layer_macs + 4 * pairs * self.width


def _squares(length: int, size: int) -> int:
    """Return the sum of squares of the pieces of `length`, cut into pieces of `size` and a rest."""
    return length // size * size**2 + (length % size) ** 2


@dataclass(frozen=True)
class EncoderInput:
    """Input of the vision encoder for one question, as recorded on the question's line in predictions.jsonl.

    slots: visual slots of the unpruned prompt. newlines: those of them that pruning before the language model never
    drops. tiles: the patch grid of each tile, crop, frame or temporal step. projected: rows that go to the projector
    where nothing is dropped before it. units: per image or video, the number of tokens of each of its tiles in the
    prompt, which a method ranks together (or those of all tiles, with scope=image).
    """

    slots: int
    newlines: int
    tiles: list[Grid]
    projected: int
    units: list[list[int]]

    @classmethod
    def from_tensors(cls, adapter: Adapter, tensors: dict[str, Tensor]) -> EncoderInput:
        """Return the input for the media of one prompt, given as `Media.tensors`; pixel values are not read."""
        slots = newlines = projected = 0
        tiles: list[Grid] = []
        units: list[list[int]] = []
        videos = {name: tensor for name, tensor in tensors.items() if "video" in name}
        images = {name: tensor for name, tensor in tensors.items() if name not in videos}
        for encoder, arguments in (("get_image_features", images), ("get_video_features", videos)):
            if not arguments:
                continue
            layout = adapter.layout(encoder, arguments, "tile")
            slots, newlines = slots + layout.slots, newlines + layout.fixed_slots
            tiles += adapter.patch_grids(layout)
            projected += adapter.projected_rows(layout)
            owners = layout.images or list(range(len(layout.pixels)))
            own: list[list[int]] = [[] for _ in range(max(owners) + 1)]
            for group in layout.groups:
                for tile in group.tiles:
                    own[owners[tile]].append(group.index.shape[1])
            units += own
        return cls(slots, newlines, tiles, projected, units)

    @classmethod
    def from_dict(cls, data: dict[str, Any]) -> EncoderInput:
        """Return the inverse of `as_dict`, also from data that was written as JSON."""
        known = {field.name: data[field.name] for field in fields(cls)}  # a newer version may have more
        return cls(**known | {"tiles": [(rows, columns) for rows, columns in data["tiles"]]})

    def as_dict(self) -> dict[str, Any]:
        """Return the fields as plain data."""
        return asdict(self)

    def unit_sizes(self, scope: str) -> list[int]:
        """Return the number of tokens of each unit that a method with this scope ranks."""
        return [n for image in self.units for n in (image if scope == "tile" else [sum(image)])]


MEDIA = frozenset({"image", "video"})


@dataclass(frozen=True)
class NoOptions:
    """Options of a family that has none."""


class Adapter(ABC):
    """Base class of a family's adapter: implements the engine's interface, `vlmprune.engine.adapter.ModelInterface`."""

    signals: frozenset[str]
    tower: Tower
    options: Any = NoOptions()  # the family's `Options`, as given to `adapt`
    pruning_options: frozenset[str] = frozenset()  # those that act only where tokens are dropped before the LM

    def __init__(self, model: Any) -> None:
        self.model = model
        self.config = model.config

    @property
    def idle_options(self) -> dict[str, str]:
        """The options that cannot act beside the others, and why."""
        return {}

    @property
    def base_model(self) -> Any:
        return self.model.model

    @property
    def vision_towers(self) -> list[Any]:
        return [self.model.model.vision_tower]

    @property
    def projector(self) -> Any:
        return self.model.model.multi_modal_projector

    @property
    def language_model(self) -> Any:
        return self.model.model.language_model

    @abstractmethod
    def vision_layers(self, index: int) -> list[Any]: ...

    @abstractmethod
    def vision_attentions(self, index: int) -> list[Any]: ...

    @abstractmethod
    def layout(self, encoder: str, arguments: dict[str, Any], scope: str) -> Layout: ...

    @abstractmethod
    def visual_mask(self, input_ids: Tensor) -> Tensor: ...

    @property
    @abstractmethod
    def encoder_sizes(self) -> EncoderSizes: ...

    def patch_grids(self, layout: Layout) -> list[Grid]:
        """Return the rows and columns of patches of every tile of an encoding."""
        return [self.tower.grid] * len(layout.pixels)

    def projected_rows(self, layout: Layout) -> int:
        """Return the number of rows of an encoding that the projector receives if nothing is dropped before it."""
        return len(layout.pixels) * layout.tile_rows

    @property
    def encoders(self) -> tuple[str, ...]:
        return ("get_image_features",)

    @property
    def projects_each_token(self) -> bool:
        return True

    @property
    def encodes_tiles_apart(self) -> bool:
        return True

    def per_token(self, parts: list[Tensor]) -> Tensor:
        return torch.cat([part.movedim(1, 0).flatten(1, 2) for part in parts], dim=1)

    def prepare(self, prunes_before: bool) -> list[Any]:
        return []

    def clear_positions(self) -> None:
        return None

    def detail(self, visual: Tensor) -> Tensor:
        raise NotImplementedError(f"{self.config.model_type} has no tiles")

    def position_rule(self, method: Method) -> Positions:
        return method.position_rule

    def decoder_layer(self, index: int) -> Any:
        return self.language_model.layers[index]

    def decoder_attention(self, index: int) -> Any:
        return self.decoder_layer(index).self_attn

    def rotary(self, hidden: Tensor, positions: Tensor) -> tuple[Tensor, Tensor]:
        return self.language_model.rotary_emb(hidden, position_ids=positions)

    @property
    def decoder_depth(self) -> int:
        return self.config.text_config.num_hidden_layers


def families() -> list[str]:
    """Return the model types that have an adapter, sorted."""
    return sorted(module.name for module in pkgutil.iter_modules([str(Path(__file__).with_name("families"))]))


def family_module(model_type: str) -> ModuleType:
    """Return the module of a family. Raises UserError for any other name, such as one from a config.json."""
    return importlib.import_module(f"vlmprune.models.families.{check_choice(model_type, families(), 'model family')}")


@dataclass(frozen=True)
class Family:
    """Facts of a checkpoint that follow from its config.json alone."""

    signals: frozenset[str]
    tower: Tower
    sliding_window: bool = False  # in the decoder
    keeps_positions: bool = False  # for every method
    ranks_together: frozenset[str] = MEDIA  # media whose tiles or frames can be ranked together
    text: Any = None  # the decoder's config
    check: Callable[[Method], None] = lambda _: None  # the family's check_method; raises ValueError


def read_family(config: Any) -> Family:
    """Return the facts of a checkpoint from its config. Raises UserError if its vision_feature_layer does not exist."""
    module = family_module(config.model_type)
    family = Family(
        module.SIGNALS,
        module.describe_tower(config),
        has_sliding_window(config.text_config),
        getattr(module, "KEEPS_POSITIONS", False),
        getattr(module, "RANKS_TOGETHER", MEDIA),
        config.text_config,
    )
    tower = family.tower
    if not 0 <= tower.feature_layer < tower.depth:
        raise UserError(
            f"vision_feature_layer={config.vision_feature_layer} in the model's config.json: its vision encoder has "
            f"{tower.depth} layers; allowed: 1 to {tower.depth}, or -{tower.depth} to -1"
        )
    return replace(family, check=module.check_method) if hasattr(module, "check_method") else family


def has_sliding_window(text: Any) -> bool:
    """Return True if some decoder layer attends only to a window of the sequence. text: the decoder's config."""
    types = getattr(text, "layer_types", None)
    return getattr(text, "sliding_window", None) is not None and (types is None or "sliding_attention" in types)


def adapt(model: Any, options: dict[str, Any] | None = None, where: str = "model_options.") -> Adapter:
    """Return the adapter of a loaded transformers model, with options of its family (LLaVA-NeXT: newline, packing).

    where: prefix of an option's name in messages. Raises UserError if the family has no adapter or no such option.
    """
    model = getattr(model, "_orig_mod", model)  # torch.compile's wrapper: hooks belong on the model itself
    model_type = getattr(getattr(model, "config", None), "model_type", None)
    if model_type is None or not hasattr(model, "generate"):
        raise UserError(f"{type(model).__name__} is no transformers model that generates: give the whole model")
    if model_type not in families():
        raise UserError(f"model family '{model_type}' is not supported; supported: {', '.join(families())}")
    adapter: Adapter = family_module(model_type).adapt(model)
    adapter.options = read_options(model_type, options or {}, where)
    return adapter


def read_options(model_type: str, given: dict[str, Any], where: str) -> Any:
    """Return a family's `Options`; null takes the default. Raise UserError for names and values that it does not have.

    null is taken for an option of any other family too, so that one YAML can serve all families (model=path).
    """
    own = _option_names(model_type)
    for name in sorted(given.keys() - set(own)):
        others = [family for family in families() if name in _option_names(family)]
        if given[name] is None and others:
            continue
        known = [*own, *OF_EVERY_MODEL] if where == "model." else own
        hint = f", which is one of {', '.join(others)}" if others else nearest(name, known)
        raise UserError(f"{where}{name}: {model_type} has no such setting{hint}; its own: {', '.join(own) or 'none'}")
    return construct(_options_of(model_type), {key: value for key, value in given.items() if value is not None}, where)


def _options_of(model_type: str) -> type:
    return getattr(family_module(model_type), "Options", NoOptions)


def _option_names(model_type: str) -> list[str]:
    return [field.name for field in fields(_options_of(model_type))]
