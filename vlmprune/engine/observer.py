"""Reports of a session's selections, for a picture of them."""

from __future__ import annotations

from typing import Protocol

from torch import Tensor


class SelectionObserver(Protocol):
    """Receiver of every selection of a session, given as `Session(observer=...)`; without one nothing is computed.

    A slot is the index of a visual token: before the language model among those of one encoding, inside it among those
    of one prompt. The two agree if the batch is a single prompt with media of one kind.
    """

    def observe_selection(self, layer: int, slots: Tensor, scores: Tensor | None, changed: Tensor) -> None:
        """Receive one selection among the n tokens at `slots`, int64 [n]; an encoding may take several.

        layer: the decoder layer before which it is made, 0 for any before the language model. scores: [n], by which the
        tokens are ranked; None if the method gives none. changed: bool [n], True for tokens that were merged or are
        new, whether they stay or not.
        """
