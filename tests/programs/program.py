"""A program: one use of the engine, drawn at random, whose text is Python that makes it again."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from hypothesis import strategies as st

from tests.families.test_guarantees import FAMILIES, methods_of
from tests.programs.prompts import Prompt, pieces_of

MODES = [
    "greedy",
    "scores",  # greedy, with the logits of every step
    "eos",  # greedy, with rows that end early
    "beams",
    "beams_several",
    "sample",
    "several",  # sampling, num_return_sequences=2
    "forward",  # a loop by hand: model(...) with the cache that the model made
    "placed",  # the same with position ids
    "tuple",  # the same with return_dict=False
]
BY_HAND = ("forward", "placed", "tuple")
CACHES = ["", "", "", "none", "static", "own"]  # use_cache=False, cache_implementation, an empty one of the caller's
ROWS = ["", "", "", "reorder", "select", "repeat", "copy"]  # methods of a cache; copy is deepcopy
TURNS = ["", "", "new", "full", "forward"]  # a second turn: new ids, all ids, or new ids through model(...)
AMOUNTS: list[dict[str, Any]] = [
    *({"ratio": ratio} for ratio in (0, 0.1, 0.25, 0.5, 0.6, 0.75, 0.9, 0.95, 0.99, 1)),
    *({"keep": keep} for keep in (0, 1, 2, 3, 5, 8, 13, 20, 35, 36, 50)),
]


@dataclass(frozen=True)
class Program:
    """One model, one method and one or two turns of a batch of prompts.

    settings: of the method, amount among them. prompts: as in prompts.py. mode: how answers are made. cache: what
    generate() is told of its cache. turn: how a second turn is asked, "" for none. mask: the type of the attention
    mask, "" for none where nothing is padded. hole: whether the mask hides a word of every prompt. rows: what the
    caller does to the cache between the turns. more: the prompt of every row in the second turn. before: a prompt that
    the session sees first, None for none.
    """

    family: str
    method: str
    settings: dict[str, Any]
    prompts: list[Prompt]
    mode: str = "greedy"
    cache: str = ""
    turn: str = ""
    mask: str = "int64"
    hole: bool = False
    rows: str = ""
    more: Prompt = (3,)
    precision: str = "float32"
    attention: str = "sdpa"
    before: Prompt | None = None
    seed: int = 0


@st.composite
def prompts(draw: st.DrawFn, family: str) -> Prompt:
    """A prompt with media anywhere, among and beside words; at least one token."""
    count = draw(st.sampled_from([1, 1, 1, 2, 2, 0, 3]))
    media = [draw(st.sampled_from(pieces_of(family))) for _ in range(count)]
    words = [draw(st.sampled_from([1, 0, 2, 5, 9])) for _ in range(count)]
    pieces: list[int | str] = [piece for pair in zip(words, media, strict=True) for piece in pair if piece != 0]
    last = draw(st.sampled_from([4, 1, 8, 0, 17] if count else [4, 1, 8, 17]))
    return tuple([*pieces, last] if last else pieces)


@st.composite
def settings_of(draw: st.DrawFn, family: str, method: str) -> dict[str, Any]:
    """An amount and, now and then, settings beside it; some of them are refused."""
    chosen: dict[str, Any] = dict(draw(st.sampled_from([*AMOUNTS, {}])))
    if draw(st.booleans()) and method != "none":
        chosen["positions"] = draw(st.sampled_from(["keep", "renumber"]))
    if draw(st.integers(0, 3)) == 0:
        name, value = draw(
            st.sampled_from([("budget", "average"), ("scope", "image"), ("scope", "tile"), ("newline", "keep")])
        )
        if fits(family, method, name):
            chosen[name] = value
    if method == "fastv" and draw(st.booleans()):
        chosen["k"] = draw(st.integers(1, 5))
    if method == "compose":
        chosen["before"] = draw(st.sampled_from([name for name in methods_of(family) if acts_before(name)]))
        inside = ["fastv", "pyramiddrop", "sparsevlm_plus", "sparsevlm"]
        chosen["inside"] = draw(st.sampled_from(inside))
    return chosen


def fits(family: str, method: str, name: str) -> bool:
    """True if a method, or a family, has a setting of that name at all."""
    if name == "newline":
        return family in ("llava_next", "llava_onevision")
    if name == "budget":
        return not acts_before(method)
    if family == "llava":  # a picture is one tile
        return False
    return method == "compose" or (acts_before(method) and method not in ("tome", "pitome", "none"))


def acts_before(method: str) -> bool:
    """True if a method acts before the language model, and there only."""
    return method not in ("compose", "fastv", "pyramiddrop", "scm", "sparsevlm", "sparsevlm_plus")


def more_of(family: str) -> st.SearchStrategy[Prompt]:
    """A prompt of a second turn.

    LLaVA-OneVision cuts an image into tiles only if it is its conversation's only one. Models with mrope cannot go on
    from a cache with another image: to place it, transformers wants all images again, and then has too many.
    """
    if family.startswith("qwen"):
        return st.just((3,))
    pieces = [piece for piece in pieces_of(family) if family != "llava_onevision" or piece == "v0"]
    shown = st.sampled_from([(2, piece, 3) for piece in pieces] + [(piece, 1, piece, 2) for piece in pieces])
    return st.one_of(st.just((3,)), st.just((3,)), shown)


@st.composite
def programs(draw: st.DrawFn) -> Program:
    """Any program."""
    family = draw(st.sampled_from(FAMILIES))
    method = draw(st.sampled_from(methods_of(family)))
    precision = draw(st.sampled_from(["float32", "float32", "float64", "bfloat16"]))
    # In float64 the eager attention of bare transformers gives nan for padding: its mask and a score add up to -inf.
    attentions = ["sdpa"] if precision == "float64" else ["sdpa", "sdpa", "eager"]
    mode, turn = draw(st.sampled_from(MODES)), draw(st.sampled_from(TURNS))
    # Where words are hidden, a plain forward pass and models with mrope have rules of their own for positions.
    holes = [False] if mode in ("forward", "tuple") or family.startswith("qwen") else [False, False, False, True]
    return Program(
        family,
        method,
        draw(settings_of(family, method)),
        draw(st.lists(prompts(family), min_size=1, max_size=4)),
        mode=mode,
        cache="" if mode in BY_HAND else draw(st.sampled_from(CACHES)),
        # A plain forward pass counts padding as positions and generate() does not: the one cannot go on with the other.
        turn="forward" if turn and mode in ("forward", "tuple") else turn,
        mask=draw(st.sampled_from(["int64", "int64", "bool", "float32", ""])),
        hole=draw(st.sampled_from(holes)),
        rows=draw(st.sampled_from(ROWS)) if turn else "",
        more=draw(more_of(family)) if turn else (3,),
        precision=precision,
        attention=draw(st.sampled_from(attentions)),
        before=draw(st.one_of(st.none(), st.none(), prompts(family))),
        seed=draw(st.integers(0, 3)),
    )
