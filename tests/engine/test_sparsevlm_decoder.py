"""SparseVLM and SparseVLM+ through a whole decoder, against what the authors' code gave there."""

from __future__ import annotations

from functools import cache

import pytest
import torch

from tests.conftest import PATCHES, make_batch
from tests.engine.golden_llava import GoldenLlava
from tests.methods.golden import MERGED, Vectors
from vlmprune import prune
from vlmprune.methods.sparsevlm import SparseVLM, SparseVLMPlus, TextRatedMethod

FILES = {SparseVLM: "sparsevlm_v1", SparseVLMPlus: "sparsevlm_plus"}
HEADS = {SparseVLM: 8, SparseVLMPlus: 16}
LAYERS = [2, 6, 15]  # of 18; all others do nothing
START, N = 35, 576
CASES = [(SparseVLM, 192), (SparseVLM, 64), (SparseVLMPlus, 192), (SparseVLMPlus, 64)]


@cache
def llava(cls: type[TextRatedMethod]) -> tuple[GoldenLlava, Vectors]:
    vectors, weights = Vectors(FILES[cls]), Vectors(f"{FILES[cls]}_weights")
    x, dec = vectors["x"][0], vectors["dec"][0]
    return GoldenLlava(weights, x, dec, start=START, n=N, heads=HEADS[cls], depth=18, at=LAYERS), vectors


def method(cls: type[TextRatedMethod], budget: int) -> TextRatedMethod:
    return cls(layers=LAYERS, published_depth=18, retain=budget)


@pytest.mark.parametrize(("cls", "budget"), CASES)
def test_a_prompt_and_two_steps_are_the_authors(cls: type[TextRatedMethod], budget: int) -> None:
    golden, vectors = llava(cls)
    run = golden.run(method(cls, budget))
    torch.testing.assert_close(run.last[0], vectors[f"b{budget}.last"], **MERGED)
    torch.testing.assert_close(run.decode[:, 0], vectors[f"b{budget}.decode"], **MERGED)
    assert torch.equal(run.positions[:, LAYERS], vectors[f"b{budget}.decpos"])

    lengths = [len(vectors[f"b{budget}.s{stage}.tokens"]) for stage in range(3)]
    whole = len(golden.prompt())
    assert run.cache_lengths == [whole] * 3 + [lengths[0]] * 4 + [lengths[1]] * 9 + [lengths[2]] * 2
    tokens = vectors[f"b{budget}.s2.tokens"]
    unmerged = tokens[(tokens >= START) & (tokens < START + N)] - START
    assert run.record.kept[0, unmerged].all()
    assert run.record.kept.sum() == lengths[2] - golden.words
    if cls is SparseVLMPlus:
        assert torch.equal(run.record.kept[0].nonzero()[:, 0], unmerged)


@pytest.mark.parametrize(
    ("cls", "settings"),
    [
        (SparseVLM, {"retain": 128}),
        (SparseVLM, {"keep": 20, "positions": "keep"}),
        (SparseVLM, {"rank_adaptive": True}),
        (SparseVLMPlus, {"retain": 128}),
        (SparseVLMPlus, {"keep": 20, "positions": "renumber"}),
    ],
)
def test_a_batch_gives_what_its_samples_give(cls: type[TextRatedMethod], settings: dict) -> None:
    golden, _ = llava(cls)
    prompts = [golden.prompt(), golden.prompt(words=46)]
    method = cls(layers=LAYERS, published_depth=18, **settings)
    together = golden.run(method, prompts)
    for row, prompt in enumerate(prompts):
        alone = golden.run(method, [prompt])
        assert torch.equal(alone.record.kept[0], together.record.kept[row])
        assert alone.cache_lengths[-1] == len(prompt) - N + alone.record.kept.sum()
        torch.testing.assert_close(alone.last[0], together.last[row], **MERGED)
        torch.testing.assert_close(alone.decode[:, 0], together.decode[:, row], **MERGED)


@pytest.mark.parametrize("keep", [10, 0, None])
@pytest.mark.parametrize("name", ["sparsevlm", "sparsevlm_plus"])
def test_a_prompt_without_an_image_or_without_text_after_it(sdpa_model, name: str, keep: int | None) -> None:
    """Nothing rates there; in a batch with a usual prompt, and alone."""
    usual = make_batch([8])
    ids = usual["input_ids"][0]
    prompts = [ids, ids[:3].flip(0), ids[: 3 + PATCHES]]
    batch = torch.stack([torch.cat([ids.new_zeros(len(ids) - len(prompt)), prompt]) for prompt in prompts])
    options = {"max_new_tokens": 5, "do_sample": False, "pad_token_id": 0, "eos_token_id": None}

    def generate(ids: torch.Tensor, images: int) -> torch.Tensor:
        given = {"pixel_values": usual["pixel_values"].repeat(images, 1, 1, 1)} if images else {}
        return sdpa_model.generate(input_ids=ids, attention_mask=(ids != 0).long(), **given, **options)[:, -5:]

    with prune(sdpa_model, name, keep=keep) as session:
        together = generate(batch, 2)
        counts = session.record.visual_counts[-1]
        assert counts[0] == counts[2] < PATCHES
        assert counts[1] == 0
        for row, images in enumerate([1, 0, 1]):
            assert torch.equal(generate(prompts[row][None], images)[0], together[row])
