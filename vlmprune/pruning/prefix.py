"""What prompts about one image have in common, computed once: the decoder's state after the last visual token.

A method before the language model that does not read the question keeps the same tokens whatever is asked, and a causal
decoder computes the same keys and values for all that stands before the question. So the prompts' common beginnings
run through a session once each, and every question goes on from a copy, with plain generate() on the bare model:
mask and positions are given explicitly, and no hook is needed any more.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor
from transformers import DynamicCache

from vlmprune.pruning.prompt import Record
from vlmprune.pruning.session import Session


def beginning(visual: Tensor) -> int:
    """Tokens of a prompt, of which `visual`, bool [L], are visual, that other questions share; 0 where there are none.

    One word stands after the last visual token, because with mrope only a word's position tells the next one's.
    """
    last = visual.nonzero()
    return int(last.max()) + 2 if len(last) else 0


@dataclass(frozen=True)
class Prefixes:
    """P beginnings of prompts, left-padded to n tokens, in every decoder layer.

    layers: keys and values [P, H, n, d] of each. valid: bool [P, n], False on padding. next_position: int64
    [..., P, 1], of the first token of a question. words: the ids of each beginning's text. record: what the session
    did.
    """

    layers: list[tuple[Tensor, Tensor]]
    valid: Tensor
    next_position: Tensor
    words: list[list[int]]
    record: Record

    @classmethod
    def compute(
        cls,
        session: Session,
        inputs: dict[str, Tensor],
        words: list[list[int]],
        generate: Callable[..., Any] | None = None,
    ) -> Prefixes:
        """Run P beginnings, each cut by `beginning`; inputs as of the model, left-padded.

        The session must be open, and its method act before the decoder and not read the question. generate: of the
        model, greedy, for one token; None for its own generate().
        """
        cache: Any = DynamicCache()
        with torch.inference_mode():  # generate() prepares positions as for any prompt; its one new token is not used
            if generate is None:
                generate = partial(session.adapter.model.generate, max_new_tokens=1, do_sample=False)
            generate(**inputs, past_key_values=cache)
        segment, record = session.segment, session.record
        assert segment is not None and record is not None
        layers = [(layer.keys, layer.values) for layer in cache.layers]
        valid = segment.valid
        if valid is None:
            valid = torch.ones(len(words), segment.length, dtype=torch.bool, device=layers[0][0].device)
        return cls(layers, valid, segment.next_position, words, record)

    def fill(self, cache: Any, rows: Tensor) -> Any:
        """Put the beginnings `rows`, int64 [B], into an empty cache of transformers, and return it."""
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
        """Go on from the beginnings `rows` with the token ids of B questions; returns the new ids [B, T].

        generate: of the bare model, outside every session. new_cache: an empty one for B prompts of at most so many
        tokens. multiple: of which the number of tokens of the longest question, filled up, is one.
        """
        device, n = self.valid.device, self.valid.shape[1]
        longest = -(-max(map(len, questions)) // multiple) * multiple
        # What stands before a question has been computed: its ids only tell generate() which words were said, for
        # processors such as the repetition penalty. What fills up is a word of the prompt, so that it says nothing
        # else, and stands first: processors may leave out as many ids as the mask begins with zeros.
        said = [[self.words[row][0]] * (n - len(self.words[row])) + self.words[row] for row in rows]
        asked = [[ids[0]] * (longest - len(ids)) + ids for ids in questions]
        ids = torch.tensor([before + after for before, after in zip(said, asked, strict=True)], device=device)
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
