"""Decoders of many kinds as a LLaVA's: pruned as the masked model, or refused in one line; never wrong in silence."""

from __future__ import annotations

import re
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from transformers import AutoConfig, LlavaForConditionalGeneration

from tests.conftest import IMAGE_TOKEN, PATCHES, make_batch, one_of
from tests.families import llava
from tests.families.test_guarantees import (
    GREEDY,
    check_masked,
    check_ratio_0,
    generate,
    masked_generate,
    seen_by_layer,
)
from tests.toy_models import TEXT, toy_llava
from vlmprune import prune
from vlmprune.cli import main
from vlmprune.config.registry import find_choices
from vlmprune.engine.hooks import AttentionProbe, check_softmax
from vlmprune.errors import NotApplicable
from vlmprune.models.base import adapt
from vlmprune.models.checkpoint import published_config
from vlmprune.models.compatibility import DecoderStructure, read_structure

SIZES = TEXT | {"pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2}
EXPERTS = {"head_dim": 8, "num_local_experts": 4, "num_experts_per_tok": 2}
WORKS: dict[str, dict[str, Any]] = {  # with every method
    "llama": {},
    "mistral": {"sliding_window": None},
    "qwen2": {},
    "qwen3": {"head_dim": 8},
    "gemma": {"head_dim": 8},
    "phi3": {},
    "granite": {},
    "cohere": {"use_qk_norm": True},
    "glm": {"head_dim": 8},  # rotates half of each head
    "stablelm": {},
    "smollm3": {},  # some of its layers have no positions
    "mixtral": {"num_local_experts": 2, "sliding_window": None},
}
NO_OWN: dict[str, tuple[dict[str, Any], str]] = {  # inside, but not by reading a layer's own attention before it
    "olmo2": ({}, "attention in its decoder's Olmo2DecoderLayer does not read the output of input_layernorm"),
    "apertus": ({}, "attention in its decoder's ApertusDecoderLayer does not read the output of input_layernorm"),
}
NO_INSIDE: dict[str, tuple[dict[str, Any], str]] = {
    "gpt_neox": ({}, "its decoder's GPTNeoXLayer has no self_attn"),
    "gpt_oss": (
        EXPERTS | {"layer_types": ["full_attention"] * 6},
        "its decoder's GptOssAttention attends with s_aux, not by q.k alone",
    ),
    "llama4_text": (
        EXPERTS | {"intermediate_size_mlp": 64},
        "its decoder Llama4TextModel has layers of chunked_attention",
    ),
}
WINDOWS = {"mistral": {"sliding_window": 16}, "gemma3_text": {"head_dim": 8, "sliding_window": 16}}
ONE_BY_ONE = {"gpt_oss"}  # kernels of transformers that it has none but eager for
NO_POSITIONS = {"gpt2": {}, "opt": {}, "biogpt": {}, "mamba": {}, "bloom": {}}


def text_config(kind: str, **settings: Any) -> Any:
    return AutoConfig.for_model(kind, **SIZES | settings)


def make(kind: str, **settings: Any) -> LlavaForConditionalGeneration:
    """A LLaVA with this decoder, weights large enough for distinct logits."""
    attention = "eager" if kind in ONE_BY_ONE else "sdpa"
    model = toy_llava(text_config(kind, **settings), IMAGE_TOKEN, attention=attention, scale=1)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if parameter.dim() > 1:
                parameter.mul_(3)
            elif "sinks" in name:
                parameter.fill_(1.0)
    return model


def check_before(model: Any, inputs: dict) -> None:
    """Ratio 0 changes no bit; kept positions equal the masked model, renumbered ones a shorter prompt."""
    check_ratio_0(model, inputs, ["uniform"], llava.slots)
    with prune(model, "uniform", ratio=0.6, positions="keep") as session:
        kept = model.generate(**inputs, **GREEDY | {"max_new_tokens": 9})[:, -9:]
    adapter = adapt(model)
    seen = seen_by_layer(adapter, inputs, session.record)
    assert torch.equal(kept, masked_generate(model, adapter, inputs, seen, 9, first=0))
    check_shorter(model, inputs)


def check_shorter(model: Any, inputs: dict) -> None:
    """Renumbered, what is left is a prompt as any other; a batch gives what its samples give."""
    with prune(model, "uniform", ratio=0.6, positions="renumber") as session:
        logits, tokens = model(**inputs).logits[:, -1], generate(model, inputs)
        alone = [generate(model, one_of(inputs, row))[0] for row in range(len(logits))]
        model(**inputs)
    assert torch.equal(torch.stack(alone), tokens)
    seen, decoder, given = seen_by_layer(adapt(model), inputs, session.record), model.model.language_model, {}
    handle = decoder.register_forward_pre_hook(lambda _, __, kwargs: given.update(kwargs), with_kwargs=True)
    model(**inputs)
    handle.remove()
    for row, stays in enumerate(seen):
        hidden = decoder(inputs_embeds=given["inputs_embeds"][row : row + 1, stays])[0]
        expected = model.lm_head(hidden[0, -1])
        torch.testing.assert_close(
            logits[row] / expected.abs().max(), expected / expected.abs().max(), rtol=0, atol=1e-4
        )


def check_inside(model: Any, inputs: dict) -> None:
    """FastV's tokens are gone as if masked, and are those that the map of layer 1's attention says."""
    record = check_masked(model, inputs, "fastv")
    with_map = type(model)._from_config(model.config, attn_implementation="eager").eval()
    with_map.load_state_dict(model.state_dict())
    rows = with_map(**inputs, output_attentions=True).attentions[1].mean(1)[:, -1]
    for row, kept in enumerate(record.kept):
        visual = rows[row][adapt(model).visual_mask(inputs["input_ids"])[row]]
        assert torch.equal(visual.topk(int(kept.sum())).indices.sort().values, kept.nonzero().flatten())


@pytest.fixture
def inputs() -> dict:
    return make_batch([8, 12])


def refused(model: Any, method: str, reason: str, **settings: Any) -> str:
    """The line that `prune` refuses the method with."""
    with pytest.raises(NotApplicable, match=re.escape(reason)) as caught:
        prune(model, method, ratio=0.5, **settings)
    line = str(caught.value)
    assert line.startswith(f"method={method}: ") and "\n" not in line
    return line


OFTEN = ("llama", "mistral", "qwen2", "qwen3")  # the families' own


@pytest.mark.parametrize("kind", [pytest.param(k, marks=[] if k in OFTEN else pytest.mark.slow) for k in WORKS])
def test_decoders_that_work_equal_the_masked_model(kind, inputs):
    model = make(kind, **WORKS[kind])
    check_before(model, inputs)
    check_inside(model, inputs)
    for method in ("pyramiddrop", "sparsevlm", "sparsevlm_plus", "compose"):
        with prune(model, method, ratio=0) as session:
            assert torch.equal(model(**inputs).logits, model(**inputs).logits)
        with prune(model, method, ratio=0.7) as session:
            tokens = generate(model, inputs)
            for row in range(2):
                assert torch.equal(generate(model, one_of(inputs, row))[0], tokens[row]), method
        assert session.record.visual_counts[-1][0] < PATCHES


@pytest.mark.parametrize("kind", NO_OWN)
def test_a_layer_whose_attention_cannot_be_read_before_it_runs(kind, inputs):
    settings, reason = NO_OWN[kind]
    model = make(kind, **settings)
    check_before(model, inputs)
    check_inside(model, inputs)
    line = refused(model, "pyramiddrop", reason)
    assert "methods that work" in line and "fastv" in line and "pyramiddrop" not in line.partition(";")[2]
    for method in ("sparsevlm", "sparsevlm_plus"):
        with prune(model, method, ratio=0.7):
            generate(model, inputs)


@pytest.mark.parametrize("kind", NO_INSIDE)
def test_attention_that_the_engine_does_not_know(kind, inputs):
    settings, reason = NO_INSIDE[kind]
    model = make(kind, **settings)
    check_before(model, inputs)
    for method in ("fastv", "pyramiddrop", "sparsevlm", "sparsevlm_plus", "compose"):
        line = refused(model, method, reason)
        assert "methods that work" in line and "divprune" in line and "fastv" not in line.partition(";")[2]


@pytest.mark.parametrize("kind", WINDOWS)
def test_windows_of_attention(kind, inputs):
    """A window counts tokens: those that are left, where the masked model's would count the dropped ones."""
    model = make(kind, **WINDOWS[kind])
    check_shorter(model, inputs)
    refused(model, "fastv", "which has sliding-window attention")
    refused(model, "uniform", "positions=keep", positions="keep")
    refused(model, "compose", "sliding-window attention")


@pytest.mark.parametrize("kind", NO_POSITIONS)
def test_decoders_without_rotary_positions(kind):
    """Learned positions are counted in ways of their own, and some decoders have no positions at all."""
    structure = read_structure(AutoConfig.for_model(kind))
    assert structure.before.endswith(("has no rotary positions", "has no layers"))
    assert structure.before == structure.inside == structure.own


def test_soft_capping():
    """Of Gemma 2, whose rows would be those of another softmax."""
    found = read_structure(text_config("gemma2", head_dim=8, layer_types=["full_attention"] * 6))
    assert found.inside == "its decoder's Gemma2Attention attends with softcap, not by q.k alone"


@pytest.mark.parametrize("name", find_choices("architecture"))
def test_published_models_are_not_refused(name):
    assert read_structure(published_config(name).text_config) == DecoderStructure()


def test_the_command_line_refuses_before_weights_load(tmp_path, capsys):
    config = make("olmo2").config
    config.save_pretrained(tmp_path)
    save_file({"no_weight_of_it": torch.zeros(1)}, tmp_path / "model.safetensors")
    where = ["model=path", f"model.path={tmp_path}", "ratio=0.5"]
    assert main(["run", *where, "method=pyramiddrop"]) == 2
    (line,) = [line for line in capsys.readouterr().err.splitlines() if line.startswith("vlmprune:")]
    assert "method=pyramiddrop: attention in its decoder's Olmo2DecoderLayer does not read" in line


@pytest.mark.parametrize("extra", ["softcap", "s_aux", "sinks", "position_bias", "alibi"])
def test_a_probe_refuses_another_softmax(extra):
    attention = make("llama").model.language_model.layers[0].self_attn
    check_softmax(attention, 9, {"scaling": 1.0, "logits_to_keep": 1, "sliding_window": 9})
    with pytest.raises(NotImplementedError, match=f"LlamaAttention attends with {extra}"):
        check_softmax(attention, 9, {"scaling": 1.0, extra: torch.ones(1)})
    with pytest.raises(NotImplementedError, match="attends with sliding_window"):
        check_softmax(attention, 9, {"scaling": 1.0, "sliding_window": 8})
    with pytest.raises(NotImplementedError, match=r"does not say what it multiplies q\.k by"):
        check_softmax(attention, 9, {})


def test_a_probe_asks_before_it_shows_anything():
    model, seen = make("llama"), []
    attention = model.model.language_model.layers[1].self_attn
    probe = AttentionProbe(attention, lambda *given: seen.append(given))
    cos = torch.ones(1, 4, 8)
    try:
        with pytest.raises(NotImplementedError, match="softcap"):
            attention(torch.ones(1, 4, 32), position_embeddings=(cos, 0 * cos), attention_mask=None, softcap=30.0)
    finally:
        probe.remove()
    assert not seen
