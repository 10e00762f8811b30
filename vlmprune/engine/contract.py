"""Calls of a method while a prompt runs, and the checks of its answers, counts and scores.

Types, shapes and formats are checked always. Reading values (indices, counts) is a host sync on a GPU: they are checked
on a CPU, and elsewhere in a session's first call; later faults are marked on the device, like scores that are nan, and
reported with these.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import fields, replace
from typing import Any

import torch
from torch import Tensor

from vlmprune.errors import NotFinite
from vlmprune.methods.base import LAYERED, Method, Selection, Signals, Tower
from vlmprune.methods.contract import (
    FLOAT,
    INTEGER,
    Mismatch,
    check_indices,
    check_matching,
    check_tensor,
    describe_value,
    index_faults,
)
from vlmprune.methods.decoder_method import DecoderSelection, DecoderSignals, DecoderStage
from vlmprune.methods.merging import Matching
from vlmprune.own_code import BrokenContract, call, is_own, refuse


@contextmanager
def contract_errors() -> Iterator[None]:
    """Turn a Mismatch that `methods` raises inside the block into BrokenContract, an error of one line for the user."""
    try:
        yield
    except Mismatch as error:
        raise BrokenContract(str(error)) from error


def call_method(method: Method, name: str, *args: Any) -> Any:
    """Call the method's function `name` and return its result. Raises BrokenContract for faults of a user's class."""
    if not is_own(type(method)):
        return getattr(method, name)(*args)
    with contract_errors():
        return call(method, name, *args)


def check_count(method: Method, name: str, value: Any, most: int | None = None, about: str = "") -> int:
    """Return `value`, an integer of any library, as an int. Raises BrokenContract if it is not from 0 to `most`."""
    fits = hasattr(type(value), "__index__") and not isinstance(value, bool) and value >= 0
    if not fits or (most is not None and value > most):
        refuse(method, name, value, f"an int, {'0 or more' if most is None else f'0 to {most}'}", about)
    return int(value)


def checked_shares(method: Method, units: Sequence[int]) -> list[int]:
    """Return `Method.shares`, checked: the tokens to keep of each unit."""
    shares = call_method(method, "shares", units)
    if not is_own(type(method)):
        return shares
    if not isinstance(shares, list | tuple) or len(shares) != len(units):
        refuse(method, "shares", shares, f"a list of {len(units)} ints, one for each of {list(units)}")
    return [check_count(method, "shares", k, n, f"{n} tokens") for k, n in zip(shares, units, strict=True)]


def checked_stages(method: Any, name: str, depth: int, n: int) -> list[DecoderStage]:
    """Return `DecoderMethod.stages` or `schedule` (given as `name`), checked."""
    stages = call_method(method, name, depth, n)
    if not is_own(type(method)):
        return stages
    about = f"depth {depth}, {n} visual tokens"
    if not isinstance(stages, list | tuple) or not stages or not all(isinstance(each, DecoderStage) for each in stages):
        refuse(method, name, stages, "a list of DecoderStage, at least one", about)
    layer, left = 0, math.inf  # a fixed schedule may ask for more than a short prompt has, which keeps all
    for stage in stages:
        if not all(hasattr(type(value), "__index__") for value in (stage.layer, stage.kept, stage.merged)):
            refuse(method, name, stage, "ints", about)
        if not layer < stage.layer < depth:
            refuse(method, name, stage, f"layers that rise, from {layer + 1} to {depth - 1} here", about)
        if stage.kept < 0 or stage.merged < 0 or stage.left > left:
            refuse(method, name, stage, f"0 or more, and never more than before ({left} here)", about)
        layer, left = stage.layer, stage.left
    return [DecoderStage(int(each.layer), int(each.kept), int(each.merged)) for each in stages]


def non_finite(x: Tensor, dims: int = 1) -> Tensor:
    """Return bool, of the shape of the first `dims` dimensions, True at parts of `x` that hold a nan or an infinity."""
    # x * 0 is 0 for finite numbers and nan for all others; on a CPU twenty times as fast as isfinite().
    return (x * 0).flatten(dims).sum(dim=dims) != 0


def non_finite_images(signals: Signals) -> Tensor | None:
    """Return bool [B], True for images with a signal that is not finite; None if no signal is of a float type."""
    unsound: Tensor | None = None
    for field in fields(signals):
        value = getattr(signals, field.name)
        if isinstance(value, Tensor) and value.is_floating_point():
            found = non_finite(value.transpose(0, 1) if field.name in LAYERED else value)
            unsound = found if unsound is None else unsound | found
    return unsound


def non_finite_samples(signals: DecoderSignals, selection: DecoderSelection) -> Tensor:
    """Return bool [B], True if a rating row, a real token's embedding, a score or a merged token is not finite.

    Padding may hold anything, and a masked position is an attention of 0.
    """
    rates = signals.raters.clone()
    rates[:, -1] = True
    # One nan among a softmax's logits makes the whole row nan, so that its last entry, a real token's, is enough.
    rows = (~signals.attention[..., -1].isfinite() & rates.unsqueeze(1)).flatten(1).any(dim=1)
    unsound = rows | (non_finite(signals.hidden, 2) & signals.valid).any(dim=1)
    if selection.hidden is not None:
        unsound = unsound | (non_finite(selection.hidden, 2) & selection.keep).any(dim=1)
    return unsound if selection.unsound is None else unsound | selection.unsound


class NonFiniteChecks:
    """Non-finite selections of the stages of one prefill, on the device until `check`."""

    def __init__(self) -> None:
        self._found: dict[int, Tensor] = {}  # by decoder layer, bool []

    def clear(self) -> None:
        """Clear the findings at the start of a prefill."""
        self._found.clear()

    def note(self, layer: int, unsound: Tensor) -> None:
        """Add the selection before decoder layer `layer`. unsound: bool [B], from `non_finite_samples`."""
        self._found[layer] = unsound.any()

    def check(self, method: Method) -> None:
        """Raise NotFinite if any selection was unsound. One host sync."""
        if not self._found:
            return
        layers, found = list(self._found), torch.stack(list(self._found.values())).tolist()
        self.clear()
        if any(found):
            first = layers[found.index(True)]
            raise NotFinite(
                f"{type(method).__name__}: scores are nan before decoder layer {first}, so that its choice means "
                "nothing: the decoder overflowed (try dtype=bfloat16 or float32), or the method's own score did"
            )


BOOL = (torch.bool,)


class CheckedMethod:
    """Caller of one method of a session; the results of a user's own class are checked."""

    def __init__(self, method: Method) -> None:
        self.method, self.own, self._looked = method, is_own(type(method)), False

    def select(self, signals: Signals, k: int, rows: Tensor) -> Selection:
        """Return `SequenceMethod.select`, checked. rows: [S, C], the embeddings of all tokens."""
        selection = call_method(self.method, "select", signals, k)
        if not self.own:
            return selection
        with contract_errors():
            return self._selection(selection, signals, k, rows)

    def select_in_decoder(
        self, signals: DecoderSignals, stages: Sequence[DecoderStage], counts: list[int]
    ) -> DecoderSelection:
        """Return `DecoderMethod.select`, checked. counts: visual tokens of each sample before this selection."""
        chosen = call_method(self.method, "select", signals, stages)
        if not self.own:
            return chosen
        with contract_errors():
            return self._choice(chosen, signals, stages, counts)

    def raters(self, embeds: Tensor, visual: Tensor, valid: Tensor) -> Tensor | None:
        """Return `DecoderMethod.raters`, checked: bool [B, L], or None for the last position alone."""
        raters = call_method(self.method, "raters", embeds, visual, valid)
        if not self.own or raters is None:
            return raters
        where = self._where("raters")
        with contract_errors():
            check_tensor(where, raters, "[B, L]", visual.shape, BOOL)
        raters = raters.to(visual.device)
        if self._may_read_values(visual) and bool((raters & visual).any()):
            raise BrokenContract(f"{where}: a visual token among those that rate, expected text tokens alone")
        return raters

    def match(self, hidden: Tensor, r: int, layer: int, tower: Tower) -> Matching:
        """Return `VisionMethod.match` of hidden states [B, T, C], checked."""
        matching = call_method(self.method, "match", hidden, r, layer, tower)
        if self.own and self._may_read_values(hidden):
            with contract_errors():
                check_matching(self._where("match"), matching, len(hidden), hidden.shape[1], r)
        return matching

    def _where(self, name: str) -> str:
        return f"{type(self.method).__name__}.{name}"

    def _may_read_values(self, like: Tensor) -> bool:
        """Return True if values may be read: on a CPU, and on any other device in the first call."""
        first, self._looked = not self._looked, True
        return first or like.device.type == "cpu"

    def _selection(self, found: Any, signals: Signals, k: int, rows: Tensor) -> Selection:
        where, images, n = self._where("select"), signals.images, signals.tokens
        assert n is not None
        if not isinstance(found, Selection):
            raise Mismatch(where, describe_value(found), "a Selection")
        width = k
        if found.valid is not None and isinstance(found.indices, Tensor) and found.indices.dim() == 2:
            width = min(max(1, found.indices.shape[1]), n)  # an adaptive method chooses its width
        check_tensor(f"{where}, indices", found.indices, "[B, k]", (images, width), INTEGER, "int64")
        if found.features is not None:
            shape = images, width, rows.shape[1]
            check_tensor(f"{where}, features", found.features, "[B, k, C]", shape, FLOAT)
        if found.valid is not None:
            check_tensor(f"{where}, valid", found.valid, "[B, k]", (images, width), BOOL)
        if found.unsound is not None:
            check_tensor(f"{where}, unsound", found.unsound, "[B]", (images,), BOOL)
        if found.scores is not None:
            check_tensor(f"{where}, scores", found.scores, "[B, N]", (images, n), FLOAT)
        if found.blocks is not None and not (
            isinstance(found.blocks, tuple | list)
            and len(found.blocks) == width
            and all(type(block) is int for block in found.blocks)
        ):
            raise Mismatch(
                f"{where}, blocks", describe_value(found.blocks), f"None or {width} ints, one for each token"
            )
        indices = found.indices.to(rows.device, torch.int64)
        unsound = None if found.unsound is None else found.unsound.to(rows.device)
        if self._may_read_values(rows):
            check_indices(f"{where}, indices", indices, n)
            self._refuse_nan(found, signals)
            return replace(found, indices=indices, unsound=unsound)
        outside, twice = index_faults(indices, n)
        wrong = outside | twice if unsound is None else outside | twice | unsound
        return replace(found, indices=indices.clamp(0, n - 1), unsound=wrong)

    def _refuse_nan(self, found: Selection, signals: Signals) -> None:
        """Raise NotFinite if the method returned values that are not finite from finite signals."""
        given = non_finite_images(signals)
        clean = True if given is None else ~given
        if found.unsound is not None and bool((found.unsound & clean).any()):
            name = self._where("score") if hasattr(self.method, "score") else self._where("select")
            raise NotFinite(f"{name}: scores are nan, expected numbers (-inf for a token that is the last to stay)")
        if found.features is not None:
            gone = non_finite(found.features, 2)
            gone = gone if found.valid is None else gone & found.valid.to(gone.device)
            if bool((gone.any(dim=1) & clean).any()):
                raise NotFinite(f"{self._where('select')}, features: nan or infinite, expected finite numbers")

    def _choice(
        self, found: Any, signals: DecoderSignals, stages: Sequence[DecoderStage], counts: list[int]
    ) -> DecoderSelection:
        where, shape, device = self._where("select"), signals.visual.shape, signals.visual.device
        if not isinstance(found, DecoderSelection):
            raise Mismatch(where, describe_value(found), "a DecoderSelection")
        check_tensor(f"{where}, keep", found.keep, "[B, L]", shape, BOOL)
        if found.hidden is not None:
            check_tensor(f"{where}, hidden", found.hidden, "[B, L, D]", signals.hidden.shape, FLOAT)
        if found.order is not None:
            check_tensor(f"{where}, order", found.order, "[B, L]", shape, INTEGER, "int64")
        if found.unsound is not None:
            check_tensor(f"{where}, unsound", found.unsound, "[B]", shape[:1], BOOL)
        if found.scores is not None:
            check_tensor(f"{where}, scores", found.scores, "[B, L]", shape, FLOAT)
        left = found.left
        if left is None:
            left = [min(stage.left, n) for stage, n in zip(stages, counts, strict=True)]
        elif not (isinstance(left, list) and len(left) == len(stages) and all(type(count) is int for count in left)):
            raise Mismatch(f"{where}, left", describe_value(left), f"None or a list of {len(stages)} ints")
        found = replace(
            found,
            keep=found.keep.to(device),
            hidden=None if found.hidden is None else found.hidden.to(signals.hidden),
            order=None if found.order is None else found.order.to(device, torch.int64),
            unsound=None if found.unsound is None else found.unsound.to(device),
        )
        kept = (found.keep & signals.visual).sum(dim=1)
        wrong = kept != torch.tensor(left).to(device, non_blocking=True)
        padded = (found.keep & ~signals.valid).any(dim=1)
        below = torch.zeros_like(padded) if found.order is None else ((found.order < 0) & found.keep).any(dim=1)
        if self._may_read_values(signals.visual):
            if bool(wrong.any()):
                raise Mismatch(
                    f"{where}, keep", f"True at {kept.tolist()} visual tokens", f"{left}, the number requested"
                )
            if bool(padded.any()):
                raise Mismatch(f"{where}, keep", "True on padding", "True at visual tokens alone")
            if bool(below.any()):
                raise Mismatch(f"{where}, order", "a negative sort key", "keys of 0 or more")
            return found
        faults = wrong | padded | below
        return replace(found, unsound=faults if found.unsound is None else faults | found.unsound)
