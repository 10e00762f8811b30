"""Detection of non-finite signals, from which any selection is arbitrary: on the device, with one host sync at most."""

from __future__ import annotations

from dataclasses import fields

import torch
from torch import Tensor

from vlmprune.errors import NotFinite
from vlmprune.methods.base import LAYERED, Method, Signals
from vlmprune.methods.decoder_base import DecoderSelection, DecoderSignals


def non_finite(x: Tensor, dims: int = 1) -> Tensor:
    """Return bool, of the shape of the first `dims` dimensions, True at parts of `x` that hold a nan or an infinity."""
    # x * 0 is 0 for finite numbers and nan for all others; on a CPU twenty times as fast as isfinite().
    return (x * 0).flatten(dims).sum(dim=dims) != 0


def unsound_images(signals: Signals) -> Tensor | None:
    """Return bool [B], True for images with a signal that is not finite; None if no signal is of a float type."""
    unsound: Tensor | None = None
    for field in fields(signals):
        value = getattr(signals, field.name)
        if isinstance(value, Tensor) and value.is_floating_point():
            found = non_finite(value.transpose(0, 1) if field.name in LAYERED else value)
            unsound = found if unsound is None else unsound | found
    return unsound


def unsound_samples(signals: DecoderSignals, selection: DecoderSelection) -> Tensor:
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


class Soundness:
    """Non-finite selections of the stages of one prefill, on the device until `check`."""

    def __init__(self) -> None:
        self._found: dict[int, Tensor] = {}  # by decoder layer, bool []

    def clear(self) -> None:
        """Clear the findings at the start of a prefill."""
        self._found.clear()

    def note(self, layer: int, unsound: Tensor) -> None:
        """Add the selection before decoder layer `layer`. unsound: bool [B], from `unsound_samples`."""
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
