"""The bare model's own answers where some visual tokens cannot be seen.

Nothing is dropped here and nothing is cached: the language model, with no session near it, reads one whole prompt
without padding and all that follows it, and each decoder layer is told by its mask which positions exist for it, and by
its rotary embedding where they are.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Tensor

from vlmprune.models.base import Adapter


class Seen(Exception):
    """The language model's arguments, found; the forward pass need not go on."""


@dataclass
class Prompt:
    """A prompt of L tokens as the layers of a decoder are to read it.

    embeds: [L, D]. visual: bool [L]. real: bool [L], False where the caller's mask hides a word. seen: bool
    [layers, L]. places: int64 [layers, P, L], position ids of P kinds in each layer. after: int64 [layers], the place
    of the token that follows. levels: DeepStack's features [L, D] of the first layers. merged: of some layers the input
    [n, D], for the n positions that they see, which is not the output of the layer before: where tokens merge.
    """

    embeds: Tensor
    visual: Tensor
    real: Tensor
    seen: Tensor
    places: Tensor
    after: Tensor
    levels: list[Tensor]
    merged: dict[int, Tensor] = field(default_factory=dict)


def read(adapter: Adapter, inputs: dict[str, Tensor]) -> Prompt:
    """The only prompt of `inputs`, unpruned, from the arguments that the bare model gives its language model."""

    def stop(_module: Any, _args: tuple, kwargs: dict[str, Any]) -> None:
        raise Seen(kwargs)

    handle = adapter.language_model.register_forward_pre_hook(stop, with_kwargs=True)
    try:
        adapter.model(**inputs)
    except Seen as found:
        kwargs = found.args[0]
    finally:
        handle.remove()
    embeds, visual = kwargs["inputs_embeds"][0], adapter.visual_mask(inputs["input_ids"])[0]
    places = kwargs.get("position_ids")
    places = torch.arange(len(embeds)).expand(1, -1) if places is None else places.view(-1, len(embeds))[-3:]
    if hasattr(adapter.base_model, "rope_deltas"):  # three kinds of positions, though text alone comes with one
        places = places.expand(3, -1)
    depth, real = adapter.decoder_depth, torch.ones_like(visual)
    if not inputs["attention_mask"].all():
        real = inputs["attention_mask"][0].bool()
        places = (real.cumsum(0) - 1).unsqueeze(0)  # as generate() counts
    levels = []
    for features in kwargs.get("deepstack_visual_embeds") or []:
        levels.append(torch.zeros_like(embeds))
        levels[-1][kwargs["visual_pos_masks"][0]] = features
    return Prompt(
        embeds,
        visual,
        real,
        real.expand(depth, -1),
        places.expand(depth, -1, -1),
        (places[:, -1].max() + 1).expand(depth),  # as generate() counts, with mrope too
        levels,
    )


def hide(prompt: Prompt, kept: list[Tensor | None], renumber: list[bool]) -> Prompt:
    """The same prompt with visual tokens gone.

    kept: per layer the visual slots that it sees, bool [V], None for all. renumber: per layer, whether what is dropped
    right before it makes positions close up.
    """
    seen, places, after = prompt.seen.clone(), prompt.places.clone(), prompt.after.clone()
    now, place, following = seen[0], places[0], after[0]
    for layer, slots in enumerate(kept):
        here = prompt.real.clone()
        if slots is not None:
            here[prompt.visual] = slots
        assert not (here & ~now).any(), f"layer {layer} sees tokens that the layer before it does not"
        gone, now = now & ~here, here
        if renumber[layer]:
            place, following = place - gone.cumsum(0), following - gone.sum()
        seen[layer], places[layer], after[layer] = now, place, following
    return replace(prompt, seen=seen, places=places, after=after)


def logits(adapter: Adapter, prompt: Prompt, tokens: Tensor) -> Tensor:
    """Logits [n, T + 1, V] behind the prompt and behind each of `tokens`, int64 [n, T], of n continuations."""
    n, length = tokens.shape
    whole = len(prompt.embeds) + length
    words = adapter.model.get_input_embeddings()(tokens)
    embeds = torch.cat([prompt.embeds.expand(n, -1, -1), words], dim=1)
    causal = torch.ones(whole, whole, dtype=torch.bool).tril()
    least = torch.finfo(embeds.dtype).min

    def at(layer: int) -> Tensor:
        more = prompt.after[layer] + torch.arange(length)
        places = torch.cat([prompt.places[layer], more.expand(len(prompt.places[layer]), -1)], dim=1)
        return places.unsqueeze(1).expand(-1, n, -1) if len(places) > 1 else places.expand(n, -1)

    def hook(layer: int) -> Any:
        columns = torch.cat([prompt.seen[layer], causal.new_ones(length)])
        allowed = causal & columns | torch.eye(whole, dtype=torch.bool)
        mask = torch.zeros(n, 1, whole, whole, dtype=embeds.dtype).masked_fill(~allowed, least)

        def change(_module: Any, args: tuple, kwargs: dict[str, Any]) -> tuple[tuple, dict[str, Any]]:
            hidden = args[0] if args else kwargs["hidden_states"]
            if layer in prompt.merged:
                hidden = hidden.clone()
                hidden[:, prompt.seen[layer].nonzero().flatten()] = prompt.merged[layer]
            rotary = adapter.language_model.rotary_emb(embeds, position_ids=at(layer))
            changed = kwargs | {"attention_mask": mask, "position_embeddings": rotary}
            return ((hidden, *args[1:]), changed) if args else (args, changed | {"hidden_states": hidden})

        return change

    options: dict[str, Any] = {}
    if prompt.levels:
        options["visual_pos_masks"] = torch.cat([prompt.visual, causal.new_zeros(length)]).expand(n, -1)
        options["deepstack_visual_embeds"] = [level[prompt.visual].repeat(n, 1) for level in prompt.levels]
    layers = adapter.language_model.layers
    handles = [layer.register_forward_pre_hook(hook(i), with_kwargs=True) for i, layer in enumerate(layers)]
    try:
        hidden = adapter.language_model(
            inputs_embeds=embeds,
            attention_mask=torch.ones(n, whole, dtype=torch.long),
            position_ids=at(0),
            use_cache=False,
            **options,
        ).last_hidden_state
    finally:
        for handle in handles:
            handle.remove()
    last = int(prompt.seen[-1].nonzero().max())
    rows = torch.tensor([last, *range(len(prompt.embeds), whole)])
    return adapter.model.lm_head(hidden[:, rows])


def beam_search(adapter: Adapter, prompt: Prompt, beams: int, steps: int, banned: list[int]) -> tuple[Tensor, Tensor]:
    """The best continuations of `steps` tokens, int64 [beams, steps], best first, and the sum of log-probabilities.

    banned: ids that no continuation may hold, out of which, as in generate(), log-probabilities are not taken.
    """
    tokens, scores = torch.zeros(1, 0, dtype=torch.long), torch.zeros(1)
    for _ in range(steps):
        following = logits(adapter, prompt, tokens)[:, -1].float().log_softmax(-1)
        following[:, banned] = -torch.inf
        total = scores.unsqueeze(1) + following
        scores, best = total.flatten().topk(beams)
        rows, words = best // total.shape[1], best % total.shape[1]
        tokens = torch.cat([tokens[rows], words.unsqueeze(1)], dim=1)
    return tokens, scores
