"""Result of a selection before the language model: kept tokens, and the rows of the full sequence that they take."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from vlmprune.pruning.soundness import non_finite


@dataclass
class Picked:
    """K kept tokens. rows: int64 [K], the rows that they take. tokens: [K, C]. valid: bool [K]; None if all are."""

    rows: Tensor
    tokens: Tensor
    valid: Tensor | None

    @property
    def count(self) -> int:
        """Number of valid tokens. A host sync if the method is adaptive."""
        return len(self.rows) if self.valid is None else int(self.valid.sum())

    def scattered(self, rows: int) -> Tensor:
        """Return [rows, C] with the tokens at their rows; NaN in all other rows, and for tokens that are not finite."""
        gone = non_finite(self.tokens)  # a token with an infinity is marked NaN too, so that it is refused
        if self.valid is not None:
            gone = gone | ~self.valid
        tokens = self.tokens.masked_fill(gone.unsqueeze(1), torch.nan)
        return tokens.new_full((rows, tokens.shape[1]), torch.nan).index_copy(0, self.rows, tokens)


def in_raster_order(rows: Tensor, valid: Tensor | None) -> Tensor:
    """Sort rows [G, k] within each unit, those that are not valid last."""
    if valid is None:
        return rows.sort(dim=1).values
    last = torch.iinfo(rows.dtype).max
    return rows.gather(1, rows.masked_fill(~valid, last).argsort(dim=1, stable=True))


def joined(picked: list[Picked], like: Tensor) -> Picked:
    """Concatenate the results of all groups; `valid` is None if no group has one. like: [S, C], for no groups."""
    if not picked:
        return Picked(torch.empty(0, dtype=torch.long, device=like.device), like[:0], None)
    valid = None
    if any(part.valid is not None for part in picked):
        valid = torch.cat(
            [torch.ones_like(part.rows, dtype=torch.bool) if part.valid is None else part.valid for part in picked]
        )
    return Picked(torch.cat([part.rows for part in picked]), torch.cat([part.tokens for part in picked]), valid)
