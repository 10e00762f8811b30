"""VTC-CLS against its authors' code."""

import pytest
import torch

from tests.methods.golden import Vectors
from vlmprune.methods.base import Signals, Tower
from vlmprune.methods.cls import ClsAttention
from vlmprune.methods.vtc_cls import VtcCls

VECTORS = Vectors("vtc_cls")
TOWERS = {
    "L24_h4_n576": Tower(depth=24, feature_layer=22, grid=(24, 24), has_cls=True),
    "L6_h2_n16": Tower(depth=6, feature_layer=4, grid=(4, 4), has_cls=True),
}
CASES = [
    (case, *(int(number) for number in suffix.split("_T")))
    for case in TOWERS
    for suffix in VECTORS.budgets(f"{case}/keep_s")
]


def select(case: str, method: VtcCls, k: int) -> torch.Tensor:
    tower = TOWERS[case]
    rows = VECTORS[f"{case}/cls_rows"][list(method.layers(tower))]
    return method.select(Signals(grid=tower.grid, cls_attention=rows[:, None, :, 1:]), k).indices[0]


def test_there_are_vectors() -> None:
    assert len(CASES) == 64


@pytest.mark.parametrize(("case", "start", "k"), CASES)
def test_keeps_what_the_authors_keep(case: str, start: int, k: int) -> None:
    depth = TOWERS[case].depth
    published = (start % depth) * 24 // depth  # the reference counts -4 from the end; 2 of 6 is 8 of 24
    kept = select(case, VtcCls(start_layer=published), k)
    assert torch.equal(kept, VECTORS[f"{case}/keep_s{start}_T{k}"])


def test_score() -> None:
    rows = VECTORS["L24_h4_n576/cls_rows"][16:23]
    score = VtcCls().score(Signals(grid=(24, 24), cls_attention=rows[:, None, :, 1:]))
    torch.testing.assert_close(score[0], VECTORS["L24_h4_n576/scores_s16"])


def test_published_layers() -> None:
    assert VtcCls().layers(TOWERS["L24_h4_n576"]) == (16, 17, 18, 19, 20, 21, 22)
    assert VtcCls(start_layer=8, end_layer=12).layers(TOWERS["L6_h2_n16"]) == (2, 3)
    assert VtcCls().layers(Tower(depth=5, feature_layer=3, grid=(12, 12), has_cls=True)) == (3,)


def test_one_layer_is_fastervlm() -> None:
    rows = VECTORS["L24_h4_n576/cls_rows"]
    cls = ClsAttention().select(Signals(grid=(24, 24), cls_attention=rows[22:23, None, :, 1:]), 58).indices[0]
    assert torch.equal(select("L24_h4_n576", VtcCls(start_layer=22), 58), cls)


@pytest.mark.parametrize("method", [VtcCls(start_layer=23), VtcCls(start_layer=-1), VtcCls(end_layer=24)])
def test_refuses_layers_that_are_not_there(method: VtcCls) -> None:
    with pytest.raises(ValueError, match=r"allowed: 0 <= start <= end <= 23"):
        method.layers(TOWERS["L24_h4_n576"])
