"""Answers that go on from a shared beginning are those of whole prompts, over every family."""

from __future__ import annotations

from functools import partial
from importlib import import_module

import pytest
import torch

from tests.families.test_guarantees import FAMILIES, GREEDY, NEW, method_of, methods_of
from vlmprune.engine.session import Session
from vlmprune.engine.shared_prefix import Prefixes, prefix_length
from vlmprune.models.base import adapt

MANY = ("llava", "qwen2_5_vl")  # families that every method is tried on; for the others a few stand for all
FEW = ("none", "cls", "divprune", "visionzip")


def shares(name: str) -> bool:
    return not method_of(name).reads_question


PAIRS = [
    (family, name)
    for family in FAMILIES
    for name in ["none", *methods_of(family)]
    if shares(name) and (family in MANY or name in FEW)
]


def begin(inputs: dict, ends: list[int]) -> dict:
    """The prompts cut off at `ends`, padded on the left."""
    n = max(ends)
    cut = dict(inputs)
    for name in ("input_ids", "attention_mask", "mm_token_type_ids"):
        if name in inputs:
            cut[name] = torch.stack([row.roll(n - end)[:n] for row, end in zip(inputs[name], ends, strict=True)])
    for row, end in enumerate(ends):
        cut["attention_mask"][row, : n - end] = 0
    return cut


def whole(family, inputs: dict, row: int, end: int, question: list[int]) -> dict:
    """The prompt of `row` with another question, without padding."""
    alone = family.one_of(inputs, row)
    padding = int((inputs["attention_mask"][row] == 0).sum())
    for name in ("input_ids", "attention_mask", "mm_token_type_ids"):
        if name in alone:
            after = {"input_ids": question, "attention_mask": [1] * len(question)}.get(name, [0] * len(question))
            alone[name] = torch.cat([alone[name][:, : end - padding], torch.tensor([after])], dim=1)
    return alone


@pytest.mark.parametrize(("family_name", "name"), PAIRS, ids=map("-".join, PAIRS))
def test_answers_are_those_of_whole_prompts(family_name, name):
    family = import_module(f"tests.families.{family_name}")
    model, inputs = family.make(), family.batch([9, 6])
    adapter, ids = adapt(model), inputs["input_ids"]
    visual = adapter.visual_mask(ids)
    ends = [prefix_length(row) for row in visual]
    words = [
        row[:end][seen[:end].logical_not() & mask[:end].bool()].tolist()
        for row, seen, mask, end in zip(ids, visual, inputs["attention_mask"], ends, strict=True)
    ]
    rows, questions = [0, 1, 0], [ids[0, ends[0] :].tolist(), ids[1, ends[1] :].tolist(), [5, 7, 11, 13, 17, 19]]

    session = Session(adapter, method_of(name))
    with session:
        prefixes = Prefixes.compute(session, begin(inputs, ends), words)
    answers = prefixes.answer(partial(model.generate, **GREEDY), rows, questions)

    assert answers.shape == (3, NEW)
    for answer, row, question in zip(answers, rows, questions, strict=True):
        alone = whole(family, inputs, row, ends[row], question)
        with session:
            expected = model.generate(**alone, **GREEDY)[0, -NEW:]
        assert torch.equal(answer, expected)
        assert session.record.visual_counts[0][0] == prefixes.record.visual_counts[0][row]
        assert session.record.prompt_lengths[0] == prefixes.record.prompt_lengths[row] + len(question)


def test_what_is_said_before_counts_for_the_repetition_penalty():
    """The reference: whole prompts, with a penalty so strong that a word once said never comes back."""
    family = import_module("tests.families.llava")
    model, inputs = family.make(), family.batch([9])
    adapter = adapt(model)
    visual = adapter.visual_mask(inputs["input_ids"])[0]
    end = prefix_length(visual)
    settings = GREEDY | {"repetition_penalty": 50.0}
    ids = inputs["input_ids"][0].tolist()
    with Session(adapter, method_of("cls")) as session:
        expected = model.generate(**inputs, **settings)[:, -NEW:]
        prefixes = Prefixes.compute(
            session, begin(inputs, [end]), [[i for i, seen in zip(ids[:end], visual, strict=False) if not seen]]
        )
    assert torch.equal(prefixes.answer(partial(model.generate, **settings), [0], [ids[end:]]), expected)
