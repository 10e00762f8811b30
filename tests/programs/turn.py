"""An answer, and what can be seen of it from outside the engine."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from vlmprune.engine.session import Session
from vlmprune.models.base import Adapter


@dataclass
class Turn:
    """An answer. said: int64 [B', T], ids between the prompt and the answer, of earlier turns. new: int64 [B', N].

    owners: the prompt of each answer. kept: per decoder layer, the slots that it saw of the prompts, bool [B'', V],
    None for all; B'' is a multiple of the number of prompts. entered: per decoder layer, its input at the prefill,
    [B'', n, D]. counts, lengths: of the record. logits: [B', N, V] where the program asked for them. whole: the inputs
    of each answer's conversation up to there, where this turn shows something.
    """

    said: Tensor
    new: Tensor
    owners: list[int]
    kept: list[Tensor | None]
    entered: list[Tensor]
    counts: list[list[int]]
    lengths: list[int]
    logits: Tensor | None = None
    cache: Any = field(default=None, repr=False)
    whole: list[dict[str, Tensor]] | None = None

    @classmethod
    def of(cls, said: Tensor, new: Tensor, owners: list[int], watch: Watch, logits: Tensor | None, cache: Any) -> Turn:
        """An answer that has just been given."""
        record = watch.session.record
        assert record is not None
        kept, entered = [*watch.kept], [*watch.entered]
        return cls(said, new, owners, kept, entered, record.visual_counts, record.prompt_lengths, logits, cache)


class Watch:
    """Notes, before each decoder layer of a prefill, its input and the kept slots that the record then names."""

    def __init__(self, adapter: Adapter, session: Session) -> None:
        self.session = session
        self.kept: list[Tensor | None] = [None] * adapter.decoder_depth
        self.entered: list[Tensor] = [torch.empty(0)] * adapter.decoder_depth
        self.handles = [
            layer.register_forward_pre_hook(self._note(index), with_kwargs=True)
            for index, layer in enumerate(adapter.language_model.layers)
        ]

    def _note(self, index: int) -> Any:
        def note(_module: Any, args: tuple, kwargs: dict[str, Any]) -> None:
            assert self.session.record is not None
            cache = kwargs.get("past_key_values")
            if cache is not None and cache.get_seq_length(index):
                return  # a step after the prefill
            self.kept[index] = self.session.record.kept
            self.entered[index] = args[0] if args else kwargs["hidden_states"]

        return note

    def remove(self) -> None:
        for handle in self.handles:
            handle.remove()
