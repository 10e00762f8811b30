"""All hooks of a method on one model, installed and removed together."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from vlmprune.engine.adapter import ModelInterface, TextRelevance
from vlmprune.engine.before_lm import SequenceStage
from vlmprune.engine.encoding_cache import CachedEncoder, EncodingStore
from vlmprune.engine.in_encoder import VisionStage
from vlmprune.engine.in_lm import DecoderHooks, Restart
from vlmprune.engine.observer import SelectionObserver
from vlmprune.engine.timing import Clock
from vlmprune.methods.base import Method, SequenceMethod
from vlmprune.methods.decoder_method import DecoderMethod
from vlmprune.methods.encoder_method import VisionMethod


class MethodHooks:
    """The installed parts of a method, each None if it has no such part.

    sequence: acts in the encoder or before decoder layer 0. restart: runs layers to select, before the decoder
    restarts. decoder: drops before layers K > 0. cached_encoder: takes encodings from the encoding store.
    """

    def __init__(self) -> None:
        self.sequence: SequenceStage | None = None
        self.restart: Restart | None = None
        self.decoder: DecoderHooks | None = None
        self.cached_encoder: CachedEncoder | None = None

    @property
    def drops_tokens(self) -> bool:
        """True if any part drops or merges tokens."""
        return any(stage is not None for stage in (self.sequence, self.decoder, self.restart))

    @property
    def selects_in_decoder(self) -> bool:
        """True if tokens are selected by decoder layers."""
        return self.decoder is not None or self.restart is not None

    @property
    def owners(self) -> Tensor | None:
        """int64 [images, N]: index of the merged token of each patch; None for methods that do not merge patches."""
        return getattr(self.sequence, "owners", None)

    def install(
        self,
        adapter: ModelInterface,
        whole: Method,
        parts: tuple[Method, ...],
        clock: Clock,
        text_tower: TextRelevance | None,
        observer: SelectionObserver | None,
    ) -> None:
        """Install `parts`, the acting parts of the method `whole`."""
        for part in parts:
            if isinstance(part, SequenceMethod):
                self.sequence = SequenceStage(adapter, part, clock, text_tower, whole, observer)
                self.sequence.install()
            elif isinstance(part, VisionMethod):
                self.sequence = VisionStage(adapter, part, clock, observer)
                self.sequence.install()
            elif isinstance(part, DecoderMethod) and part.restarts:
                self.restart = Restart(adapter, part, observer)
                self.restart.install()
            elif isinstance(part, DecoderMethod):
                self.decoder = DecoderHooks(adapter, part, clock, observer)
                self.decoder.install()
            else:
                raise NotImplementedError(f"{type(part).__name__}: no engine for stage '{part.stage}'")

    def install_store(self, adapter: ModelInterface, features: EncodingStore | None) -> None:
        """Look encodings up in `features`, if the encoder's result does not depend on the method or the batch."""
        if features is None or not adapter.encodes_tiles_apart or isinstance(self.sequence, VisionStage):
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
