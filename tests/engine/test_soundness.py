"""Signals that are not finite are refused in one line, whatever the method; padding and masks may hold anything."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import pytest
import torch
from torch import Tensor

from tests.conftest import make_batch, make_llava
from tests.families.test_guarantees import methods_of
from tests.methods.decoder_signals import LAYOUTS, signals_of
from vlmprune import prune
from vlmprune.config.registry import build_method
from vlmprune.engine import signals as signals_module
from vlmprune.engine.contract import non_finite, non_finite_samples
from vlmprune.engine.hooks import attention_rows
from vlmprune.methods.base import Selection, SequenceMethod, Signals
from vlmprune.methods.decoder_method import DecoderMethod, DecoderSelection, DecoderSignals, DecoderStage
from vlmprune.methods.scm import ScaleCompression
from vlmprune.methods.sparsevlm import SparseVLM

INSIDE = [name for name in methods_of("llava") if build_method(name).stage == "decoder"]
BEFORE = sorted(set(methods_of("llava")) - set(INSIDE))


@dataclass
class Longest(SequenceMethod):
    """A user's own method, which ranks without a score of the engine's."""

    needs: ClassVar = ("features",)

    def select(self, signals: Signals, k: int) -> Selection:
        return Selection(signals.features.float().norm(dim=2).topk(k).indices.sort(dim=1).values)


@dataclass
class Undefined(DecoderMethod):
    """A user's own method inside the decoder, whose score is 0 / 0."""

    def schedule(self, depth: int, n: int) -> list[DecoderStage]:
        return [DecoderStage(2, 9)]

    def score(self, signals: DecoderSignals) -> Tensor:
        nothing = torch.zeros_like(signals.hidden[..., 0])
        return nothing / nothing


def spoil(module: torch.nn.Module, value: float) -> None:
    """One number of what `module` gives for its last input row becomes `value`."""

    def hook(_module, _args, output):
        hidden = (output[0] if isinstance(output, tuple) else output).clone()
        hidden[-1, -1, 3] = value
        return (hidden, *output[1:]) if isinstance(output, tuple) else hidden

    module.register_forward_hook(hook)


def run(model, method, **settings) -> None:
    with torch.no_grad(), prune(model, method, **settings):
        model(**make_batch([8, 11]))


@pytest.mark.parametrize("value", [torch.nan, torch.inf])
@pytest.mark.parametrize("name", [*BEFORE, "user"])
def test_overflow_in_the_vision_encoder(name: str, value: float) -> None:
    model = make_llava()
    spoil(model.model.vision_tower.encoder.layers[1], value)
    with pytest.raises(RuntimeError, match="not finite"):
        if name == "user":
            run(model, Longest(ratio=0.6))
        else:
            run(model, name, ratio=0.6)


@pytest.mark.parametrize("value", [torch.nan, torch.inf])
@pytest.mark.parametrize("name", BEFORE)
def test_overflow_in_the_projector(name: str, value: float) -> None:
    """In one channel, and not the first, by which dropped tokens are told."""
    model = make_llava()
    hook = model.model.multi_modal_projector.register_forward_hook(
        lambda _m, _a, output: output.index_fill(-1, torch.tensor([3]), value)
    )
    with pytest.raises(RuntimeError, match="not finite"):
        run(model, name, ratio=0.6)
    hook.remove()


@pytest.mark.parametrize("value", [torch.nan, torch.inf])
@pytest.mark.parametrize("name", INSIDE)
def test_overflow_in_the_decoder(name: str, value: float) -> None:
    model = make_llava()
    spoil(model.model.language_model.layers[0], value)
    with pytest.raises(RuntimeError, match=r"scores are nan before decoder layer \d.* dtype=bfloat16 or float32"):
        run(model, name, ratio=0.6)


def test_a_score_that_is_no_number() -> None:
    with pytest.raises(RuntimeError, match="Undefined: scores are nan before decoder layer 2"):
        run(make_llava(), Undefined(ratio=0.5))


@pytest.mark.parametrize("method", [SparseVLM(recycle=False), ScaleCompression()])
def test_only_what_is_read_counts(method: DecoderMethod) -> None:
    """Padding may be nan, in embeddings and as rows of attention; real tokens and rating rows may not."""
    signals = signals_of(LAYOUTS, method)

    def unsound() -> list[bool]:
        stages = [DecoderStage(2, 4)] * len(LAYOUTS)
        return non_finite_samples(signals, method.select(signals, stages)).tolist()

    signals.hidden[~signals.valid] = torch.nan
    assert unsound() == [False, False, False]
    silent = torch.zeros_like(signals.raters)
    silent[2, 0] = True
    signals.raters &= ~silent
    signals.attention[2, :, 0] = torch.nan
    if isinstance(method, SparseVLM):
        assert unsound() == [False, False, False]
    signals.raters |= silent
    assert unsound() == [False, False, True]
    signals.hidden[1, -1, 0] = torch.inf
    assert unsound() == [False, True, True]


def test_merged_tokens_count_and_dropped_ones_do_not() -> None:
    signals = signals_of(LAYOUTS, SparseVLM())
    keep = signals.visual.clone()
    hidden = signals.hidden.clone()
    first = signals.visual[0].nonzero()[0]
    hidden[0, first] = torch.nan
    assert non_finite_samples(signals, DecoderSelection(keep, hidden)).tolist() == [True, False, False]
    keep[0, first] = False
    assert non_finite_samples(signals, DecoderSelection(keep, hidden)).tolist() == [False, False, False]


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32])
def test_large_numbers_are_finite(dtype: torch.dtype) -> None:
    x = torch.full((3, 4, 100), torch.finfo(dtype).max, dtype=dtype)
    x[1, :, ::2] *= -1
    assert non_finite(x).tolist() == [False] * 3
    x[1, 2, 3], x[2, 0, 0] = torch.inf, torch.nan
    assert non_finite(x).tolist() == [False, True, True]
    assert non_finite(x, 2)[1].tolist() == [False, False, True, False]


@pytest.mark.parametrize("name", ["cls", "vtc_cls", "vispruner", "visionzip"])
def test_attention_that_is_nan_beside_features_that_are_not(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """As where rows overflow and the model, which attends in another way, does not."""

    def rows(*given) -> Tensor:
        exact = attention_rows(*given)
        exact[-1, 0] = torch.nan  # one head of one image
        return exact

    monkeypatch.setattr(signals_module, "attention_rows", rows)
    with pytest.raises(RuntimeError, match="not finite"):
        run(make_llava(), name, ratio=0.6)


@pytest.mark.parametrize("token", [0, 17, 35])
def test_one_projected_token_that_is_nan(token: int) -> None:
    """DivPrune reads them all, and chose arbitrarily where the broken one was not among the kept."""
    model = make_llava()

    def spoil_token(_module, _args, output: Tensor) -> Tensor:
        output = output.clone()
        output[0, token, 3] = torch.nan
        return output

    model.model.multi_modal_projector.register_forward_hook(spoil_token)
    with pytest.raises(RuntimeError, match="not finite"):
        run(model, "divprune", ratio=0.9)
