"""Selection between the vision encoder and decoder layer 0, the kept tokens, and their order across tiles.

Order of events in one encoding (model.get_image_features or get_video_features):
    probes on the declared encoder layers collect the signals (signals.py); layers that nothing reads are skipped;
    the projector receives the kept tokens only, and its output is scattered back to full length, dropped slots marked
    NaN, so that transformers' placeholder checks, packing and beam expansion find the length that they expect;
    the language model's pre-hook (session.py) then drops the marked slots from the prompt.
A method that reads projected features selects after the projector. So does any method on a family whose projector mixes
tokens: there the encoding's result is marked.

Patches have a position in that picture. A [CLS], or a token merged from patches all over its tile, has none: among the
patches it would shift others out of their row.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from vlmprune.engine.adapter import ModelInterface, TextRelevance
from vlmprune.engine.contract import CheckedMethod, checked_shares, non_finite, non_finite_images
from vlmprune.engine.hooks import MethodPatch, full_precision
from vlmprune.engine.layout import Layout
from vlmprune.engine.observer import SelectionObserver
from vlmprune.engine.signals import SignalReader
from vlmprune.engine.timing import Clock
from vlmprune.methods.base import Method, Selection, SequenceMethod


@dataclass
class KeptTokens:
    """K kept tokens. rows: int64 [K], the rows that they take. tokens: [K, C]. valid: bool [K]; None if all are."""

    rows: Tensor
    tokens: Tensor
    valid: Tensor | None

    @property
    def count(self) -> int:
        """Number of valid tokens. A host sync if the method is adaptive."""
        return len(self.rows) if self.valid is None else int(self.valid.sum())

    def scatter(self, rows: int) -> Tensor:
        """Return [rows, C] with the tokens at their rows; NaN in all other rows, and for tokens that are not finite."""
        gone = non_finite(self.tokens)  # a token with an infinity is marked NaN too, so that it is refused
        if self.valid is not None:
            gone = gone | ~self.valid
        tokens = self.tokens.masked_fill(gone.unsqueeze(1), torch.nan)
        return tokens.new_full((rows, tokens.shape[1]), torch.nan).index_copy(0, self.rows, tokens)


def sort_rows(rows: Tensor, valid: Tensor | None) -> Tensor:
    """Sort rows [G, k] within each unit, those that are not valid last."""
    if valid is None:
        return rows.sort(dim=1).values
    last = torch.iinfo(rows.dtype).max
    return rows.gather(1, rows.masked_fill(~valid, last).argsort(dim=1, stable=True))


def concatenate(kept: list[KeptTokens], like: Tensor) -> KeptTokens:
    """Concatenate the results of all groups; `valid` is None if no group has one. like: [S, C], for no groups."""
    if not kept:
        return KeptTokens(torch.empty(0, dtype=torch.long, device=like.device), like[:0], None)
    valid = None
    if any(part.valid is not None for part in kept):
        valid = torch.cat(
            [torch.ones_like(part.rows, dtype=torch.bool) if part.valid is None else part.valid for part in kept]
        )
    return KeptTokens(torch.cat([part.rows for part in kept]), torch.cat([part.tokens for part in kept]), valid)


def order_by_block(kept: KeptTokens, blocks: list[int], tiles: list[int], layout: Layout) -> KeptTokens:
    """Reorder the kept tokens of tiled images: the first tile's in their order, then those of all others by block.

    Block 0 holds patches, in the order of their slots; each further block is ordered by tile. kept: in the order of
    selection, all valid, each token at the slot that it was selected with; the same slots are taken in the new order.
    blocks, tiles: block and tile of each token, on the host.
    """
    images = layout.images
    assert images is not None
    device = kept.rows.device
    behind = [tile > 0 and images[tile] == images[tile - 1] for tile in tiles]  # True after the image's first tile
    facts = torch.tensor([behind, [images[tile] for tile in tiles], tiles, blocks])
    later, image, tile, block = facts.to(device, non_blocking=True)
    block = block * later
    slot = layout.slots_of_rows().to(device, non_blocking=True)[kept.rows]
    within = torch.where(block > 0, tile, slot * later)  # the first tile's keys are all 0: a stable sort keeps them
    sizes = max(blocks) + 1, layout.slots + len(layout.pixels)
    key = ((2 * image + later) * sizes[0] + block) * sizes[1] + within
    return KeptTokens(kept.rows[slot.argsort()], kept.tokens[key.argsort(stable=True)], None)


def report_selection(observer: SelectionObserver, selection: Selection, slots: Tensor, chosen: Tensor) -> None:
    """Report a selection from tokens at `slots` [G, n]. chosen: the selected ones as they were before, [G, k, C]."""
    changed = torch.zeros_like(slots, dtype=torch.bool)
    if selection.features is not None:
        different = (selection.features != chosen).any(dim=2)
        changed.scatter_(1, selection.indices.to(slots.device), different)
    scores = None if selection.scores is None else selection.scores.flatten()
    observer.observe_selection(0, slots.flatten(), scores, changed.flatten())


class SequenceStage:
    """Hooks that run one `SequenceMethod` on every encoding of the vision encoder.

    whole: the method of which `method` is a part, and which decides the number of kept tokens; None if it is no part.
    """

    def __init__(
        self,
        adapter: ModelInterface,
        method: SequenceMethod,
        clock: Clock,
        text_tower: TextRelevance | None = None,
        whole: Method | None = None,
        observer: SelectionObserver | None = None,
    ) -> None:
        self.adapter, self.method, self.clock, self.text_tower = adapter, method, clock, text_tower
        self.observer = observer
        self.checked_method = CheckedMethod(method)
        self.shares = partial(checked_shares, whole or method)
        self.questions: list[str] = []
        self.prompts: Tensor | None = None  # int64 [B, L], their ids
        # By encoder, in this call: visual slots, and the number of dropped ones, on the host.
        self._counts: dict[str, tuple[int, int]] = {}
        self._encoder = ""  # the running one
        self.layers = method.layers(adapter.tower)
        self.reader = SignalReader(adapter, method, clock)
        self._layout: Layout
        self._kept_tokens: KeptTokens | None = None
        self._features: Tensor | None = None
        self._handles: list[Any] = []

    @property
    def acts_in_layers(self) -> bool:
        """True if the method reads signals of encoder layers, not just the encoder's output."""
        return bool(self.reader.layered)

    def install(self) -> None:
        """Install the hooks and probes."""
        adapter = self.adapter
        self.reader.install()
        for encode in adapter.encoders:
            self._handles.append(MethodPatch(adapter.base_model, encode, self._wrap_encoder(encode)))
        if adapter.projects_each_token:
            self._handles.append(adapter.projector.register_forward_pre_hook(self._before_projector))
            self._handles.append(adapter.projector.register_forward_hook(self._after_projector))
        last_read = max(adapter.tower.feature_layer, *self.layers)
        for index in range(last_read + 1, adapter.tower.depth):
            for module in adapter.vision_layers(index):
                self._handles.append(MethodPatch(module, "forward", lambda _: _pass_through))

    def remove(self) -> None:
        """Remove the hooks and probes, and restore the model."""
        for handle in self._handles:
            handle.remove()
        self.reader.remove()
        self._handles, self._kept_tokens, self._features = [], None, None

    def _wrap_encoder(self, encode: str) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
        def wrap(original: Callable[..., Any]) -> Callable[..., Any]:
            signature = inspect.signature(original)

            def encoded(*args: Any, **kwargs: Any) -> Any:
                if self._encoder:  # another encoder calls this one, as in Qwen3-VL, and its result will be marked
                    return original(*args, **kwargs)
                self._encoder = encode
                try:
                    self._layout = self.adapter.layout(encode, signature.bind(*args, **kwargs).arguments, self.method)
                    output = original(*args, **kwargs)
                    if not self.adapter.projects_each_token:
                        with self.clock("selection"):
                            output.pooler_output = self._mark(output.pooler_output)
                finally:
                    self._encoder = ""
                    self.reader.clear()  # the signals are large, and not read while answers are generated
                return output

            return encoded

        return wrap

    def _before_projector(self, _projector: nn.Module, args: tuple[Tensor]) -> tuple[Tensor]:
        (features,) = args
        self._features = features if "text_relevance" in self.method.needs else None
        if "projected" in self.method.needs:
            return args
        with self.clock("selection"):
            self._kept_tokens = self._select_tokens("features", features)
            return (self._kept_tokens.tokens.unsqueeze(0),)

    def _after_projector(self, _projector: nn.Module, _args: tuple[Tensor], output: Tensor) -> Tensor:
        with self.clock("selection"):
            if "projected" in self.method.needs:
                kept = self._select_tokens("projected", output)
            else:
                assert self._kept_tokens is not None
                kept = KeptTokens(self._kept_tokens.rows, output[0], self._kept_tokens.valid)
            tiles = len(self._layout.pixels)
            return kept.scatter(tiles * self._layout.tile_rows).unflatten(0, (tiles, -1))

    def _mark(self, features: Any) -> Any:
        """Return an encoding's result, [B, n, D] or one [n_i, D] per image, with dropped tokens marked NaN.

        Rows that are no token (newlines) are not changed.
        """
        parts = list(features)
        whole = torch.cat(parts)
        full = self._select_tokens("projected", whole.unsqueeze(0)).scatter(len(whole))
        tokens = torch.zeros(len(whole), 1, dtype=torch.bool, device=whole.device)
        for group in self._layout.groups:
            tokens[group.index.flatten()] = True
        marked = torch.where(tokens, full, whole).split([len(part) for part in parts])
        return torch.stack(marked) if isinstance(features, Tensor) else type(features)(marked)

    def _select_tokens(self, name: str, features: Tensor) -> KeptTokens:
        """Return the tokens that the method selects, group by group. features: [tiles, rows, C], the signal `name`."""
        layout, flat = self._layout, features.flatten(0, 1)
        tokens = {name: flat if layout.tile_rows == layout.tile_tokens else flat[self._token_rows(flat)]}
        if not self.adapter.projects_each_token:
            tokens["features"] = flat
        if "text_relevance" in self.method.needs:
            tokens["text_relevance"] = self._relevance()
            tokens["largest_relevance"] = layout.image_maximum(tokens["text_relevance"])
        renumber = self.adapter.position_rule(self.method) == "renumber"  # then positions say only the order of tokens
        parts: list[KeptTokens] = []
        blocks: list[int] = []
        tiles: list[int] = []
        for group, k in layout.groups_by_count(self.shares):
            signals = self.reader.group_signals(group, layout, **tokens)
            with full_precision(flat.device):
                selection = self.checked_method.select(signals, k, flat)
            chosen = layout.rows(group.index).gather(1, selection.indices.to(flat.device))
            if self.observer is not None:
                report_selection(self.observer, selection, layout.slots_of(group.index), flat[chosen])
            kept = flat[chosen] if selection.features is None else selection.features.to(flat.dtype)
            for unsound in (non_finite_images(signals), selection.unsound):
                if unsound is not None:  # marked here and detected with the dropped slots: a check would be a host sync
                    kept = kept.masked_fill(unsound.to(kept.device)[:, None, None], torch.nan)
            valid = selection.valid
            if renumber and layout.stitched and selection.blocks is not None:
                blocks += selection.blocks * len(group.tiles)
                tiles += [tile for tile in group.tiles for _ in selection.blocks]
            elif renumber:
                chosen = sort_rows(chosen, valid)
            parts.append(KeptTokens(chosen.flatten(), kept.flatten(0, 1), None if valid is None else valid.flatten()))
        everything = concatenate(parts, flat)
        return self._count(order_by_block(everything, blocks, tiles, layout) if blocks else everything)

    def _token_rows(self, flat: Tensor) -> Tensor:
        tiles = len(self._layout.pixels)
        return self._layout.rows(torch.arange(tiles * self._layout.tile_tokens, device=flat.device))

    def _relevance(self) -> Tensor:
        if self.text_tower is None or not self.questions:
            raise RuntimeError(
                f"{type(self.method).__name__} reads the question: call session.ask([question, ...]), one per prompt"
            )
        assert self._features is not None
        owner = self._layout.images or list(range(len(self._layout.pixels)))
        asked = self._questions_by_image()
        questions = [asked[image] for image in owner]
        self.questions = []  # they must not be used for a later prompt
        with full_precision(self._features.device):
            return self.text_tower.relevance(self._features, questions).flatten()

    def _questions_by_image(self) -> list[str]:
        """Return the question about each image: that of its prompt."""
        assert self.prompts is not None
        left, images = self.adapter.visual_mask(self.prompts).sum(dim=1).tolist(), self._layout.slots_by_image()
        rows, questions = len(left), self.questions
        if rows % len(questions):
            raise ValueError(f"{len(questions)} questions for {rows} prompts: ask one per prompt")
        asked, row = [], 0
        for slots in images:
            while row < rows and left[row] == 0:
                row += 1
            if row == rows or left[row] < slots:
                raise ValueError("the images do not fill the prompts one after the other: no question is known of them")
            left[row] -= slots
            asked.append(questions[row * len(questions) // rows])  # all beams of a prompt have its question
        return asked

    @property
    def encoded(self) -> tuple[int, int]:
        """Visual slots of all encodings of this call, images and videos together, and the number of dropped ones."""
        return sum(slots for slots, _ in self._counts.values()), sum(dropped for _, dropped in self._counts.values())

    def clear_counts(self) -> None:
        """Clear the counts of `encoded` at the end of a call."""
        self._counts.clear()

    def _count(self, kept: KeptTokens) -> KeptTokens:
        slots = self._layout.slots
        self._counts[self._encoder] = slots, slots - self._layout.fixed_slots - kept.count
        return kept


def _pass_through(hidden_states: Tensor, *_args: Any, **_kwargs: Any) -> Tensor:
    return hidden_states
