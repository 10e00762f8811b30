"""Checks that a method works on a model, from config.json alone, before any weight loads."""

from __future__ import annotations

from dataclasses import replace

from vlmprune.errors import IdleSetting, NotApplicable, UserError
from vlmprune.methods.base import Method, NoAmount, Tower
from vlmprune.methods.compose import Compose
from vlmprune.methods.decoder_base import DecoderMethod
from vlmprune.models.base import MEDIA, Family
from vlmprune.models.decoder_structure import DecoderStructure, examine
from vlmprune.pruning.counts import ask
from vlmprune.pruning.declared import check_class, check_counts
from vlmprune.registry import build_method, options, read


def check_pair(family: Family, method: Method, name: str, model: str) -> None:
    """Raise NotApplicable if the method needs signals that the model lacks; the error names methods that work."""
    check_class(method)
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
    """Raise UserError or NotApplicable if a method's settings do not fit the model's depths and token count."""
    try:
        check_counts(method, family.tower, depth)
        ask(method, "check", family.tower, depth)
        check_keep(method, family.tower)
        family.check(method)
        if family.sliding_window and "decoder_attention" in method.needs:
            raise ValueError(
                "drops tokens inside the decoder, which has sliding-window attention; allowed: methods before it"
            )
        if family.sliding_window and keeps_positions(method, family):
            raise ValueError(
                "positions=keep: the decoder has sliding-window attention, which counts tokens, not positions; "
                "allowed: positions=renumber where the model's positions can be"
            )
    except UserError:
        raise
    except NoAmount as error:  # not the model's fault
        raise UserError(f"method={name}: {error}") from error
    except ValueError as error:
        raise NotApplicable(f"method={name}: {error}") from error
    check_scope(method, family)
    check_decoder(method, family, name)


def check_scope(method: Method, family: Family, media: frozenset[str] = MEDIA) -> None:
    """Refuse a scope where nothing can be ranked together. media: the kinds that the questions show."""
    for part in method.parts(1):
        if (scope := getattr(part, "scope", "published")) != "published" and not family.ranks_together & media:
            kind = "".join(family.ranks_together)
            some = f"this model ranks tokens of a {kind} together, and the questions show none"
            raise IdleSetting(
                "scope", scope, some if kind else "this model ranks each picture, tile or frame by itself"
            )


def settled(method: Method, family: Family) -> Method:
    """Return the method without a `positions=keep` that is this family's only way, so that it names the same run."""
    if isinstance(method, Compose):
        return replace(method, before=settled(method.before, family), inside=settled(method.inside, family))
    return replace(method, positions="published") if family.keeps_positions and method.positions == "keep" else method


def keeps_positions(method: Method, family: Family) -> bool:
    """Return True if the method prunes and kept tokens keep the position ids that they had before."""
    pruning = [part for part in method.parts(1) if part.stage != "none"]
    return bool(pruning) and (family.keeps_positions or any(part.position_rule == "keep" for part in pruning))


def check_decoder(method: Method, family: Family, name: str) -> None:
    """Raise NotApplicable if the decoder's structure does not allow the method; the error names methods that work."""
    if family.text is None or method.stage == "none":
        return
    structure = examine(family.text)
    fault = decoder_fault(method, structure)
    if fault:
        others = [other for other in options("method") if set(read("method", other)["info"]["needs"]) <= family.signals]
        working = [other for other in others if not decoder_fault(build_method(other), structure)]
        raise NotApplicable(f"method={name}: {fault}", f"; methods that work: {', '.join(working)}")


def decoder_fault(method: Method, structure: DecoderStructure) -> str:
    """Return the reason why the method cannot prune a decoder of this structure; "" if it can."""
    faults = []
    for part in method.parts(1):
        if isinstance(part, DecoderMethod):
            faults.append(structure.own if part.reads == "own" else structure.inside)
        elif part.stage != "none":
            faults.append(structure.before)
    return next(filter(None, faults), "")


def check_keep(method: Method, tower: Tower) -> None:
    """Raise ValueError if `keep` exceeds the tokens of every image or tile, so that nothing would be pruned."""
    n = tower.grid[0] * tower.grid[1]
    if method.keep is not None and method.keep > n and not tower.grid_varies and method.keeps_all(n):
        raise ValueError(f"keep={method.keep}: an image, tile or frame has {n} visual tokens; allowed: 0 to {n}")
