"""All hooks of a method on one model, installed and removed together."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from vlmprune.engine.adapter import ModelInterface, TextRelevance
from vlmprune.engine.before_lm import SequenceStage
from vlmprune.engine.encoder_hooks import EncoderHooks
from vlmprune.engine.encoding_cache import CachedEncoder, EncodingStore
from vlmprune.engine.in_encoder import VisionStage
from vlmprune.engine.in_lm import DecoderHooks, Restart
from vlmprune.engine.observer import SelectionObserver
from vlmprune.engine.timing import Clock
from vlmprune.methods.base import Method, SequenceMethod, acting_parts
from vlmprune.methods.decoder_method import DecoderMethod
from vlmprune.methods.encoder_method import VisionMethod


class MethodHooks:
    """The installed parts of a method, each None if it has no such part.

    sequence: acts in the encoder or before decoder layer 0. restart: runs layers to select, before the decoder
    restarts. decoder: drops before layers K > 0. cached_encoder: takes encodings from the encoding store.
    """

    def __init__(self) -> None:
        self.sequence: EncoderHooks | None = None
        self.restart: Restart | None = None
        self.decoder: DecoderHooks | None = None
        self.cached_encoder: CachedEncoder | None = None

    @property
    def drops_tokens(self) -> bool:
        """True if any part drops or merges tokens."""
        return any(stage is not None for stage in (self.sequence, self.decoder, self.restart))

    @property
    def changes_encoder(self) -> bool:
        """True if encoder layers compute something else than without the method."""
        return self.sequence is not None and self.sequence.changes_encoder

    @property
    def selects_in_decoder(self) -> bool:
        """True if tokens are selected by decoder layers."""
        return self.decoder is not None or self.restart is not None

    @property
    def owners(self) -> Tensor | None:
        """int64 [images, N]: index of the merged token of each patch; None for methods that do not merge patches."""
        return getattr(self.sequence, "owners", None)

    def build(
        self,
        adapter: ModelInterface,
        method: Method,
        clock: Clock,
        text_tower: TextRelevance | None,
        observer: SelectionObserver | None,
    ) -> None:
        """Set the stages of the method's acting parts: the one place that knows the hooks of each kind."""
        for part in acting_parts(method, adapter.tower):
            match part:
                case SequenceMethod():
                    self.sequence = SequenceStage(adapter, part, clock, text_tower, method, observer)
                case VisionMethod():
                    self.sequence = VisionStage(adapter, part, clock, observer)
                case DecoderMethod() if part.restarts:
                    self.restart = Restart(adapter, part, observer)
                case DecoderMethod():
                    self.decoder = DecoderHooks(adapter, part, clock, observer)
                case _:
                    raise NotImplementedError(f"{type(part).__name__}: no engine for stage '{part.stage}'")

    def install(self, adapter: ModelInterface, features: EncodingStore | None) -> None:
        """Install all stages, and look encodings up in `features` if they depend on neither method nor batch."""
        for stage in (self.sequence, self.restart, self.decoder):
            if stage is not None:
                stage.install()
        if features is None or not adapter.encodes_tiles_apart or self.changes_encoder:
            return
        self.cached_encoder = CachedEncoder(adapter, features, self.sequence.reader if self.sequence else None)
        self.cached_encoder.install()

    def hooked_layers(self, adapter: ModelInterface) -> list[Any]:
        """Return the layers of encoder and decoder in which the method acts or reads signals."""
        encoder = range(adapter.tower.depth) if self.sequence is not None and self.sequence.acts_in_layers else ()
        decoder = range(adapter.decoder_depth) if self.selects_in_decoder else ()
        own = [layer for index in encoder for layer in adapter.vision_layers(index)]
        return own + [adapter.decoder_layer(index) for index in decoder]

    def check(self) -> None:
        """Raise RuntimeError after a forward pass if a decoder hook did not run at prefill, or scores are nan."""
        for stage in (self.decoder, self.restart):
            if stage is not None:
                stage.check()

    def set_prompts(self, ids: Tensor | None) -> None:
        """Set the prompts, int64 [B, L], whose images are encoded next."""
        if self.sequence is not None:
            self.sequence.prompts = ids

    def clear_counts(self) -> None:
        """Clear the counts of this call's encodings."""
        if self.sequence is not None:
            self.sequence.clear_counts()

    def remove(self) -> None:
        """Remove all hooks, and restore the model."""
        for stage in (self.cached_encoder, self.sequence, self.decoder, self.restart):
            if stage is not None:
                stage.remove()
