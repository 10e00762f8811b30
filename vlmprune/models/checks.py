"""Pairs of method and model that cannot work, refused from config.json alone, before any weight loads."""

from __future__ import annotations

from vlmprune.errors import NotApplicable, UserError
from vlmprune.methods.base import Method, Tower
from vlmprune.models.base import Family
from vlmprune.registry import options, read


def check_pair(family: Family, method: Method, name: str, model: str) -> None:
    """Refuse a method that reads what the model lacks, naming those that do work."""
    missing = [need for need in method.needs if need not in family.signals]
    if missing:
        working = [
            other for other in options("method") if set(read("method", other)["info"]["needs"]) <= family.signals
        ]
        raise NotApplicable(
            f"method '{name}' needs {', '.join(missing)}, which model '{model}' does not have",
            f"; methods that work: {', '.join(working)}",
        )


def check_settings(method: Method, family: Family, depth: int, name: str) -> None:
    """Refuse settings that do not fit the model's depths and token count, before any weight loads."""
    try:
        method.check(family.tower, depth)
        check_keep(method, family.tower)
        family.check(method)
        if family.sliding_window and "decoder_attention" in method.needs:
            raise ValueError(
                "drops tokens inside the decoder, which has sliding-window attention; allowed: methods before it"
            )
    except ValueError as error:
        # Not the model's fault. A class of its own would change every method's source, and so every fingerprint.
        kind = UserError if str(error).startswith("no amount given") else NotApplicable
        raise kind(f"method={name}: {str(error).removeprefix(f'{name}: ')}") from error


def check_keep(method: Method, tower: Tower) -> None:
    """Raise ValueError where `keep` is more than what an image, or a tile, ever has: nothing would be pruned."""
    n = tower.grid[0] * tower.grid[1]
    if method.keep is not None and method.keep > n and not tower.grid_varies and method.keeps_all(n):
        raise ValueError(f"keep={method.keep}: an image, tile or frame has {n} visual tokens; allowed: 0 to {n}")
