"""The oracle is the bare model where nothing is hidden, and a fault of the engine is seen by it."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from tests.families.test_guarantees import FAMILIES
from tests.programs import oracle
from tests.programs.check import check
from tests.programs.program import Program
from tests.programs.prompts import batch_of, model_of, pieces_of
from vlmprune.engine import prompt_state as engine
from vlmprune.engine.prompt_state import Compaction
from vlmprune.models.base import adapt


@pytest.mark.parametrize("attention", ["sdpa", "eager"])
@pytest.mark.parametrize("family", FAMILIES)
def test_it_gives_the_bare_models_logits(family: str, attention: str) -> None:
    model = model_of(family, attention)
    for piece in pieces_of(family):
        inputs = batch_of(family, [(2, piece, 5)], 0)
        with torch.no_grad():
            expected = model(**inputs).logits[0, -3:]
            short = {name: inputs[name][:, :-2] for name in inputs.keys() & {"input_ids", "attention_mask"}}
            if "mm_token_type_ids" in inputs:
                short["mm_token_type_ids"] = inputs["mm_token_type_ids"][:, :-2]
            prompt = oracle.read(adapt(model), inputs | short)
            found = oracle.logits(adapt(model), prompt, inputs["input_ids"][:, -2:])[0]
        torch.testing.assert_close(found, expected, rtol=0, atol=1e-3)


def positions_late(segment: Any, cached: int, new: int, _later: Any = None) -> Any:
    return segment.next_position + torch.arange(cached - segment.length + 1, cached - segment.length + 1 + new)


def nothing_masked(segment: Any, total: int, _later: Any = None) -> Any:
    return None if segment.valid is None else segment.valid.new_ones(len(segment.valid), total)


def gather_others(plan: Compaction, hidden: Any) -> Any:
    gathered = plan.gather(hidden)
    return gathered if plan.valid is None else gathered.roll(1, 0).masked_fill(~plan.valid.unsqueeze(-1), 0)


FAULTS = [
    (engine.Segment, "positions", positions_late),
    (engine.Segment, "mask", nothing_masked),
    (Compaction, "gather_hidden", gather_others),
]


@pytest.mark.parametrize("method", ["cls", "fastv"])
@pytest.mark.parametrize(("owner", "name", "fault"), FAULTS, ids=[name for _, name, _ in FAULTS])
def test_it_sees_a_fault_of_the_engine(owner: type, name: str, fault: Any, method: str, monkeypatch: Any) -> None:
    program = Program("llava", method, {"ratio": 0.6}, [(2, "i0", 5), ("i0", 9, "i0", 4)], mode="scores")
    assert check(program) == "compared"
    monkeypatch.setattr(owner, name, fault)
    with pytest.raises(AssertionError):
        check(program)
