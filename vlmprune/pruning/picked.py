"""What a selection before the language model leaves: tokens, and the rows of the full sequence that they take."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from vlmprune.pruning.soundness import non_finite


@dataclass
class Picked:
    """K tokens that go on. rows: int64 [K], the rows that they take. tokens: [K, C]. valid: bool [K] or None."""

    rows: Tensor
    tokens: Tensor
    valid: Tensor | None

    @property
    def count(self) -> int:
        """Tokens that really go on. A host sync where an adaptive method decided."""
        return len(self.rows) if self.valid is None else int(self.valid.sum())

    def scattered(self, rows: int) -> Tensor:
        """[rows, C] with the tokens at their rows and NaN everywhere else, and where a token is not finite."""
        gone = non_finite(self.tokens)  # with an infinity in it is marked too, so that it is refused and not read
        if self.valid is not None:
            gone = gone | ~self.valid
        tokens = self.tokens.masked_fill(gone.unsqueeze(1), torch.nan)
        return tokens.new_full((rows, tokens.shape[1]), torch.nan).index_copy(0, self.rows, tokens)


def in_raster_order(rows: Tensor, valid: Tensor | None) -> Tensor:
    """Rows [G, k] sorted within each unit, those that are not valid behind all others."""
    if valid is None:
        return rows.sort(dim=1).values
    last = torch.iinfo(rows.dtype).max
    return rows.gather(1, rows.masked_fill(~valid, last).argsort(dim=1, stable=True))


def joined(picked: list[Picked], like: Tensor) -> Picked:
    """All groups together; where one is ragged the others are full. like: [S, C], for the case that there is none."""
    if not picked:
        return Picked(torch.empty(0, dtype=torch.long, device=like.device), like[:0], None)
    valid = None
    if any(part.valid is not None for part in picked):
        valid = torch.cat(
            [torch.ones_like(part.rows, dtype=torch.bool) if part.valid is None else part.valid for part in picked]
        )
    return Picked(torch.cat([part.rows for part in picked]), torch.cat([part.tokens for part in picked]), valid)
