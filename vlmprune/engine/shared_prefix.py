"""Shared prefixes: the decoder's state after an image, computed once for all questions about it.

A method before the language model that does not read the question keeps the same tokens for every question, and a
causal decoder computes the same keys and values for all tokens before the question. So each prefix runs through a
session once, and every question continues from a copy of its cache with plain generate() on the bare model: mask and
positions are given explicitly, so that no hook is needed.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor
from transformers import DynamicCache

from vlmprune.engine.prompt_state import Record
from vlmprune.engine.session import Session


def prefix_length(visual: Tensor) -> int:
    """Return the length of a prompt's shared prefix, from `visual`, bool [L]; 0 for a prompt without visual tokens.

    It includes one text token after the last visual one: with mrope, only a text token gives the next position.
    """
    last = visual.nonzero()
    return int(last.max()) + 2 if len(last) else 0


@dataclass(frozen=True)
class Prefixes:
    """P prefixes of prompts, left-padded to n tokens.

    layers: keys and values [P, H, n, d] of each decoder layer. valid: bool [P, n], False on padding. next_position:
    int64 [..., P, 1], of the first token of a question. text_ids: ids of each prefix's text tokens. record: the
    session's record of the prefill.
    """

    layers: list[tuple[Tensor, Tensor]]
    valid: Tensor
    next_position: Tensor
    text_ids: list[list[int]]
    record: Record

    @classmethod
    def compute(
        cls,
        session: Session,
        inputs: dict[str, Tensor],
        text_ids: list[list[int]],
        generate: Callable[..., Any] | None = None,
    ) -> Prefixes:
        """Prefill P prefixes, each cut to `prefix_length` tokens; inputs: those of the model, left-padded.

        The session must be open, and its method must act before the decoder and not read the question. generate: the
        model's, greedy, for one token; None for plain generate().
        """
        cache: Any = DynamicCache()
        with torch.inference_mode():  # generate() prepares the positions; the one token that it adds is not used
            if generate is None:
                generate = partial(session.adapter.model.generate, max_new_tokens=1, do_sample=False)
            generate(**inputs, past_key_values=cache)
        segment, record = session.segment, session.record
        assert segment is not None and record is not None
        layers = [(layer.keys, layer.values) for layer in cache.layers]
        valid = segment.valid
        if valid is None:
            valid = torch.ones(len(text_ids), segment.length, dtype=torch.bool, device=layers[0][0].device)
        return cls(layers, valid, segment.next_position, text_ids, record)

    def fill(self, cache: Any, rows: Tensor) -> Any:
        """Put the prefixes `rows`, int64 [B], into an empty cache of transformers, and return it."""
        for index, (keys, values) in enumerate(self.layers):
            cache.update(keys[rows], values[rows], index)
        return cache

    def answer(
        self,
        generate: Callable[..., Tensor],
        rows: list[int],
        questions: list[list[int]],
        new_cache: Callable[[int, int], Any] = lambda _rows, _tokens: DynamicCache(),
        multiple: int = 1,
    ) -> Tensor:
        """Continue the prefixes `rows` with the token ids of B questions, and return the new ids [B, T].

        generate: the bare model's, outside every session. new_cache: (B, most tokens of a prompt) -> an empty cache.
        multiple: questions are padded to a multiple of it.
        """
        device, n = self.valid.device, self.valid.shape[1]
        longest = -(-max(map(len, questions)) // multiple) * multiple
        # The prefix is in the cache: its ids are only read by logits processors such as the repetition penalty. So
        # padding repeats a token of the prompt, which adds no other id, and comes first: processors may leave out as
        # many ids as the mask has leading zeros.
        prefix_ids = [[self.text_ids[row][0]] * (n - len(self.text_ids[row])) + self.text_ids[row] for row in rows]
        question_ids = [[ids[0]] * (longest - len(ids)) + ids for ids in questions]
        ids = torch.tensor(
            [before + after for before, after in zip(prefix_ids, question_ids, strict=True)], device=device
        )
        lengths = torch.tensor([len(each) for each in questions], device=device).unsqueeze(1)
        column = torch.arange(longest, device=device)
        chosen = torch.tensor(rows, device=device)
        mask = torch.cat([self.valid[chosen], column >= longest - lengths], dim=1)
        first = self.next_position[..., chosen, :]
        positions = first + (column - (longest - lengths)).clamp(min=0)
        before = torch.zeros(*positions.shape[:-1], n, dtype=positions.dtype, device=device)
        output = generate(
            input_ids=ids,
            attention_mask=mask.long(),
            position_ids=torch.cat([before, positions], dim=-1),
            past_key_values=self.fill(new_cache(len(rows), n + longest), chosen),
        )
        return output[:, ids.shape[1] :]
