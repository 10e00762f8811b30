"""Methods that restart the decoder: its first layers run on the full prompt, only to score its visual tokens.

Then the decoder runs on the shortened prompt from layer 0 on, so that every layer's KV cache holds kept tokens only.
"""

from __future__ import annotations

from typing import Any

from torch import Tensor
from transformers.masking_utils import create_causal_mask

from vlmprune.methods.decoder_base import DecoderMethod, DecoderSignals, DecoderStage
from vlmprune.pruning.adapter import Adapter
from vlmprune.pruning.contract import Contract
from vlmprune.pruning.counts import stages_of
from vlmprune.pruning.precision import full_precision
from vlmprune.pruning.probe import Probe, not_seen
from vlmprune.pruning.running import Running, trailing_attention
from vlmprune.pruning.soundness import Soundness, unsound_samples


class Scout:
    """Run of the first K layers that selects visual tokens; it probes the attention of layer K-1 and hooks nothing."""

    def __init__(self, adapter: Adapter, method: DecoderMethod) -> None:
        self.adapter, self.method, self.contract = adapter, method, Contract(method)
        self.layer = stages_of(method, "schedule", adapter.decoder_depth, 1)[0].layer
        self._running: Running | None = None
        self._attention: Tensor | None = None
        self._soundness = Soundness()
        self._probes: list[Probe] = []

    def install(self) -> None:
        """Install the probe."""
        self._probes.append(Probe(self.adapter.decoder_attention(self.layer - 1), self._observe))

    def remove(self) -> None:
        """Remove the probe."""
        for probe in self._probes:
            probe.remove()
        self._probes = []

    def _observe(self, query: Tensor, key: Tensor, _mask: Tensor | None, scaling: float) -> None:
        if self._running is not None:
            self._attention = trailing_attention(query, key, self._running, scaling)

    def check(self) -> None:
        """Raise RuntimeError at the end of a prefill if it selected by scores that are nan. One host sync."""
        self._soundness.check(self.method)

    def choose(
        self, embeds: Tensor, positions: Tensor, running: Running, texts: list[int], visual_counts: list[int]
    ) -> tuple[Tensor, list[int]]:
        """Return bool [B, L], True at text and kept visual tokens, and the number of kept visual tokens of each prompt.

        embeds: [B, L, D]. positions: [..., B, L]. texts, visual_counts: tokens of each kind in each prompt.
        """
        model = self.adapter.language_model
        self._soundness.clear()
        with full_precision(embeds.device):
            raters = self.contract.raters(embeds, running.visual, running.valid)
        running = running.rated_by(raters, texts)
        mask = create_causal_mask(
            config=model.config,
            inputs_embeds=embeds,
            attention_mask=running.valid,
            past_key_values=None,
            position_ids=positions,
        )
        rotary = model.rotary_emb(embeds, position_ids=positions)
        hidden: Any = embeds
        self._running, self._attention = running, None
        for index in range(self.layer):
            layer = self.adapter.decoder_layer(index)
            hidden = layer(hidden, attention_mask=mask, position_ids=positions, position_embeddings=rotary)
        self._running = None
        if self._attention is None:
            raise not_seen(self.adapter.decoder_attention(self.layer - 1))
        signals = DecoderSignals(
            attention=self._attention,
            raters=running.raters[:, -self._attention.shape[2] :],
            hidden=hidden,
            visual=running.visual,
            detail=running.detail,
            valid=running.valid,
            positions=positions,
            frequencies=model.rotary_emb.inv_freq,
        )
        stages = [DecoderStage(self.layer, n) for n in visual_counts]
        with full_precision(hidden.device):
            chosen = self.contract.choose(signals, stages, visual_counts)
        self._soundness.note(self.layer, unsound_samples(signals, chosen))
        assert chosen.left is not None
        return chosen.keep | (running.valid & ~running.visual), chosen.left
