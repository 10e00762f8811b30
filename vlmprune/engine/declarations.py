"""Checks of the declarations and counts of a user's own method, before any weight loads."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, fields
from typing import Any, get_args

from vlmprune.engine.contract import call_method, check_count, checked_shares, checked_stages
from vlmprune.errors import nearest
from vlmprune.methods.base import Method, Positions, SequenceMethod, Signals, Tower, Widths
from vlmprune.methods.decoder_method import DecoderMethod
from vlmprune.methods.encoder_method import VisionMethod
from vlmprune.own_code import is_own, read_attribute, refuse

TYPICAL = Widths(64, 1024, 1024, 4096)  # CLIP ViT-L and a 7B decoder


def check_class(method: Method) -> None:
    """Raise BrokenContract if a user's class declares something that the engine does not know."""
    if not is_own(type(method)):
        return
    stage = read_attribute(method, "stage")
    if stage not in ("none", "composed", *KINDS):
        refuse(method, "stage", stage, f"{', '.join(KINDS)}, composed or none")
    kind = KINDS.get(stage)
    if kind is not None and not isinstance(method, kind.base):
        refuse(method, "stage", stage, f"a subclass of {kind.base.__name__}")
    if any(isinstance(method, other.base) for other in KINDS.values() if other is not kind):
        refuse(method, "stage", stage, "that of its base class")
    needs = read_attribute(method, "needs")
    if not isinstance(needs, tuple | list) or not all(isinstance(need, str) for need in needs):
        refuse(method, "needs", needs, "a tuple of names, such as ('features',)")
    _one_of(method, "reads_question", (True, False))
    _one_of(method, "merges", (True, False))
    if kind is not None:
        for need in needs:
            if need not in kind.needs:
                hint = nearest(need, kind.needs)
                refuse(method, "needs", need, f"{', '.join(sorted(kind.needs))}{hint}", f"stage {stage}")
        for name, allowed in (POSITIONS | kind.declared).items():
            _one_of(method, name, allowed)


def check_counts(method: Method, tower: Tower, depth: int) -> None:
    """Raise BrokenContract if a user's class returns impossible counts for this vision encoder and decoder depth."""
    if not is_own(type(method)):
        return
    n = tower.grid[0] * tower.grid[1]
    count = check_count(method, "count", call_method(method, "count", n), n, f"{n} tokens")
    checked_shares(method, [n])
    parts = call_method(method, "parts", n)
    if not isinstance(parts, tuple | list) or not parts or not all(isinstance(part, Method) for part in parts):
        refuse(method, "parts", parts, "a tuple of methods, at least one")
    _truth(method, "keeps_all", call_method(method, "keeps_all", n))
    if method.stage in KINDS:
        KINDS[method.stage].check(method, tower, depth, n)
    _work(method, "selection_macs", n, count, TYPICAL)
    if (said := call_method(method, "check", tower, depth)) is not None:
        refuse(method, "check", said, "None, or a ValueError raised where the settings do not fit")
    for part in parts:
        if part is not method and method.stage == "composed":
            check_class(part)


def _one_of(method: Method, name: str, allowed: tuple[Any, ...]) -> None:
    value = read_attribute(method, name)
    if not any(value is option or (isinstance(value, str) and value == option) for option in allowed):
        refuse(method, name, value, " or ".join(map(str, allowed)))


def _truth(method: Method, name: str, value: Any) -> None:
    if not isinstance(value, bool):
        refuse(method, name, value, "True or False")


def _work(method: Method, name: str, *args: Any) -> None:
    macs = call_method(method, name, *args)
    if isinstance(macs, bool) or not isinstance(macs, int | float) or not math.isfinite(macs) or macs < 0:
        refuse(method, name, macs, "a number of multiply-accumulates, finite and 0 or more")


def _check_layers(method: Any, tower: Tower, _depth: int, _n: int) -> None:
    layers = call_method(method, "layers", tower)
    expected = f"different ints from 0 to {tower.depth - 1}, at least one"
    if not isinstance(layers, tuple | list | range) or not len(layers) or len({*layers}) < len(layers):
        refuse(method, "layers", layers, expected)
    for layer in layers:
        if not hasattr(type(layer), "__index__") or not 0 <= layer < tower.depth:
            refuse(method, "layers", layers, expected)


def _check_merging(method: Any, tower: Tower, depth: int, n: int) -> None:
    _check_layers(method, tower, depth, n)
    counts, layers = call_method(method, "merge_counts", tower, n), method.layers(tower)
    if not isinstance(counts, tuple | list) or len(counts) != len(layers):
        refuse(method, "merge_counts", counts, f"{len(layers)} ints, one for each of layers()")
    for count in counts:
        n -= check_count(method, "merge_counts", count, n // 2, f"{n} tokens are left")


def _check_stages(method: Any, _tower: Tower, depth: int, n: int) -> None:
    stages = checked_stages(method, "schedule", depth, n)
    single = checked_stages(method, "schedule", depth, 1)
    if [stage.layer for stage in stages] != [stage.layer for stage in single]:
        layers = [[stage.layer for stage in each] for each in (stages, single)]
        refuse(method, "schedule", layers, f"the same layers for every number of visual tokens ({n} and 1)")


@dataclass(frozen=True)
class Kind:
    """Declarations of a kind of stage. needs: signals. declared: allowed values of attributes. check: of its counts."""

    base: type[Method]
    needs: set[str]
    declared: dict[str, tuple[Any, ...]]
    check: Callable[[Any, Tower, int, int], None]


POSITIONS = {"published_positions": get_args(Positions), "position_rule": get_args(Positions)}
SCOPES = {"published_scope": ("tile", "image"), "scope_rule": ("tile", "image")}
SIGNALS = {field.name for field in fields(Signals)} - {"grid", "images", "tokens", "largest_relevance"}
KINDS = {
    "sequence": Kind(SequenceMethod, SIGNALS, SCOPES, _check_layers),
    "vision": Kind(VisionMethod, {"encoder_layers"}, {}, _check_merging),
    "decoder": Kind(DecoderMethod, {"decoder_attention", "tiles"}, {"reads": ("previous", "own")}, _check_stages),
}
