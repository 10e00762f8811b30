"""A program leaves as many visual tokens as the counting rule says, and FastV those that it ranks first."""

from __future__ import annotations

from fractions import Fraction
from typing import Any

import torch

from tests.programs import oracle
from tests.programs.program import Program
from tests.programs.prompts import module_of
from tests.programs.turn import Turn
from vlmprune.config.registry import build_method
from vlmprune.models.base import Adapter

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
