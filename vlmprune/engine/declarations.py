"""Checks of the declarations and counts of a user's own method, before any weight loads."""

from __future__ import annotations

import math
from dataclasses import fields
from typing import Any, get_args

from vlmprune.engine.contract import call_method, check_count, checked_shares, checked_stages
from vlmprune.errors import nearest
from vlmprune.methods.base import Method, Positions, SequenceMethod, Signals, Tower, Widths
from vlmprune.methods.decoder_method import DecoderMethod
from vlmprune.methods.encoder_method import VisionMethod
from vlmprune.own_code import is_own, read_attribute, refuse

BASES = {"sequence": SequenceMethod, "vision": VisionMethod, "decoder": DecoderMethod}
READ = {
    "sequence": {field.name for field in fields(Signals)} - {"grid", "images", "tokens", "largest_relevance"},
    "vision": {"encoder_layers"},
    "decoder": {"decoder_attention", "tiles"},
}
TYPICAL = Widths(64, 1024, 1024, 4096)  # CLIP ViT-L and a 7B decoder


def check_class(method: Method) -> None:
    """Raise BrokenContract if a user's class declares something that the engine does not know."""
    if not is_own(type(method)):
        return
    stage = read_attribute(method, "stage")
    if stage not in ("none", "composed", *BASES):
        refuse(method, "stage", stage, f"{', '.join(BASES)}, composed or none")
    if stage in BASES and not isinstance(method, BASES[stage]):
        refuse(method, "stage", stage, f"a subclass of {BASES[stage].__name__}")
    if any(isinstance(method, base) for name, base in BASES.items() if name != stage):
        refuse(method, "stage", stage, "that of its base class")
    needs = read_attribute(method, "needs")
    if not isinstance(needs, tuple | list) or not all(isinstance(need, str) for need in needs):
        refuse(method, "needs", needs, "a tuple of names, such as ('features',)")
    _one_of(method, "reads_question", (True, False))
    _one_of(method, "merges", (True, False))
    if stage in BASES:
        for need in needs:
            if need not in READ[stage]:
                hint = nearest(need, READ[stage])
                refuse(method, "needs", need, f"{', '.join(sorted(READ[stage]))}{hint}", f"stage {stage}")
        _one_of(method, "published_positions", get_args(Positions))
        _one_of(method, "position_rule", get_args(Positions))
    if isinstance(method, SequenceMethod):
        _one_of(method, "published_scope", ("tile", "image"))
        _one_of(method, "scope_rule", ("tile", "image"))
    if isinstance(method, DecoderMethod):
        _one_of(method, "reads", ("previous", "own"))


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
    if isinstance(method, SequenceMethod | VisionMethod):
        _check_layers(method, tower)
    if isinstance(method, VisionMethod):
        _check_merging(method, tower, n)
    if isinstance(method, DecoderMethod):
        _check_stages(method, depth, n)
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


def _check_layers(method: SequenceMethod | VisionMethod, tower: Tower) -> None:
    layers = call_method(method, "layers", tower)
    expected = f"different ints from 0 to {tower.depth - 1}, at least one"
    if not isinstance(layers, tuple | list | range) or not len(layers) or len({*layers}) < len(layers):
        refuse(method, "layers", layers, expected)
    for layer in layers:
        if not hasattr(type(layer), "__index__") or not 0 <= layer < tower.depth:
            refuse(method, "layers", layers, expected)


def _check_merging(method: VisionMethod, tower: Tower, n: int) -> None:
    counts, layers = call_method(method, "merge_counts", tower, n), method.layers(tower)
    if not isinstance(counts, tuple | list) or len(counts) != len(layers):
        refuse(method, "merge_counts", counts, f"{len(layers)} ints, one for each of layers()")
    for count in counts:
        n -= check_count(method, "merge_counts", count, n // 2, f"{n} tokens are left")


def _check_stages(method: DecoderMethod, depth: int, n: int) -> None:
    stages = checked_stages(method, "schedule", depth, n)
    single = checked_stages(method, "schedule", depth, 1)
    if [stage.layer for stage in stages] != [stage.layer for stage in single]:
        layers = [[stage.layer for stage in each] for each in (stages, single)]
        refuse(method, "schedule", layers, f"the same layers for every number of visual tokens ({n} and 1)")
