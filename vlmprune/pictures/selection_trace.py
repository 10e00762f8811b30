"""Recording of a method's scores and merged tokens on one prompt, for a picture of them.

The engine is unchanged: a `Trace` replaces the adapter by a proxy and the method by an instance of a subclass; both
report to the trace and otherwise behave alike.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import fields, replace
from typing import Any

import torch
from torch import Tensor

from vlmprune.engine.adapter import ModelInterface
from vlmprune.engine.layout import Group, Layout
from vlmprune.engine.session import Session
from vlmprune.methods.base import Method, Selection, SequenceMethod, Signals
from vlmprune.methods.compose import Compose
from vlmprune.methods.decoder_method import DecoderMethod, DecoderSelection, DecoderSignals


class Trace:
    """Scores and merged tokens of one prompt with `slots` visual slots, alone in its batch and with media of one kind.

    scores: float32 [V], the method's score of each token, nan if it has none; of several stages, the first one's.
    merged: bool [V], True for slots whose token the method changed, for example by merging.
    """

    def __init__(self, slots: int) -> None:
        self.scores = torch.full((slots,), torch.nan)
        self.merged = torch.zeros(slots, dtype=torch.bool)
        self._session: Session
        self._score: Tensor | None = None
        self._groups: Iterator[Group] = iter(())
        self._slot_of = torch.empty(0, dtype=torch.long)  # slot of each token of the encoding
        self._standing: Tensor | None = None  # int64 [L], slot at each position inside the decoder, -1 for text

    def session(self, adapter: ModelInterface, method: Method, text_tower: Any = None) -> Session:
        """Return a session on `adapter` with `method` that reports to this trace. Its prefill must be the next one."""
        recording: Any = _RecordingAdapter(adapter, self)
        self._session = Session(recording, self._recording_method(method), text_tower=text_tower)
        return self._session

    def finish(self) -> None:
        """Record the merges inside the vision encoder; call it after generate(), inside the session."""
        owners = self._session.owners
        if owners is None:
            return
        owners = owners.cpu()
        patches = torch.zeros_like(owners).scatter_add_(1, owners, torch.ones_like(owners))  # per output token
        self.merged[self._slot_of] = (patches.gather(1, owners) > 1).flatten()

    def _recording_method(self, method: Method) -> Method:
        if isinstance(method, Compose):
            return replace(
                method, before=self._recording_method(method.before), inside=self._recording_method(method.inside)
            )
        if not isinstance(method, SequenceMethod | DecoderMethod):
            return method
        values = {field.name: getattr(method, field.name) for field in fields(method) if field.init}
        return _make_recording_class(type(method), self)(**values)

    def encoding(self, layout: Layout) -> None:
        """Start an encoding. The method will select from its groups in their order."""
        self._groups = (group for group, _ in layout.groups_by_count(self._session.method.shares))
        if layout.order is None:
            self._slot_of = torch.arange(layout.slots)
            return
        order = layout.order.cpu()
        self._slot_of = torch.full((len(layout.pixels) * layout.tile_tokens,), -1)
        self._slot_of[order[order >= 0]] = (order >= 0).nonzero().flatten()

    def scored(self, score: Tensor) -> None:
        """Record `score`, by which the method ranks in the current selection."""
        self._score = score.float().cpu()

    def selected(self, signals: Signals, selection: Selection) -> None:
        """Record a selection from one group before the language model."""
        slots = self._slot_of[next(self._groups).index.cpu()]  # [B, N]
        if self._score is not None:
            self.scores[slots] = self._score
        self._score = None
        if selection.features is not None:
            before = signals.features if signals.projected is None else signals.projected
            taken = torch.arange(len(slots)).unsqueeze(1)
            changed = (selection.features != before[taken, selection.indices]).any(dim=2).cpu()
            self.merged[slots[taken, selection.indices.cpu()][changed]] = True

    def selected_inside(self, signals: DecoderSignals, selection: DecoderSelection) -> None:
        """Record a selection inside the language model, of the tokens that enter a layer."""
        visual, keep = signals.visual[0].cpu(), selection.keep[0].cpu()
        standing = self._at_first(visual) if self._standing is None else self._standing
        if self._score is not None and self.scores.isnan().all():
            self.scores[standing[visual]] = self._score[0][visual]
        self._score = None
        if selection.hidden is not None:
            changed = (selection.hidden != signals.hidden).any(dim=2)[0].cpu()
            self.merged[standing[changed & visual & keep]] = True
        stays = (keep | ~visual).nonzero().flatten()
        if selection.order is not None:
            stays = stays[selection.order[0].cpu()[stays].argsort(stable=True)]
        self._standing = standing[stays]

    def _at_first(self, visual: Tensor) -> Tensor:
        """Return the slot at each position before the first selection inside the language model, -1 for text."""
        record = self._session.record
        kept = None if record is None or record.kept is None else record.kept[0].cpu().nonzero().flatten()
        standing = torch.full_like(visual, -1, dtype=torch.long)
        standing[visual] = torch.arange(int(visual.sum())) if kept is None else kept
        return standing


class _RecordingAdapter:
    """An adapter proxy that reports every encoding to a trace."""

    def __init__(self, adapter: ModelInterface, trace: Trace) -> None:
        self._adapter, self._trace = adapter, trace

    def __getattr__(self, name: str) -> Any:
        return getattr(self._adapter, name)

    def layout(self, encoder: str, arguments: dict[str, Any], method: SequenceMethod) -> Layout:
        layout = self._adapter.layout(encoder, arguments, method)
        self._trace.encoding(layout)
        return layout


def _make_recording_class(cls: Any, trace: Trace) -> Any:
    """Return a subclass of a method's class that reports scores and selections to a trace."""

    class Recording(cls):
        def score(self, signals: Any) -> Tensor:
            score = super().score(signals)
            trace.scored(score)
            return score

        def select(self, signals: Any, *amount: Any) -> Any:
            selection = super().select(signals, *amount)
            (trace.selected if isinstance(selection, Selection) else trace.selected_inside)(signals, selection)
            return selection

    return Recording
