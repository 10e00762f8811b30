"""DeepStack (Meng et al., NeurIPS 2024) as in Qwen3-VL: features are dropped with the tokens that they belong to.

Features of earlier vision layers are added to the hidden states of visual tokens after decoder layers 0, 1, 2. The
language model takes them as one row per visual token of the prompt at every layer. A dropped token's rows must go too,
and once tokens are dropped inside the decoder the model's own addition no longer finds the right positions.
"""

from __future__ import annotations

from typing import Any

from torch import Tensor

from vlmprune.engine.prompt_state import Compaction

PLACES = "visual_pos_masks"  # bool [B, L]
LEVELS = "deepstack_visual_embeds"  # per decoder layer from 0 on, [visual tokens of the batch, D]


def drop_features(kwargs: dict[str, Any], keep: Tensor, plan: Compaction) -> dict[str, Any]:
    """Return the language model's arguments of a prefill with features of kept tokens only. keep: bool [B, L]."""
    if kwargs.get(LEVELS) is None:
        return kwargs
    stay = keep[kwargs[PLACES]]
    return kwargs | {
        PLACES: plan.gather_flags(kwargs[PLACES]),
        LEVELS: [level[stay] for level in kwargs[LEVELS]],
    }


class Deepstack:
    """DeepStack features that the engine adds in one prefill. A merged token gets those of the slot that it takes.

    pending: by decoder layer, the features to add to its output, [B, L, D], zero on text.
    """

    def __init__(self, pending: dict[int, Tensor]) -> None:
        self.pending = pending

    @classmethod
    def from_arguments(cls, kwargs: dict[str, Any], first: int) -> tuple[Deepstack, dict[str, Any]]:
        """Return the features of decoder layers from `first` on, and the arguments with those before it alone."""
        levels, visual = kwargs.get(LEVELS), kwargs.get(PLACES)
        if levels is None or visual is None:
            return cls({}), kwargs
        hidden = kwargs["inputs_embeds"]
        pending = {}
        for layer, level in enumerate(levels[first:], start=first):
            pending[layer] = hidden.new_zeros(hidden.shape)
            pending[layer][visual] = level.to(hidden)
        return cls(pending), kwargs | {LEVELS: levels[:first]}

    def after(self, plan: Compaction) -> Deepstack:
        """Return the features of the shorter sequence."""
        return Deepstack({layer: plan.gather_hidden(level) for layer, level in self.pending.items()})

    def add(self, layer: int, hidden: Tensor) -> Tensor:
        """Return the output [B, L, D] of decoder layer `layer` plus its features."""
        level = self.pending.pop(layer, None)
        return hidden if level is None else hidden + level.to(hidden.device)
