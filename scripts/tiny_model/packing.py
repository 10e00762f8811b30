"""Several questions behind one image: a block mask keeps them apart, and each sees positions as at inference."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from transformers import PreTrainedTokenizerFast

from scripts.tiny_model.scenes import GRID
from scripts.tiny_model.text import BEFORE_IMAGE, SPECIAL, after_image

IGNORED = -100
HIDDEN = -1e4  # finite, so that bfloat16 softmax stays clean
VISUAL_TOKENS = GRID * GRID


@dataclass(frozen=True)
class Pack:
    """A batch of scenes with L tokens each.

    ids, positions: int64 (B, L). labels: int64 (B, L), the next token where it is to be predicted, else -100.
    segment: int64 (B, L), -1 for the shared prefix, the segment's number behind it, -2 for padding.
    """

    ids: Tensor
    positions: Tensor
    labels: Tensor
    segment: Tensor


class Packer:
    """Turns (question, answer) pairs into packs; token lists are remembered since texts repeat."""

    def __init__(self, tokenizer: PreTrainedTokenizerFast) -> None:
        self.tokenizer = tokenizer
        self.pad, self.bos, self.eos, image = (tokenizer.convert_tokens_to_ids(v) for v in SPECIAL.values())
        self.prefix = [self.bos, *self._tokens(BEFORE_IMAGE), *[image] * VISUAL_TOKENS]
        self.image_start = len(self.prefix) - VISUAL_TOKENS
        self.known: dict[tuple[str, str], tuple[list[int], int]] = {}

    def _tokens(self, text: str) -> list[int]:
        return self.tokenizer(text, add_special_tokens=False).input_ids

    def segment(self, question: str, answer: str) -> tuple[list[int], int]:
        """Token numbers of a segment and how many of them are the prompt."""
        key = (question, answer)
        if key not in self.known:
            prompt = self._tokens(after_image(question))
            self.known[key] = ([*prompt, *self._tokens(" " + answer), self.eos], len(prompt))
        return self.known[key]

    def pack(self, scenes: list[list[tuple[str, str]]], squeeze: np.random.Generator | None = None) -> Pack:
        """One row per scene; every (question, answer) pair of a row becomes a segment.

        `squeeze` draws how far apart the visual tokens of each row stand, see `squeezed`.
        """
        rows = []
        for pairs in scenes:
            ids, labels = list(self.prefix), [IGNORED] * len(self.prefix)
            positions, segment = list(range(len(self.prefix))), [-1] * len(self.prefix)
            if squeeze is not None:
                positions[self.image_start :] = [self.image_start + step for step in squeezed(squeeze)]
            for number, (question, answer) in enumerate(pairs):
                tokens, prompt = self.segment(question, answer)
                ids += tokens
                labels += [IGNORED] * (prompt - 1) + tokens[prompt:] + [IGNORED]
                begin = positions[len(self.prefix) - 1] + 1
                positions += range(begin, begin + len(tokens))
                segment += [number] * len(tokens)
            rows.append((ids, positions, labels, segment))
        fills = (self.pad, 0, IGNORED, -2)
        length = max(len(ids) for ids, *_ in rows)
        columns = [
            torch.tensor([row[i] + [fill] * (length - len(row[i])) for row in rows]) for i, fill in enumerate(fills)
        ]
        return Pack(*columns)

    def mask(self, pack: Pack, keep: Tensor | None = None) -> Tensor:
        """Additive mask, float (B, 1, L, L): 0 where a row may look at a column, else very negative.

        `keep`, bool (B, 144), hides all other visual tokens, which equals removing them before the decoder.
        """
        segment = pack.segment
        allowed = (segment[:, :, None] == segment[:, None]) | (segment == -1)[:, None]
        if keep is not None:
            hidden = torch.zeros_like(segment, dtype=torch.bool)
            hidden[:, self.image_start : self.image_start + VISUAL_TOKENS] = ~keep
            allowed &= ~hidden[:, None]
        length = segment.shape[1]
        allowed &= torch.ones(length, length, dtype=torch.bool, device=segment.device).tril()
        allowed |= torch.eye(length, dtype=torch.bool, device=segment.device)  # no empty rows
        return torch.zeros_like(allowed, dtype=torch.float32).masked_fill(~allowed, HIDDEN)[:, None]


def squeezed(rng: np.random.Generator) -> list[int]:
    """Positions of the visual tokens, ascending from 0: as usual in 3 of 10 cases, else packed closer together.

    A large language model has met prompts of all lengths; a small one that only ever sees 144 visual tokens reads their
    positions as coordinates, and any method that renumbers what it keeps would be measured by that. All tokens stay.
    """
    if rng.random() < 0.3:
        return list(range(VISUAL_TOKENS))
    steps = rng.random(VISUAL_TOKENS) < rng.uniform(0.03, 1)
    return (np.cumsum(steps) - steps[0]).tolist()
