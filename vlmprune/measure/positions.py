"""Positions that a decoder was made for, and those that a question's prompt and answer take of them.

Past its last position a decoder goes on without an error, and its answers get worse: an unpruned run of longer prompts
is a poor baseline, against which pruning looks good.
"""

from __future__ import annotations

from typing import Any

from torch import Tensor


def position_limit(text_config: Any) -> int | None:
    """Positions of a decoder, with those that a scaling of its rotary embedding adds; None where none are named."""
    trained = getattr(text_config, "max_position_embeddings", None)
    if trained is None:
        return None
    rope = getattr(text_config, "rope_parameters", None) or getattr(text_config, "rope_scaling", None) or {}
    kinds = [each for each in rope.values() if isinstance(each, dict)]  # one for each kind of decoder layer, or ...
    return min(_extended(trained, kind) for kind in kinds or [rope])  # ... one for all


def _extended(trained: int, rope: dict[str, Any]) -> int:
    """Positions under one scaling, whose factor multiplies the positions of the training before it.

    Some files name the larger number by themselves (Llama 3), others do not (Qwen2.5's yarn, a linear one).
    """
    factor = rope.get("factor") or 1.0
    original = rope.get("original_max_position_embeddings") or trained
    return max(trained, round(original * factor))


def positions_taken(next_position: Tensor) -> list[int]:
    """Return the positions that each prompt takes, from those of its first generated token, int64 [..., B, 1].

    That is one more than its largest position, which may be another number than that of its tokens: with mrope, or of
    tokens that were kept at their places.
    """
    if next_position.dim() == 3 and len(next_position) == 4:  # transformers puts a plain count before mrope's three
        next_position = next_position[1:]
    rows = next_position.squeeze(-1)
    return rows.reshape(-1, rows.shape[-1]).amax(0).tolist()


def summarise_positions(rows: list[dict[str, Any]], text_config: Any) -> dict[str, int] | None:
    """The decoder's limit, the longest prompt with its answer, and how many prediction lines go beyond the limit.

    None without a limit. A line of an earlier version has no positions: its tokens stand for them.
    """
    limit = position_limit(text_config)
    if limit is None:
        return None
    taken = [row.get("positions", row["sequence"] + row["generated"]) for row in rows]
    return {"limit": limit, "longest": max(taken), "beyond": sum(each > limit for each in taken)}
