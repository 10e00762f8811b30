"""Reports of a session's selections, for a picture of them."""

from __future__ import annotations

from typing import Protocol

from torch import Tensor


class SelectionObserver(Protocol):
    """Receiver of every selection of a session, given as `Session(observer=...)`; without one nothing is computed.

    Slots count the visual tokens of an encoding before the language model, and those of each prompt inside it, which is
    the same for one prompt, alone in its batch, with media of one kind.
    """

    def observe_selection(self, layer: int, slots: Tensor, scores: Tensor | None, changed: Tensor) -> None:
        """Receive one selection among the n tokens at `slots`, int64 [n]; an encoding may take several.

        layer: the decoder layer before which it is made, 0 for any before the language model. scores: [n], by which the
        tokens are ranked; None if the method gives none. changed: bool [n], True for tokens that were merged or are
        new, whether they stay or not.
        """
