"""Positions that a decoder was trained for, and those that a question's prompt and answer take.

Past its last position a decoder still runs without an error, but its answers get worse: an unpruned run of longer
prompts is a poor baseline, against which pruning looks good.
"""

from __future__ import annotations

from typing import Any

from torch import Tensor


def position_limit(text_config: Any) -> int | None:
    """Return the positions of a decoder, with those that a scaling of its rotary embedding adds; None if not given."""
    trained = getattr(text_config, "max_position_embeddings", None)
    if trained is None:
        return None
    rope = getattr(text_config, "rope_parameters", None) or getattr(text_config, "rope_scaling", None) or {}
    kinds = [each for each in rope.values() if isinstance(each, dict)]  # one for each kind of decoder layer, or ...
    return min(_extended(trained, kind) for kind in kinds or [rope])  # ... one for all


def _extended(trained: int, rope: dict[str, Any]) -> int:
    """Return the positions under one scaling, whose factor multiplies the positions of the training before it.

    Some files give the larger number themselves (Llama 3), others do not (Qwen2.5's yarn, a linear scaling).
    """
    factor = rope.get("factor") or 1.0
    original = rope.get("original_max_position_embeddings") or trained
    return max(trained, round(original * factor))


def positions_taken(next_position: Tensor) -> list[int]:
    """Return the positions that each prompt takes, from those of its first generated token, int64 [..., B, 1].

    That is one more than its largest position, and may differ from its number of tokens: with mrope, or if kept tokens
    keep their positions.
    """
    if next_position.dim() == 3 and len(next_position) == 4:  # transformers puts a plain count before mrope's three
        next_position = next_position[1:]
    rows = next_position.squeeze(-1)
    return rows.reshape(-1, rows.shape[-1]).amax(0).tolist()


def summarise_positions(rows: list[dict[str, Any]], text_config: Any) -> dict[str, int] | None:
    """Return the decoder's limit, the longest prompt with its answer, and how many prediction lines exceed the limit.

    None without a limit. For a line of an earlier version, which has no positions, its tokens are counted.
    """
    limit = position_limit(text_config)
    if limit is None:
        return None
    taken = [row.get("positions", row["sequence"] + row["generated"]) for row in rows]
    return {"limit": limit, "longest": max(taken), "beyond": sum(each > limit for each in taken)}
