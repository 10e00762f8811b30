"""Counts what torch computes, part by part, and compares it with the formula."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from vlmprune.engine.session import Session
from vlmprune.measure.flops import question_flops
from vlmprune.methods.base import Method
from vlmprune.models.base import Adapter, EncoderInput, adapt

NEW = 3
PROMPT = ("input_ids", "attention_mask", "mm_token_type_ids")


class Meter:
    """Adds what torch counts to the innermost part that is running; an engine's clock, too."""

    def __init__(self, counter: FlopCounterMode) -> None:
        self.counter, self.parts, self.running, self.seen = counter, Counter(), ["other"], 0

    @contextmanager
    def __call__(self, part: str) -> Iterator[None]:
        self._settle()
        self.running.append(part)
        yield
        self._settle()
        self.running.pop()

    def _settle(self) -> None:
        now = self.counter.get_total_flops()
        self.parts[self.running[-1]] += now - self.seen
        self.seen = now

    @contextmanager
    def watch(self, module: Any, *names: str) -> Iterator[None]:
        """Count `module` under one name after the other, call by call, the last for good."""
        forward, left = module.forward, list(names)

        def watched(*args, **kwargs):
            with self(left.pop(0) if len(left) > 1 else left[0]):
                return forward(*args, **kwargs)

        module.forward = watched
        try:
            yield
        finally:
            del module.forward


def encoded_of(adapter: Adapter, batch: dict[str, torch.Tensor]) -> EncoderInput:
    """Inputs of the encoder from a batch of one prompt, after the way through predictions.jsonl."""
    media = {name: tensor for name, tensor in batch.items() if name not in PROMPT}
    return EncoderInput.from_dict(json.loads(json.dumps(EncoderInput.from_tensors(adapter, media).as_dict())))


def compare(model: Any, method: Method, batch: dict[str, torch.Tensor], text_tower: Any = None, **options: Any) -> None:
    """Formula and counter, part by part, on a batch of one prompt and NEW tokens. options: of the adapter."""
    adapter = adapt(model, options)
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        meter = Meter(counter)
        with counted(adapter, meter), Session(adapter, method, meter, text_tower) as session:
            session.ask(["which?"])
            model.generate(**batch, max_new_tokens=NEW, do_sample=False, pad_token_id=0, eos_token_id=None)
    visual = [counts[0] for counts in session.record.visual_counts]
    words = session.record.prompt_lengths[0] - visual[0]
    clip = None if text_tower is None else text_tower.clip.config
    formula = question_flops(adapter, method, encoded_of(adapter, batch), visual, words, NEW, clip).as_dict()
    parts = dict(meter.parts)
    parts["selection"] = parts.get("selection", 0) + parts.pop("other")  # the engine's, outside any module
    assert formula.pop("total") == pytest.approx(counter.get_total_flops(), rel=0.005)
    assert formula == pytest.approx(dict.fromkeys(formula, 0) | parts, rel=0.005)


@contextmanager
def counted(adapter: Adapter, meter: Meter) -> Iterator[None]:
    """Watch the modules that the formula's parts are."""
    with ExitStack() as stack:
        for tower in adapter.vision_towers:
            stack.enter_context(meter.watch(tower, "vision"))
        stack.enter_context(meter.watch(adapter.projector, "projector"))
        stack.enter_context(meter.watch(adapter.language_model, "prefill", "decode"))
        stack.enter_context(meter.watch(adapter.model.lm_head, "prefill", "decode"))
        yield
