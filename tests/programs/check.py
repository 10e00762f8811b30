"""One program against the oracle."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from tests.families.test_guarantees import snapshot
from tests.programs import oracle, use
from tests.programs.counts import check_best, check_counts
from tests.programs.program import Program
from tests.programs.prompts import batch_of, model_of, with_hole
from tests.programs.refusals import is_expected
from tests.programs.turn import Turn, Watch
from vlmprune import prune
from vlmprune.config.registry import build_method
from vlmprune.errors import UserError
from vlmprune.models.base import Adapter

TOLERANCE = {torch.float32: 2e-3, torch.float64: 1e-4, torch.bfloat16: torch.inf}  # of logits


def check(program: Program) -> str:
    """Raise AssertionError where a program's answers are not the oracle's; returns what was found."""
    model = model_of(program.family, program.attention, program.precision)
    before = snapshot(model)
    try:
        with torch.no_grad():
            return checked(program, model)
    finally:
        assert snapshot(model) == before, "the session has left something behind"


def checked(program: Program, model: Any) -> str:
    try:
        session = opened(program, model)
    except UserError as error:
        assert "\n" not in str(error) and len(str(error)) > 10
        return "refused at the start"
    adapter = session.adapter
    inputs = use.cast(given(program, batch_of(program.family, program.prompts, program.seed)), adapter)
    if program.mask:
        inputs["attention_mask"] = inputs["attention_mask"].to(getattr(torch, program.mask))
    elif inputs["attention_mask"].all():
        del inputs["attention_mask"]
    alone = [
        use.cast(given(program, batch_of(program.family, [prompt], program.seed, [row])), adapter)
        for row, prompt in enumerate(program.prompts)
    ]
    prompts = [oracle.read(adapter, each) for each in alone]
    try:
        with session:
            turns = use.run(program, adapter, session, inputs, alone, prompts)
    except Exception as error:
        if is_expected(error, program):
            return "refused"
        raise
    prompts = [
        shown(program, adapter, turns[0], row, *each) for row, each in enumerate(zip(prompts, alone, strict=True))
    ]
    check_counts(program, turns[0])
    if program.precision == "bfloat16":
        return "counted"
    for prompt in prompts:
        check_best(program, adapter, prompt)
    for turn, mode in zip(turns, [program.mode, "greedy"], strict=False):
        if turn.whole is not None:
            prompts = [anew(program, adapter, each) for each in turn.whole]
            turn = replace(turn, said=turn.said[:, :0], owners=list(range(len(prompts))))
        compare(program, adapter, prompts, turn, mode)
    return "compared"


def given(program: Program, inputs: dict[str, Tensor]) -> dict[str, Tensor]:
    return with_hole(inputs) if program.hole else inputs


def opened(program: Program, model: Any) -> Any:
    settings = dict(program.settings)
    options = {"newline": settings.pop("newline")} if "newline" in settings else {}
    return prune(model, program.method, model_options=options, **settings)


def shown(
    program: Program, adapter: Adapter, turn: Turn, row: int, prompt: oracle.Prompt, alone: dict[str, Tensor]
) -> oracle.Prompt:
    """One prompt as the layers saw it, by the record. prompt, alone: that prompt, unpruned, and its inputs."""
    slots = int(prompt.visual.sum())
    copies = len(turn.lengths) // len(program.prompts)
    kept = [None if marks is None else marks[row * copies, :slots] for marks in turn.kept]
    for layer, marks in enumerate(kept):
        left = slots if marks is None else int(marks.sum())
        assert turn.counts[layer][row * copies] == left, f"layer {layer}: {left} are marked of {turn.counts[layer]}"
    words = int(prompt.real.sum()) - slots
    again = turn.new.shape[1] - 1 if program.cache == "none" else 0  # the last step saw all but one token of the answer
    assert turn.lengths[row * copies] == words + turn.counts[0][row * copies] + again
    first, later = rules(program, adapter)
    assert not any(marks is not None and not marks.any() for marks in kept) or words, "no token is left of a prompt"
    hidden = oracle.hide(prompt, kept, [first, *[later] * (len(kept) - 1)])
    if merges_before(program) and kept[0] is not None and slots:
        given = entered(program, adapter, alone)  # where nothing is dropped, a hidden word is there still
        hidden.merged[0] = given[prompt.real] if len(given) == len(prompt.real) else given
    if merges_inside(program):
        for layer in range(1, len(kept)):
            if turn.counts[layer] != turn.counts[layer - 1]:
                n = words + turn.counts[layer][row * copies]
                hidden.merged[layer] = turn.entered[layer][row * copies, -n:]
    return hidden


def rules(program: Program, adapter: Adapter) -> tuple[bool, bool]:
    """Return two flags: positions are renumbered before layer 0, and inside."""
    if program.family.startswith("qwen"):
        return False, False
    asked = program.settings.get("positions")
    if asked:
        return asked == "renumber", asked == "renumber"
    method = build_method(program.method, **{k: v for k, v in program.settings.items() if k != "newline"})
    parts = method.parts(36)
    published = [part.published_positions == "renumber" for part in parts]
    return published[0], published[-1]


def merges_before(program: Program) -> bool:
    """True if embeddings change before layer 0, or come in another order than that of their slots."""
    names = {program.method, program.settings.get("before")}
    return bool(names & {"pool", "prumerge", "prumerge_plus", "visionzip", "tome", "pitome"})


def merges_inside(program: Program) -> bool:
    """True if embeddings change inside the decoder."""
    return "sparsevlm" in (program.method, program.settings.get("inside"))


def entered(program: Program, adapter: Adapter, alone: dict[str, Tensor]) -> Tensor:
    """The embeddings [n, D] that the decoder gets of one prompt by itself."""
    return prefilled(program, adapter, alone).entered[0][0]


def prefilled(program: Program, adapter: Adapter, alone: dict[str, Tensor]) -> Turn:
    """One prompt in a session of its own, with an answer of no token."""
    with opened(program, adapter.model) as session:
        watch = Watch(session.adapter, session)
        try:
            adapter.model(**alone)
        finally:
            watch.remove()
        nothing = alone["input_ids"][:, :0]
        return Turn.of(nothing, nothing, [0], watch, None, None)


def anew(program: Program, adapter: Adapter, alone: dict[str, Tensor]) -> oracle.Prompt:
    """A conversation as one prompt that is prefilled in a session of its own."""
    one = replace(program, prompts=[()], cache="")
    return shown(one, adapter, prefilled(program, adapter, alone), 0, oracle.read(adapter, alone), alone)


def compare(program: Program, adapter: Adapter, prompts: list[oracle.Prompt], turn: Turn, mode: str) -> None:
    """Hold the answers of one turn against the oracle's."""
    tolerance = TOLERANCE[adapter.model.dtype]
    said = turn.said.shape[1]
    found = []
    for owner, before, tokens in zip(turn.owners, turn.said, turn.new, strict=True):
        whole = torch.cat([before, tokens])
        found.append(oracle.logits(adapter, prompts[owner], whole[None, :-1])[0, said:])
    expected = torch.stack(found)
    if turn.logits is not None:
        torch.testing.assert_close(turn.logits.float(), expected.float(), rtol=0, atol=tolerance)
    banned = use.banned(program)
    if mode.startswith("beams"):
        check_beams(adapter, prompts, turn, expected, banned, tolerance)
        return
    expected[..., banned] = -torch.inf
    if mode in ("sample", "several"):
        check_samples(turn.new, expected)
    else:
        check_greedy(turn.new, expected, mode == "eos", tolerance)


def check_greedy(new: Tensor, expected: Tensor, ends: bool, tolerance: float) -> None:
    chosen = expected.gather(2, new.unsqueeze(2)).squeeze(2)
    short = expected.max(2).values - chosen  # how much a token's logit is below the best
    going = torch.ones_like(new, dtype=torch.bool)
    if ends:
        ended = torch.isin(new, torch.tensor(use.EOS)).cumsum(1)
        going = (ended == 0) | ((ended == 1) & torch.isin(new, torch.tensor(use.EOS)))
        assert (new[~going] == 0).all(), "words behind the end of an answer"
        assert going[:, -1].any() or (ended[:, -1] > 0).all()
    best = expected.argmax(2)
    assert (short[going] <= tolerance).all(), f"answers {new.tolist()}, the oracle's {best.tolist()}"


def check_samples(new: Tensor, expected: Tensor) -> None:
    torch.manual_seed(use.SEED)
    for step in range(new.shape[1]):
        drawn = torch.multinomial(expected[:, step].float().softmax(-1), num_samples=1).squeeze(1)
        assert torch.equal(drawn, new[:, step]), f"step {step}: drew {new[:, step].tolist()}, oracle {drawn.tolist()}"


def check_beams(
    adapter: Adapter,
    prompts: list[oracle.Prompt],
    turn: Turn,
    expected: Tensor,
    banned: list[int],
    tolerance: float,
) -> None:
    copies = len(turn.new) // len(prompts)
    scores = expected.float().log_softmax(-1).gather(2, turn.new.unsqueeze(2)).sum((1, 2))
    for row, prompt in enumerate(prompts):
        tokens, best = oracle.beam_search(adapter, prompt, use.BEAMS, use.NEW, banned)
        own = slice(row * copies, (row + 1) * copies)
        same = torch.equal(turn.new[own], tokens[:copies])
        near = torch.allclose(scores[own], best[:copies], rtol=0, atol=tolerance)
        assert same or near, f"beams {turn.new[own].tolist()}, the oracle's {tokens[:copies].tolist()}"
