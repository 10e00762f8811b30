"""An observer is told of every selection of a session."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from tests.conftest import PATCHES, make_batch, make_llava
from tests.families.llava_next import batch as tiled_batch
from tests.families.llava_next import make as make_llava_next
from vlmprune.config.registry import build_method
from vlmprune.engine.session import Session
from vlmprune.models.base import adapt


class Reports:
    """All reports: layer, slots, scores and changed."""

    def __init__(self) -> None:
        self.all: list[tuple[int, Tensor, Tensor | None, Tensor]] = []

    def observe_selection(self, layer: int, slots: Tensor, scores: Tensor | None, changed: Tensor) -> None:
        self.all.append((layer, slots, scores, changed))


def observed(method: str, **settings: object) -> tuple[Reports, Session]:
    """Reports of one prompt with one picture."""
    model, reports = make_llava(), Reports()
    with Session(adapt(model), build_method(method, **settings), observer=reports) as session:
        model(**make_batch([9]))
    return reports, session


def best(slots: Tensor, scores: Tensor, k: int) -> list[int]:
    return slots[scores.topk(k).indices].sort().values.tolist()


@pytest.mark.parametrize(
    ("method", "settings", "layers"),
    [
        ("cls", {"ratio": 0.75}, [0]),
        ("fastv", {"ratio": 0.75}, [2]),
        ("pyramiddrop", {"ratio": 0.75}, [2, 3, 5]),
        ("compose", {"before": "vtc_cls", "inside": "fastv", "ratio": 0.75}, [0, 2]),
    ],
)
def test_every_selection_is_reported_with_the_scores_that_decide(method, settings, layers):
    reports, session = observed(method, **settings)
    assert [layer for layer, *_ in reports.all] == layers
    standing = list(range(PATCHES))
    for layer, slots, scores, changed in reports.all:
        assert slots.tolist() == standing  # those that are left of the selection before
        standing = best(slots, scores, session.record.visual_counts[layer][0])
        assert len(standing) < len(slots) and not changed.any()
    assert session.record.kept[0].nonzero().flatten().tolist() == standing


@pytest.mark.parametrize("method", ["tome", "pitome"])
def test_merged_patches_are_those_that_share_a_token(method):
    reports, session = observed(method, keep=9)
    ((layer, slots, scores, changed),) = reports.all
    shared = torch.bincount(session.owners[0])[session.owners[0]] > 1
    assert layer == 0 and scores is None and slots.tolist() == list(range(PATCHES))
    assert torch.equal(changed, shared) and 0 < shared.sum() < PATCHES


@pytest.mark.parametrize(("method", "new"), [("visionzip", 3), ("divprune", 0)])
def test_new_tokens_are_changed(method, new):
    """VisionZip gives [CLS] and two contextual tokens."""
    reports, session = observed(method, keep=9, **({"contextual": 2} if new else {}))
    ((_, slots, scores, changed),) = reports.all
    assert scores is None and changed.sum() == new
    assert session.record.kept[0][slots[changed]].all()


@pytest.mark.parametrize("restart", [True, False])
def test_a_run_of_the_first_layers_reports_too(restart):
    model, reports = make_llava_next(), Reports()
    with Session(adapt(model), build_method("scm", ratio=0.5, restart=restart), observer=reports) as session:
        model(**tiled_batch([8]))
    ((layer, slots, scores, changed),) = reports.all
    assert layer == 2 and len(scores) == len(slots) == session.record.kept.shape[1] and not changed.any()
