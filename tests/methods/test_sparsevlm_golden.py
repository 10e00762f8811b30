"""SparseVLM and SparseVLM+ against the authors' code, stage by stage, on signals made without the engine."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch
from torch import Tensor

from tests.methods.golden import MERGED, Vectors
from tests.methods.llama import frequencies, layer
from vlmprune.methods.decoder_method import DecoderSelection, DecoderSignals
from vlmprune.methods.sparsevlm import SparseVLM, SparseVLMPlus, TextRatedMethod, merge_clusters, ranks

V1, PLUS, UNITS = Vectors("sparsevlm_v1"), Vectors("sparsevlm_plus"), Vectors("sparsevlm_units")
WEIGHTS = {SparseVLM: Vectors("sparsevlm_v1_weights"), SparseVLMPlus: Vectors("sparsevlm_plus_weights")}
HEADS = {SparseVLM: 8, SparseVLMPlus: 16}
CASES = [(SparseVLM, V1, 192), (SparseVLM, V1, 64), (SparseVLMPlus, PLUS, 192), (SparseVLMPlus, PLUS, 64)]
START, N, LENGTH = V1["meta_S_N_L"].tolist()


def inside(length: int, n: int) -> Tensor:
    """bool [1, length]: the `n` visual positions of the recorded prompts."""
    return ((torch.arange(length) >= START) & (torch.arange(length) < START + n)).unsqueeze(0)


def run(method: TextRatedMethod, x: Tensor) -> Iterator[tuple[DecoderSignals, DecoderSelection, Tensor]]:
    """Signals and selection of each stage, and the source of each new position."""
    everywhere = torch.ones(1, LENGTH, dtype=torch.bool)
    visual = inside(LENGTH, N)
    raters = method.raters(x, visual, everywhere)
    positions = torch.arange(LENGTH)
    heads = HEADS[type(method)]
    for index, stage in enumerate(method.stages(32, N)):
        x, attention = layer(WEIGHTS[type(method)], f"l{index}", x, positions, heads)
        rows = LENGTH - START - N
        signals = DecoderSignals(
            attention[:, :, -rows:],
            raters[:, -rows:],
            x,
            visual,
            visual,
            everywhere[:, : x.shape[1]],
            positions.unsqueeze(0),
            frequencies(x.shape[2] // heads),
        )
        chosen = method.select(signals, [stage])
        key = torch.arange(x.shape[1]) if chosen.order is None else chosen.order[0]
        source = key.argsort(stable=True)
        source = source[(chosen.keep | ~visual)[0, source]]
        yield signals, chosen, source
        x = (x if chosen.hidden is None else chosen.hidden)[:, source]
        visual, raters = visual[:, source], raters[:, source]
        positions = positions[source] if method.position_rule == "keep" else torch.arange(len(source))


@pytest.mark.parametrize(("cls", "vectors", "budget"), CASES)
def test_raters_are_the_authors(cls: type[TextRatedMethod], vectors: Vectors, budget: int) -> None:
    rates = cls().raters(vectors["x"], inside(LENGTH, N), torch.ones(1, LENGTH, dtype=torch.bool))
    assert torch.equal(rates.nonzero()[:, 1] - START - N, vectors[f"b{budget}.raters"])


@pytest.mark.parametrize(("cls", "vectors", "budget"), CASES)
def test_every_stage_is_the_authors(cls: type[TextRatedMethod], vectors: Vectors, budget: int) -> None:
    method = cls(retain=budget)
    seen = 0
    origin = torch.arange(LENGTH)
    for index, (signals, chosen, source) in enumerate(run(method, vectors["x"])):
        name = f"b{budget}.s{index}"
        n = int(signals.visual.sum())
        visual = slice(START, START + n)
        rtol = 1e-4 if cls is SparseVLM else 2e-3  # SparseVLM+ divides by numbers that may be close to 0
        torch.testing.assert_close(method.score(signals)[0, visual], vectors[f"{name}.score"], rtol=rtol, atol=1e-6)

        left = int(chosen.keep.sum())
        kept = source[START : START + len(vectors[f"{name}.kept_local"])]
        assert torch.equal(kept - START, vectors[f"{name}.kept_local"])
        if cls is SparseVLM:
            candidates, clusters = vectors[f"{name}.merge_n"].tolist()
            stage = method.stages(32, N)[index]
            assert (stage.candidates, stage.merged) == (candidates, clusters)
            merged = source[START + len(kept) : START + left]
            torch.testing.assert_close(chosen.hidden[0, merged], vectors[f"{name}.merged"], **MERGED)
            origin[merged] = -1001 - 100 * index - torch.arange(clusters)  # how the vectors name merged tokens
        origin = origin[source]
        assert torch.equal(origin, vectors[f"{name}.tokens"])
        seen += 1
    assert seen == 3


@pytest.mark.parametrize("case", [name.removesuffix(".x") for name in UNITS.budgets("cm_") if name.endswith(".x")])
def test_merging_is_the_authors(case: str) -> None:
    expected = UNITS[f"cm_{case}.y"]
    _, merged = merge_clusters(UNITS[f"cm_{case}.x"].unsqueeze(0), len(expected))
    torch.testing.assert_close(merged[0], expected, **MERGED)


def test_the_rank_decides_as_in_the_authors_first_version() -> None:
    maps = UNITS["rank0.attn"]  # [H, text, visual]
    start, n, scale, bias = UNITS["rank0.params"].tolist()
    start, n = int(start), int(n)
    text = maps.shape[1]
    attention = torch.nn.functional.pad(maps, (start, text)).unsqueeze(0)
    raters = torch.zeros(1, text, dtype=torch.bool)
    raters[0, UNITS["rank0.tid"]] = True
    visual = (attention[:, 0] > 0).any(dim=1)
    assert visual.sum() == n
    signals = DecoderSignals(attention, raters, attention[0].mT, visual, visual, visual, visual, attention)
    method = SparseVLM(rank_adaptive=True, scale=scale, bias=bias, recycle=False, layers=(2, 6, 15, 19))
    chosen = method.select(signals, [method.stages(32, n)[0]])
    assert ranks(signals) == [[UNITS["rank0.rank"].item(), n]]
    assert torch.equal(chosen.keep[0].nonzero()[:, 0] - start, UNITS["rank0.keep"])
    assert chosen.left == [len(UNITS["rank0.keep"])]
