"""The shortened prompt that the language model sees, from prefill through every later step.

generate() counts the full, unpruned prompt: its attention mask and its position ids have the full length. A `Segment`
describes consecutive decoder layers that share one shortened prompt, with the mask and positions of their shorter KV
cache. A `Conversation` is an attribute of the cache that describes its content, so that a later turn can continue it,
even if the model had other conversations in between.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Tensor

from vlmprune.engine.hooks import attention_rows
from vlmprune.engine.timing import Intervals
from vlmprune.errors import UserError
from vlmprune.methods.base import Positions


@dataclass
class Compaction:
    """Source of each position of the shorter batch.

    index: int64 [B, n] source positions. valid: bool [B, n], or None where no row needs padding. counts: tokens per
    row, on the host.
    """

    index: Tensor
    valid: Tensor | None
    counts: list[int]

    def gather(self, tensor: Tensor, batch: int = 0) -> Tensor:
        """Shorten [..., B, L, ...] to [..., B, n, ...], with B at dimension `batch`; a batch of 1 is broadcast."""
        before, after = tensor.shape[:batch], tensor.shape[batch + 2 :]
        index = self.index.view(*[1] * batch, *self.index.shape, *[1] * len(after)).expand(*before, -1, -1, *after)
        whole = tensor.expand(*before, len(self.index), *tensor.shape[batch + 1 :])
        return whole.gather(batch + 1, index)

    def gather_hidden(self, hidden: Tensor) -> Tensor:
        """Shorten [B, L, D], with zeros on padding, so that nothing of a dropped token can reach a softmax."""
        gathered = self.gather(hidden)
        return gathered if self.valid is None else gathered.masked_fill(~self.valid.unsqueeze(-1), 0)

    def gather_flags(self, flags: Tensor) -> Tensor:
        """Shorten bool [B, L] to [B, n], False on padding."""
        gathered = self.gather(flags)
        return gathered if self.valid is None else gathered & self.valid


def compact(keep: Tensor, counts: list[int], order: Tensor | None = None, multiple: int = 1) -> Compaction:
    """Plan the batch that holds the True positions of `keep`, bool [B, L], in their order, padded on the left.

    counts: True positions per row. The caller has fetched them, so that this adds no host sync. order: int64 [B, L],
    sort keys of 0 or more, where the new order is not that of the positions. multiple: the new length is rounded up to
    a multiple of it, to the old length at most. Raises UserError for an empty row: its answer would be made of padding.
    """
    if 0 in counts:
        raise UserError("nothing is left of a prompt that is an image alone: add words to it, or keep a visual token")
    length = keep.shape[1]
    longest = min(length, -(-max(counts) // multiple) * multiple)
    key = keep.to(torch.uint8) if order is None else torch.where(keep, order, -1)
    index = key.argsort(dim=1, stable=True)[:, length - longest :]
    if min(counts) == longest:
        return Compaction(index, None, counts)
    starts = torch.tensor([longest - count for count in counts]).to(keep.device, non_blocking=True)
    valid = torch.arange(longest, device=keep.device) >= starts.unsqueeze(1)
    return Compaction(index, valid, counts)


CACHE_ATTRIBUTE = "vlmprune_conversation"  # the attribute of a cache


@dataclass
class Record:
    """Result of one prefill of B prompts with up to V visual slots (the placeholders of their visual tokens, in order).

    visual_counts: per decoder layer, per prompt, the visual tokens that the layer processed. prompt_lengths: per
    prompt, text and visual tokens at decoder layer 0. kept: bool [B, V], the slots that reach the last decoder layer
    (of merged tokens the slots that they take), all of them where nothing is pruned; prompts with fewer slots end in
    False. None if V is 0.
    For prompts that continue a filled cache, everything counts the new tokens alone, but for kv_cache_bytes: the keys
    and values of all layers when the prefill ends; None without a cache, and in a quantized one.
    """

    visual_counts: list[list[int]]
    prompt_lengths: list[int]
    kept: Tensor | None = None
    kv_cache_bytes: int | None = None
    selection: Intervals = field(default_factory=Intervals)

    @property
    def selection_ms(self) -> float:
        """Time in ms that this prefill, encoding included, spent on pruning: signals, selecting, merging, dropping.

        On a GPU the time of the prefill's stream, for which this waits; 0 where nothing was pruned.
        """
        return self.selection.milliseconds()


@dataclass
class Segment:
    """Decoder layers from `start` on, which process a prompt of n tokens per row.

    valid: bool [B, n] or None where nothing is padded. next_position: int64 [..., B, 1], of the first token after the
    prompt. visual_counts: visual tokens per row that these layers process, on the host.
    """

    start: int
    length: int
    valid: Tensor | None
    next_position: Tensor
    visual_counts: list[int]

    def mask(self, total: int, later: Tensor | None = None) -> Tensor | None:
        """Return bool [B, total] over the prompt and all later tokens, or None without padding.

        later: see `later_mask`.
        """
        prompt, new = self.valid, total - self.length
        if prompt is None:
            if later is None:
                return None
            prompt = later.new_ones(len(later), self.length)
        after = later_mask(later, new)
        return torch.cat([prompt, prompt.new_ones(len(prompt), new) if after is None else after], dim=1)

    def of_rows(self, rows: Tensor) -> Segment:
        """Return the segment of the prompts `rows`, int64 [b], which may repeat or be in another order."""
        valid = None if self.valid is None else self.valid[rows]
        counts = [self.visual_counts[row] for row in rows.tolist()]
        return Segment(self.start, self.length, valid, self.next_position[..., rows, :], counts)

    def positions(self, cached: int, new: int, later: Tensor | None = None) -> Tensor:
        """Return int64 [..., B, new], the positions of `new` tokens after `cached` tokens of this segment's cache."""
        total = cached + new - self.length
        after = later_mask(later, total)
        if after is None:
            return self.next_position + torch.arange(total - new, total, device=self.next_position.device)
        return self.next_position + (after.long().cumsum(1) - 1).clamp(min=0)[:, total - new :]


def later_mask(later: Tensor | None, count: int) -> Tensor | None:
    """Return bool [B, count], True at tokens after a prompt that are not padding; None where none is padding.

    later: bool [B, t], the same of the first t tokens, known since the last turn began; all tokens after them are real.
    """
    if later is None:
        return None
    return torch.cat([later, later.new_ones(len(later), max(0, count - later.shape[1]))], dim=1)[:, :count]


@dataclass
class Conversation:
    """The content of a KV cache: B shortened prompts, and the tokens after them.

    segments: by the first decoder layer of each. full: tokens of a prompt before pruning, padding included, as
    generate() counts them. ids, real: int64 and bool [B, full], the unpruned prompts; None where they are not known.
    method: the method that pruned them; None for prompts without images. later: bool [B, t], True at tokens after the
    prompt that are not padding; None where none is. ends: the keys of each prompt's last token, [B, H, d], by which
    `in_cache_order` finds the prompt in a cache whose rows were reordered.
    """

    segments: dict[int, Segment]
    full: int
    ids: Tensor | None
    real: Tensor | None
    method: str | None
    later: Tensor | None = None
    ends: Tensor | None = None

    @classmethod
    def from_cache(cls, cache: Any, cached: int) -> Conversation | None:
        """Return the conversation in a cache that holds `cached` tokens; None for a cache that no session filled.

        Raises RuntimeError if the cache was cropped to less than the prompts.
        """
        held: Conversation | None = getattr(cache, CACHE_ATTRIBUTE, None)
        if held is not None and cached < held.segments[0].length:
            raise RuntimeError("this KV cache was cropped into its pruned prompt: start a new cache")
        return held

    @classmethod
    def from_text_prefix(cls, cached: int, mask: Tensor | None, rows: int, positions: Tensor | None) -> Conversation:
        """Return the conversation of `rows` prompts whose prefix, `cached` text tokens, was cached outside a session.

        mask: bool [B, L] over all tokens, None where nothing is padded. positions: those given for the tokens after the
        prefix, whose leading dimensions the segment gets.
        """
        valid = None if mask is None or mask.shape[1] <= cached else mask[:, :cached]
        if valid is None:
            following = torch.full((rows, 1), cached, device=None if positions is None else positions.device)
        else:
            following = valid.sum(dim=1, keepdim=True)
        if positions is not None:
            following = following.expand(*positions.shape[:-2], -1, -1)
        return cls({0: Segment(0, cached, valid, following, [0] * rows)}, cached, None, None, None)

    def __deepcopy__(self, _memo: dict) -> Conversation:
        return replace(self)  # a shallow copy: its tensors are never modified

    @property
    def prompt(self) -> Segment:
        """The segment at decoder layer 0."""
        return self.segments[0]

    def in_cache_order(self, cache: Any) -> Conversation:
        """Return the conversation with its prompts in the cache's present order; they may be fewer, or repeated.

        Raises RuntimeError if the cache holds other prompts. A host sync.
        """
        now = None if self.ends is None else prompt_ends(cache, self.prompt.length)
        if self.ends is None or now is None:
            return self  # the cache keeps no unmodified keys
        now = now.to(self.ends.device)
        if torch.equal(now, self.ends):
            return self
        same = (now.unsqueeze(1) == self.ends).flatten(2).all(dim=2)  # [b, B]
        if not same.any(dim=1).all():
            raise RuntimeError("this KV cache no longer holds the prompts that were pruned into it: start a new cache")
        rows = same.int().argmax(dim=1)
        ids, real, later = (None if part is None else part[rows] for part in (self.ids, self.real, self.later))
        segments = {start: segment.of_rows(rows) for start, segment in self.segments.items()}
        return Conversation(segments, self.full, ids, real, self.method, later, now)

    def attach_to(self, cache: Any) -> None:
        """Make the conversation an attribute of the cache, which copies of the cache share."""
        setattr(cache, CACHE_ATTRIBUTE, self)

    def with_ends(self, cache: Any) -> Conversation:
        """Return the conversation with the `ends` of `cache`, which has just been filled with its prompts."""
        return replace(self, ends=prompt_ends(cache, self.prompt.length))

    def tokens(self, cached: int) -> int:
        """Return the length of the conversation as generate() counts it, of which the cache holds `cached` tokens."""
        return self.full + cached - self.prompt.length

    def at_turn_start(self, mask: Tensor | None, total: int) -> Conversation:
        """Return the conversation at the start of a turn after which the cache will hold `total` tokens. A host sync.

        mask: bool [B, L] over the last tokens, at most all of them; None where the new ones have no padding.
        """
        count = total - self.prompt.length
        after = later_mask(self.later, count)
        if mask is not None:
            given = mask[:, -count:]
            known = count - given.shape[1]  # all earlier ones, if the caller's mask covers the new tokens alone
            before = given.new_ones(len(given), known) if after is None else after[:, :known]
            after = torch.cat([before, given], dim=1)
        if after is None or bool(after.all()):
            return replace(self, later=None)
        if not after[:, -1].all():
            raise ValueError("a later turn must be padded on the left (processor.tokenizer.padding_side = 'left')")
        return replace(self, later=after)

    def is_prefix_of(self, ids: Tensor, real: Tensor | None) -> bool:
        """Return True if the conversation can be a prefix of `ids`, int64 [B, L]; real: bool [B, L]. A host sync."""
        if self.ids is None or self.real is None:
            return True
        ids = ids[:, : self.full]
        if ids.shape != self.ids.shape:
            return False
        both = self.real if real is None else self.real & real[:, : self.full]
        return bool((ids.eq(self.ids) | ~both).all())


def prompt_ends(cache: Any, length: int) -> Tensor | None:
    """Return the keys [B, H, d] of token `length` - 1 in the first layer of a cache that keeps all keys, or None."""
    for layer in cache.layers:
        keys = getattr(layer, "keys", None)
        if not getattr(layer, "is_sliding", False) and isinstance(keys, Tensor) and keys.dim() == 4:
            return keys[:, :, length - 1].clone() if keys.shape[2] >= length else None
    return None


def new_positions(positions: Tensor, keep: Tensor, plan: Compaction, rule: Positions) -> tuple[Tensor, Tensor | int]:
    """Return positions after a compaction, int64 [..., B, n], and the shift of all later tokens, [B, 1] or 0.

    rule: `keep` leaves positions as they were, with gaps; `renumber` subtracts from each the number of visual tokens
    dropped before it, which is contiguous wherever the unpruned positions were. positions: [..., B, L]. keep: bool
    [B, L], True also on padding, which shifts nothing.
    """
    if rule == "keep":
        return plan.gather(positions, positions.dim() - 2), 0
    removed = (~keep).cumsum(dim=1)
    return plan.gather(positions.expand_as(removed) - removed), removed[:, -1:]


def full_positions(kwargs: dict[str, Any], length: int, device: torch.device) -> Tensor:
    """Return the position ids [..., B or 1, L] of a prefill; without any, transformers' default (0, 1, 2, ...)."""
    positions = kwargs.get("position_ids")
    return torch.arange(length, device=device).unsqueeze(0) if positions is None else positions


def full_mask(mask: Any, new: int) -> Tensor | None:
    """Return bool [B, L] over all tokens so far, the `new` last ones included, from a mask; None without a mask.

    mask: as models take it; of a dict with one per kind of decoder layer, that of full attention is used. A 4-D mask
    [B, 1, new, keys], bool or additive, must be that which generate() makes of a 2-D one for an empty static cache.
    Raises NotImplementedError for any other: it would not fit the shortened prompt.
    """
    if isinstance(mask, dict) and "full_attention" in mask:
        mask = mask["full_attention"]
    if mask is None or (isinstance(mask, Tensor) and mask.dim() == 2):
        return None if mask is None else mask.bool()
    if isinstance(mask, Tensor) and mask.dim() == 4 and mask.shape[1:3] == (1, new):
        seen = mask[:, 0] if mask.dtype == torch.bool else mask[:, 0] == 0  # [B, new, keys]
        real = seen[:, -1, :new]
        causal = torch.ones(new, new, dtype=torch.bool, device=mask.device).tril() & real.unsqueeze(1)
        if seen[..., new:].any() or (seen[..., :new] != causal)[real].any():
            raise NotImplementedError(
                "a custom 4-D attention mask while tokens are pruned: it is of the full prompt; give a 2-D mask"
            )
        return real
    kind = f"of shape {list(mask.shape)}" if isinstance(mask, Tensor) else f"of type {type(mask).__name__}"
    raise NotImplementedError(f"an attention mask {kind} while tokens are pruned: give a 2-D mask over all tokens")


def marked_slots(marks: Tensor, visual: Tensor, slots: Tensor, count: int) -> Tensor:
    """Return bool [B, count], True at the visual slots of each prompt that are marked.

    marks, visual: bool [B, L]; slots: int64 [B, L], the visual slot at each visual position.
    """
    nowhere = torch.full_like(slots, count)  # an extra column, which is cut off again
    target = torch.where(marks & visual, slots, nowhere)
    return marks.new_zeros(len(marks), count + 1).scatter_(1, target, True)[:, :count]


@dataclass
class SequenceState:
    """State of B sequences of L positions; tensors are [B, L].

    visual: bool. slots: int64, the visual slot at each visual position. detail: bool, the visual tokens of
    high-resolution tiles. valid: bool, False on padding. raters: bool, the positions whose attention rates the visual
    tokens; all are among the last `rows` positions. slot_count: V, visual slots of the longest prompt. padded: True if
    any position may be padding. tiled: True if `detail` is not simply `visual`.
    """

    visual: Tensor
    slots: Tensor
    detail: Tensor
    valid: Tensor
    raters: Tensor
    rows: int
    slot_count: int
    padded: bool
    tiled: bool

    @classmethod
    def from_prompt(cls, visual: Tensor, detail: Tensor, real: Tensor, padded: bool, slot_count: int) -> SequenceState:
        """Return the state of full prompts at decoder layer 0, rated by their last position."""
        last = torch.zeros_like(visual)
        last[:, -1] = True
        slots, tiled = visual.cumsum(1) - 1, detail is not visual
        return cls(
            visual & real, slots, detail & real, real, last, 1, slot_count, padded, tiled
        )  # a mask may hide visual tokens

    def with_raters(self, raters: Tensor | None, texts: list[int]) -> SequenceState:
        """Return the state with the method's raters, bool [B, L]; texts: text tokens of each prompt, on the host.

        Raters are looked for among the last so many positions; with tiles, among as many as are not of high-resolution
        tiles, since a thumbnail may come after these.
        """
        if raters is None:
            return self
        if not self.tiled:
            return replace(self, raters=raters, rows=max(texts))
        return replace(self, raters=raters, rows=int((self.valid & ~self.detail).sum(1).max()))

    def after(self, plan: Compaction) -> SequenceState:
        """Return the state of the shorter sequence."""
        valid = torch.ones_like(plan.index, dtype=torch.bool) if plan.valid is None else plan.valid
        return replace(
            self,
            visual=plan.gather_flags(self.visual),
            slots=plan.gather(self.slots),
            detail=plan.gather_flags(self.detail),
            valid=valid,
            raters=plan.gather_flags(self.raters),
            padded=plan.valid is not None,
        )


def trailing_attention(query: Tensor, key: Tensor, state: SequenceState, scaling: float) -> Tensor:
    """Return post-softmax causal attention [B, H, R, L] of the last R = `state.rows` positions, at least float32."""
    length = key.shape[2]
    rows = min(state.rows, length)
    seen = state.valid[:, None, None, :] if state.padded else None
    if rows > 1:  # the last position attends to every real token: it needs no causal mask
        positions = torch.arange(length, device=key.device)
        causal = positions <= positions[length - rows :, None]
        seen = causal if seen is None else causal & seen
    return attention_rows(query[:, :, -rows:], key, seen, scaling)
