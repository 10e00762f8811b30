"""Merging inside the vision encoder: ToMe and PiToMe.

Order of events in one forward pass:
    after each encoder layer up to the feature layer a hook returns a shorter hidden state, on which the next layer
    runs; layers above are skipped;
    the unmodified model takes the feature layer's output and drops [CLS]; the projector receives the merged tokens;
    then encoder_hooks.py takes over: the projector's output is scattered to full length, each token at the slot of the
    patch whose row it kept, all other slots NaN.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from vlmprune.engine.adapter import ModelInterface
from vlmprune.engine.encoder_hooks import EncoderHooks, KeptTokens
from vlmprune.engine.hooks import full_precision
from vlmprune.engine.observer import SelectionObserver
from vlmprune.engine.timing import Clock
from vlmprune.methods.encoder_method import VisionMethod


class VisionStage(EncoderHooks):
    """Hooks that run one `VisionMethod`: after the encoder its selection is already made.

    owners: int64 [images, N] after a forward pass, index of the merged token of each patch.
    """

    changes_encoder = True
    method: VisionMethod

    def __init__(
        self, adapter: ModelInterface, method: VisionMethod, clock: Clock, observer: SelectionObserver | None = None
    ) -> None:
        super().__init__(adapter, method, clock, observer)
        n = adapter.tower.grid[0] * adapter.tower.grid[1]
        self.counts = method.merge_counts(adapter.tower, n)
        self.drops_all = method.layer_ratio is None and method.count(n) == 0
        self.owners: Tensor
        self._kept_slots: Tensor

    def install(self) -> None:
        """Install the hooks."""
        for layer, r in zip(self.layers, self.counts, strict=True):
            # Prepended: transformers records hidden states by hooks too, registered before or after this one, which
            # must see the merged sequence.
            hook = self._merge_after(layer, r)
            for module in self.adapter.vision_layers(layer):
                self._handles.append(module.register_forward_hook(hook, prepend=True))
        super().install()

    def _merge_after(self, layer: int, r: int) -> Any:
        def hook(_layer: nn.Module, _args: tuple, output: Tensor | tuple) -> Tensor | tuple:
            hidden = output[0] if isinstance(output, tuple) else output
            with self.clock("selection"):
                if layer == 0:
                    self._begin(hidden)
                if r == 0:
                    return output
                hidden = self._merge(hidden, layer, r)
            return (hidden, *output[1:]) if isinstance(output, tuple) else hidden

        return hook

    def _begin(self, hidden: Tensor) -> None:
        first = int(self.adapter.tower.has_cls)
        rows = torch.arange(hidden.shape[1], device=hidden.device).expand(len(hidden), -1)
        self.owners = rows[:, first:]  # rows of the present sequence; `_select_tokens` makes them indices of tokens
        self._kept_slots = rows - first  # [CLS] is -1

    def _merge(self, hidden: Tensor, layer: int, r: int) -> Tensor:
        with full_precision(hidden.device):
            matching = self.checked_method.match(hidden, r, layer, self.adapter.tower)
            merged = matching.mean(hidden)
        self.owners = matching.target().gather(1, self.owners)
        self._kept_slots = self._kept_slots.gather(1, matching.stay)
        return merged

    def _select_tokens(self, name: str, features: Tensor) -> KeptTokens:
        """Return the merged tokens of each tile: features [tiles, T - r, C] already hold these alone."""
        first, n = int(self.adapter.tower.has_cls), self._layout.tile_tokens
        features = features[:, self._layout.first_row :]  # a video's frames may come with their [CLS]
        k = 0 if self.drops_all else features.shape[1]
        self.owners = self.owners - first
        if self.observer is not None:
            self._report_merges(self.observer)
        slots = self._kept_slots[:, first:][:, :k]
        if self.adapter.position_rule(self.method) == "renumber":
            slots = slots.sort(dim=1).values
        tokens = slots + n * torch.arange(len(features), device=features.device).unsqueeze(1)
        return self._count(KeptTokens(self._layout.rows(tokens).flatten(), features[:, :k].flatten(0, 1), None))

    def _report_merges(self, observer: SelectionObserver) -> None:
        merged = (self.owners.unsqueeze(1) == self.owners.unsqueeze(2)).sum(dim=2) > 1  # [tiles, N]
        tokens = torch.cat([group.index.flatten() for group in self._layout.groups])
        observer.observe_selection(0, self._layout.slots_of(tokens), None, merged.flatten()[tokens])
