"""The engine's calls of a method while a prompt runs, with a check of the results of a user's own class.

Types, shapes and formats are checked always. Reading values (indices, counts) is a host sync on a GPU: they are checked
on a CPU, and elsewhere in a session's first call; later faults are marked on the device, like scores that are nan, and
reported with these.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from vlmprune.errors import NotFinite
from vlmprune.methods.base import Method, Signals, Tower
from vlmprune.methods.contract import (
    FLOAT,
    INTEGER,
    Mismatch,
    check_indices,
    check_matching,
    check_tensor,
    described,
    index_faults,
)
from vlmprune.methods.decoder_base import DecoderSelection, DecoderSignals, DecoderStage
from vlmprune.methods.merging import Matching
from vlmprune.methods.selection import Selection
from vlmprune.own_code import BrokenContract, is_own
from vlmprune.pruning.counts import ask, broken
from vlmprune.pruning.soundness import non_finite, unsound_images

BOOL = (torch.bool,)


class Contract:
    """Caller of one method of a session; the results of a user's own class are checked."""

    def __init__(self, method: Method) -> None:
        self.method, self.own, self._looked = method, is_own(type(method)), False

    def select(self, signals: Signals, k: int, rows: Tensor) -> Selection:
        """Return `SequenceMethod.select`, checked. rows: [S, C], the embeddings of all tokens."""
        selection = ask(self.method, "select", signals, k)
        if not self.own:
            return selection
        with broken():
            return self._selection(selection, signals, k, rows)

    def choose(self, signals: DecoderSignals, stages: Sequence[DecoderStage], counts: list[int]) -> DecoderSelection:
        """Return `DecoderMethod.select`, checked. counts: visual tokens of each sample before this selection."""
        chosen = ask(self.method, "select", signals, stages)
        if not self.own:
            return chosen
        with broken():
            return self._choice(chosen, signals, stages, counts)

    def raters(self, embeds: Tensor, visual: Tensor, valid: Tensor) -> Tensor | None:
        """Return `DecoderMethod.raters`, checked: bool [B, L], or None for the last position alone."""
        raters = ask(self.method, "raters", embeds, visual, valid)
        if not self.own or raters is None:
            return raters
        where = self._where("raters")
        with broken():
            check_tensor(where, raters, "[B, L]", visual.shape, BOOL)
        raters = raters.to(visual.device)
        if self._looks(visual) and bool((raters & visual).any()):
            raise BrokenContract(f"{where}: a visual token rates, expected text alone")
        return raters

    def match(self, hidden: Tensor, r: int, layer: int, tower: Tower) -> Matching:
        """Return `VisionMethod.match` of hidden states [B, T, C], checked."""
        matching = ask(self.method, "match", hidden, r, layer, tower)
        if self.own and self._looks(hidden):
            with broken():
                check_matching(self._where("match"), matching, len(hidden), hidden.shape[1], r)
        return matching

    def _where(self, name: str) -> str:
        return f"{type(self.method).__name__}.{name}"

    def _looks(self, like: Tensor) -> bool:
        """Return True if values may be read: on a CPU, and on any other device in the first call."""
        first, self._looked = not self._looked, True
        return first or like.device.type == "cpu"

    def _selection(self, found: Any, signals: Signals, k: int, rows: Tensor) -> Selection:
        where, images, n = self._where("select"), signals.images, signals.tokens
        assert n is not None
        if not isinstance(found, Selection):
            raise Mismatch(where, described(found), "a Selection")
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
        if found.blocks is not None and not (
            isinstance(found.blocks, tuple | list)
            and len(found.blocks) == width
            and all(type(block) is int for block in found.blocks)
        ):
            raise Mismatch(f"{where}, blocks", described(found.blocks), f"None or {width} ints, one for each token")
        indices = found.indices.to(rows.device, torch.int64)
        unsound = None if found.unsound is None else found.unsound.to(rows.device)
        if self._looks(rows):
            check_indices(f"{where}, indices", indices, n)
            self._refuse_nan(found, signals)
            return replace(found, indices=indices, unsound=unsound)
        outside, twice = index_faults(indices, n)
        wrong = outside | twice if unsound is None else outside | twice | unsound
        return replace(found, indices=indices.clamp(0, n - 1), unsound=wrong)

    def _refuse_nan(self, found: Selection, signals: Signals) -> None:
        """Raise NotFinite if the method returned values that are not finite from finite signals."""
        given = unsound_images(signals)
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
            raise Mismatch(where, described(found), "a DecoderSelection")
        check_tensor(f"{where}, keep", found.keep, "[B, L]", shape, BOOL)
        if found.hidden is not None:
            check_tensor(f"{where}, hidden", found.hidden, "[B, L, D]", signals.hidden.shape, FLOAT)
        if found.order is not None:
            check_tensor(f"{where}, order", found.order, "[B, L]", shape, INTEGER, "int64")
        if found.unsound is not None:
            check_tensor(f"{where}, unsound", found.unsound, "[B]", shape[:1], BOOL)
        left = found.left
        if left is None:
            left = [min(stage.left, n) for stage, n in zip(stages, counts, strict=True)]
        elif not (isinstance(left, list) and len(left) == len(stages) and all(type(count) is int for count in left)):
            raise Mismatch(f"{where}, left", described(left), f"None or a list of {len(stages)} ints")
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
        if self._looks(signals.visual):
            if bool(wrong.any()):
                raise Mismatch(f"{where}, keep", f"True at {kept.tolist()} visual tokens", f"{left}, as was asked for")
            if bool(padded.any()):
                raise Mismatch(f"{where}, keep", "True on padding", "True at visual tokens alone")
            if bool(below.any()):
                raise Mismatch(f"{where}, order", "a negative sort key", "keys of 0 or more")
            return found
        faults = wrong | padded | below
        return replace(found, unsound=faults if found.unsound is None else faults | found.unsound)
