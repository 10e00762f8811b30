"""Properties of every method that selects before the language model."""

import dataclasses

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from tests.methods.synthetic import image_of, in_dtype, kept_of, random_signals
from vlmprune.methods.base import SequenceMethod, Signals, Widths
from vlmprune.methods.baselines import Pool, Random, Uniform
from vlmprune.methods.cdpruner import CDPruner
from vlmprune.methods.cls import ClsAttention
from vlmprune.methods.divprune import DivPrune
from vlmprune.methods.prumerge import PruMerge, PruMergePlus
from vlmprune.methods.visionzip import VisionZip
from vlmprune.methods.vispruner import VisPruner
from vlmprune.methods.vtc_cls import VtcCls

PRUNING = [ClsAttention, VtcCls, Random, Uniform, VisPruner, DivPrune, CDPruner]
MERGING = [VisionZip, PruMerge, PruMergePlus]
GRID, N = (6, 8), 48
BUDGETS = [1, 2, 3, 5, 12, 24, 40, N - 1]


@pytest.mark.parametrize("k", BUDGETS)
@pytest.mark.parametrize("method", [*PRUNING, *MERGING])
def test_exact_count_of_distinct_slots(method: type[SequenceMethod], k: int) -> None:
    out = method(keep=k).select(random_signals(grid=GRID), k)
    assert out.indices.shape == (3, k)
    assert out.indices.dtype == torch.int64
    assert out.valid is None
    for slots in out.indices.tolist():
        assert len(set(slots)) == k
        assert set(slots) <= set(range(N))
        if not method.merges:
            assert slots == sorted(slots)
    assert (out.features is not None) == method.merges
    if method.merges:
        assert out.features.shape == (3, k, 8)
        assert out.features.isfinite().all()


@pytest.mark.parametrize("method", [*PRUNING, *MERGING, Pool])
def test_no_token_at_all(method: type[SequenceMethod]) -> None:
    """The blind baseline, ratio 1."""
    out = method(ratio=1).select(random_signals(grid=GRID), 0)
    assert out.indices.shape == (3, 0)
    if method.merges:
        assert out.features.shape == (3, 0, 8)


@pytest.mark.parametrize("k", [1, 5, 13, 24, N - 1])
@pytest.mark.parametrize("method", [*PRUNING, *MERGING, Pool])
def test_an_image_does_not_depend_on_its_batch(method: type[SequenceMethod], k: int) -> None:
    given = random_signals(grid=GRID, seed=k)
    together = method(keep=k).select(given, k)
    for image in range(3):
        alone = method(keep=k).select(image_of(given, image), k)
        assert kept_of(together, image) == kept_of(alone, 0)
        if method.merges:
            torch.testing.assert_close(together.features[image], alone.features[0])


@pytest.mark.parametrize("method", [ClsAttention, VtcCls, DivPrune])
def test_ties_go_to_the_lowest_index(method: type[SequenceMethod]) -> None:
    equal = Signals(grid=GRID, cls_attention=torch.full((2, 1, 2, N), 1 / 64), projected=torch.ones(1, N, 10), images=1)
    assert method(keep=5).select(equal, 5).indices.tolist() == [[0, 1, 2, 3, 4]]


@pytest.mark.parametrize("method", [*MERGING, VisPruner, CDPruner])
def test_equal_tokens_are_no_special_case(method: type[SequenceMethod]) -> None:
    given = random_signals(grid=GRID)
    for name, value in vars(given).items():
        if isinstance(value, torch.Tensor):
            setattr(given, name, torch.ones_like(value))
    out = method(keep=12).select(given, 12)
    assert all(len(set(slots)) == 12 for slots in out.indices.tolist())
    assert out.features is None or out.features.isfinite().all()


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
@pytest.mark.parametrize("method", [*PRUNING, *MERGING, Pool])
def test_half_precision(method: type[SequenceMethod], dtype: torch.dtype) -> None:
    """The same as single precision on the rounded values; merged tokens come back in the features' type."""
    half = in_dtype(random_signals(grid=GRID), dtype)
    out, single = (method(keep=12).select(given, 12) for given in (half, in_dtype(half, torch.float32)))
    if method.merges:
        assert out.features.dtype == dtype
        assert out.features.isfinite().all()
    assert torch.equal(out.indices, single.indices)


@pytest.mark.parametrize("method", [*PRUNING, *MERGING, Pool])
def test_reads_only_what_it_declares(method: type[SequenceMethod]) -> None:
    given = random_signals(grid=GRID)
    undeclared = {field.name for field in dataclasses.fields(given)} - {*method.needs, "grid", "images"}
    defaults = {field.name: field.default for field in dataclasses.fields(given)}
    for name in undeclared:
        setattr(given, name, defaults[name])
    assert method(keep=5).select(given, 5).indices.shape[0] == 3


@pytest.mark.parametrize("method", [*PRUNING, *MERGING, Pool])
def test_leaves_its_signals_alone(method: type[SequenceMethod]) -> None:
    given, untouched = random_signals(grid=GRID), random_signals(grid=GRID)
    method(keep=5).select(given, 5)
    for name, value in vars(untouched).items():
        if isinstance(value, torch.Tensor):
            assert torch.equal(getattr(given, name), value)


@pytest.mark.parametrize("method", [*PRUNING, *MERGING, Pool])
def test_ratio_0_does_nothing(method: type[SequenceMethod]) -> None:
    assert method(ratio=0).keeps_all(N)
    assert method(keep=N).keeps_all(N) == (method.published_scope == "tile")  # an image may be several tiles
    assert not method(keep=N - 1).keeps_all(N)


@pytest.mark.parametrize("k", [5, 24])
@pytest.mark.parametrize("method", [*PRUNING, *MERGING, Pool])
def test_selection_macs(method: type[SequenceMethod], k: int) -> None:
    """torch counts what the methods say that their matrix products cost."""
    given = random_signals(images=1, grid=GRID)
    with FlopCounterMode(display=False) as counter:
        method(keep=k).select(given, k)
    said = 2 * method(keep=k).selection_macs(N, k, Widths(head=4, keys=8, features=8, projected=10))
    assert counter.get_total_flops() == said
