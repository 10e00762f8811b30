"""One program against the oracle: its answers, its numbers of tokens, and the refusals that are allowed."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import replace
from fractions import Fraction
from typing import Any

import torch
from torch import Tensor

from tests.families.test_guarantees import snapshot
from tests.programs import oracle, use
from tests.programs.program import Program, acts_before
from tests.programs.prompts import batch_of, model_of, module_of, with_hole
from tests.programs.use import Turn, Watch
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


# Numbers of visual tokens that the counting rule says, and FastV's, which it ranks first.
BEFORE = ("cls", "random", "uniform", "divprune", "cdpruner", "vispruner", "vtc_cls", "visionzip", "prumerge", "tome")
INSIDE = ("fastv", "pyramiddrop", "sparsevlm", "sparsevlm_plus")


def stays(n: int, settings: dict[str, Any]) -> int:
    """N(1 - ratio) rounded half up and at least 1, none at ratio 1; or `keep`."""
    if "keep" in settings:
        return min(settings["keep"], n)
    left = n * (1 - Fraction(str(settings["ratio"])))
    return max(1, int(left + Fraction(1, 2))) if left else 0


def units(program: Program, piece: str) -> list[int]:
    """Tokens of each tile, frame or picture of a piece, which are ranked together."""
    names = module_of("qwen2_5_vl" if program.family == "qwen3_vl" else program.family)
    video, size = piece[0] == "v", int(piece[1:])
    if program.family == "internvl":
        return [names.TOKENS] * (1, 3, 2)[size]
    if not program.family.startswith("qwen"):
        own = [36] * (names.FRAMES if video else 1)
    elif video:
        own = [names.FRAME[0] * names.FRAME[1] // 4] * names.STEPS
    else:
        own = [names.GRIDS[size][0] * names.GRIDS[size][1] // 4]
    scope = program.settings.get("scope") or getattr(build_method(program.method), "published_scope", "tile")
    return [sum(own)] if scope == "image" else own


def check_counts(program: Program, turn: Turn) -> None:
    """Hold the record's counts against the rule, for methods and families whose units are plain."""
    settings = program.settings
    amount = {name: settings[name] for name in ("ratio", "keep") if name in settings}
    if not amount or settings.get("ratio") == 0 or program.family in ("llava_next", "llava_onevision"):
        return
    copies = len(turn.lengths) // len(program.prompts)
    for row, prompt in enumerate(program.prompts):
        column = [layer[row * copies] for layer in turn.counts]
        sizes = [units(program, piece) for piece in prompt if isinstance(piece, str)]
        if program.method in BEFORE:
            expected = sum(stays(n, amount) for own in sizes for n in own)
            every = sum(n for own in sizes for n in own)
            assert column == [expected] * len(column) or expected == every, f"{column}, by the rule {expected}"
        elif program.method in INSIDE and settings.get("budget") == "average":
            assert sum(column) <= len(column) * stays(column[0], amount)
        elif program.method in INSIDE and column[0]:
            assert column[-1] == stays(column[0], amount), f"{column}, by the rule {stays(column[0], amount)}"


def check_best(program: Program, adapter: Adapter, prompt: oracle.Prompt) -> None:
    """FastV keeps what the prompt's last position attends to most, by the weights that eager attention returns."""
    layer = int(prompt.seen[:, prompt.visual].all(dim=1).sum())  # the first that sees fewer visual tokens
    if program.method != "fastv" or program.attention != "eager" or layer == len(prompt.seen):
        return
    found: list[torch.Tensor] = []
    attention = adapter.decoder_attention(layer - 1)
    handle = attention.register_forward_hook(lambda _module, _args, output: found.append(output[1]))
    try:
        oracle.logits(adapter, prompt, torch.zeros(1, 0, dtype=torch.long))
    finally:
        handle.remove()
    score = found[0][0, :, -1].float().mean(0)  # [H, L, L] -> [L]
    kept, dropped = prompt.visual & prompt.seen[layer], prompt.visual & ~prompt.seen[layer]
    if kept.any():
        assert score[kept].min() >= score[dropped].max() - 1e-5, "a token is kept that is attended to less than another"


# Refusals that the engine is allowed, each with its programs: anything else is a fault.
ALLOWED = (UserError, NotImplementedError, RuntimeError)


def inside(program: Program) -> bool:
    return not acts_before(program.method)


def has_no_word(program: Program) -> bool:
    """True if a prompt may have no token left, where the mask hides one of its words."""
    every = [*program.prompts, *([program.before] if program.before else [])]
    return any(sum(piece for piece in prompt if isinstance(piece, int)) <= program.hole for prompt in every)


def keeps_all(program: Program) -> bool:
    """True if the session leaves the model alone."""
    return program.method == "none" or program.settings.get("ratio") == 0


REFUSALS: list[tuple[str, Callable[[Program], bool]]] = [
    (r"^use_cache=False inside the decoder", inside),
    (r"^cache_implementation='static' inside the decoder", inside),
    (r"^continuing a filled cache with a method inside", inside),
    (r"left of|no token", has_no_word),
    (r"cache", lambda p: bool(p.rows)),
    # The bare Qwen's own: it goes on with the positions of the rows that its last prompt had.
    (
        r"^(Sizes of tensors|The size of tensor a .*) must match",
        lambda p: p.family.startswith("qwen") and bool(p.rows) and keeps_all(p),
    ),
    (r"budget=average: .* cannot be reached", lambda p: p.settings.get("budget") == "average"),
]


def is_expected(error: Exception, program: Program) -> bool:
    """True if a program may be refused with this error once its session is open."""
    text = str(error)
    if not isinstance(error, ALLOWED) or "\n" in text:
        return False
    return any(re.search(pattern, text) and applies(program) for pattern, applies in REFUSALS)
