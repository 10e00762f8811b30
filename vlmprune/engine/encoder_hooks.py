"""Hooks around the vision encoder, shared by selection after it and merging inside it.

Order of events in one encoding (model.get_image_features or get_video_features):
    probes on the declared encoder layers collect the signals (signals.py); layers that nothing reads are skipped;
    the projector receives the kept tokens only, and its output is scattered back to full length, dropped slots marked
    NaN, so that transformers' placeholder checks, packing and beam expansion find the length that they expect;
    the language model's pre-hook (session.py) then drops the marked slots from the prompt.
A method that reads projected features selects after the projector. So does any method on a family whose projector mixes
tokens: there the encoding's result is marked.
"""

from __future__ import annotations

import inspect
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from vlmprune.engine.adapter import ModelInterface
from vlmprune.engine.contract import CheckedMethod, non_finite
from vlmprune.engine.hooks import MethodPatch
from vlmprune.engine.layout import Layout
from vlmprune.engine.observer import SelectionObserver
from vlmprune.engine.signals import SignalReader
from vlmprune.engine.timing import Clock
from vlmprune.methods.base import SequenceMethod
from vlmprune.methods.encoder_method import VisionMethod


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


class EncoderHooks(ABC):
    """Hooks that prune every encoding of the vision encoder by one method."""

    changes_encoder: ClassVar[bool] = False  # True if encoder layers compute something else than without the method

    def __init__(
        self,
        adapter: ModelInterface,
        method: SequenceMethod | VisionMethod,
        clock: Clock,
        observer: SelectionObserver | None,
    ) -> None:
        self.adapter, self.method, self.clock, self.observer = adapter, method, clock, observer
        self.checked_method = CheckedMethod(method)
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

    @abstractmethod
    def _select_tokens(self, name: str, features: Tensor) -> KeptTokens:
        """Return the tokens that are kept. features: [tiles, rows, C], the signal `name`."""

    @property
    def acts_in_layers(self) -> bool:
        """True if the method acts in encoder layers or reads signals of them, not just the encoder's output."""
        return self.changes_encoder or bool(self.reader.layered)

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
                arguments = signature.bind(*args, **kwargs).arguments
                self._encoder = encode
                try:
                    self._layout = self.adapter.layout(encode, arguments, self.method.scope_rule)
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
