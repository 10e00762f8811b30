"""Kept tokens, scores and answer of a method for one question, and the page that shows several methods."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from PIL import Image

from vlmprune.methods.base import Method
from vlmprune.models.views import View
from vlmprune.pruning.prompt import Record
from vlmprune.report.panels import kept_panel, plain_panel, score_panel
from vlmprune.report.sheet import GAP, WIDTH, Block, Panel, page
from vlmprune.report.trace import Trace

LARGEST = 300  # pixels of a panel's longer side
SMALLEST = 148


@dataclass(frozen=True)
class Shown:
    """One method's answer. slots: visual slots of the prompt; left: visual tokens in the last decoder layer; average:
    mean over all layers. kept, merged: bool [V]; scores: float32 [V], nan for no score."""

    title: str
    answer: str
    slots: int
    left: int
    average: float
    kept: np.ndarray
    merged: np.ndarray
    scores: np.ndarray

    @classmethod
    def of(cls, title: str, answer: str, record: Record, trace: Trace) -> Shown:
        """Build it from one prompt's record and trace."""
        slots = len(trace.scores)
        kept = np.ones(slots, dtype=bool) if record.kept is None else record.kept[0].cpu().numpy()
        counts = [layer[0] for layer in record.visual_counts]
        merged = trace.merged.numpy() & kept
        return cls(title, answer, slots, counts[-1], sum(counts) / len(counts), kept, merged, trace.scores.numpy())

    @property
    def tokens(self) -> str:
        """The numbers of visual tokens as text."""
        layers = "" if self.average == self.left else f", {self.average:.4g} averaged over the decoder's layers"
        return f"{self.left} of {self.slots} visual tokens{layers}"


def title_of(name: str, method: Method, options: Sequence[str] = ()) -> str:
    """Return a method with its amount as typed: `cls ratio=0.9`. options: further settings, as typed."""
    if name == "none":
        return "unpruned"
    amounts = {"ratio": method.ratio, "keep": method.keep}
    return " ".join([name, *(f"{key}={value:g}" for key, value in amounts.items() if value is not None), *options])


def answer_page(
    question: str, heading: str, pictures: list[Image.Image], views: list[View], shown: list[Shown]
) -> Image.Image:
    """Return a page with the question and a block per method: answer, kept tokens in every view, and scores, if any.

    The block of the unpruned model shows the plain pictures.
    """
    size = panel_size(len(views))
    blocks = [
        Block(f"{each.title}:  {each.answer or '(no answer)'}", [each.tokens], strips(pictures, views, each, size))
        for each in shown
    ]
    return page(question, [heading, legend(pictures, views, shown)], blocks)


def strips(pictures: list[Image.Image], views: list[View], shown: Shown, size: int) -> list[list[Panel]]:
    """Return a strip of views with the kept tokens (plain pictures if all were kept), and one with scores, if any."""
    if shown.kept.all() and not shown.merged.any():
        kept = plain_strip(pictures, views, size)
    else:
        kept = [
            (view.title, kept_panel(pictures[view.picture], view, shown.kept, shown.merged, size, size))
            for view in views
        ]
    if not np.isfinite(shown.scores).any():
        return [kept]
    scores = [
        (
            f"{view.title}, scores" if view.title else "scores",
            score_panel(pictures[view.picture], view, shown.scores, size, size),
        )
        for view in views
    ]
    return [kept, scores]


def plain_strip(pictures: list[Image.Image], views: list[View], size: int) -> list[Panel]:
    """Return a strip of the plain pictures that have tokens."""
    first = {view.picture: view for view in reversed(views)}
    return [("", plain_panel(pictures[at], view, size, size)) for at, view in sorted(first.items())]


def legend(pictures: list[Image.Image], views: list[View], shown: list[Shown]) -> str:
    """Return the meaning of the colours that a page uses."""
    said = ["blue: kept as it is", "faded: dropped"]
    if any(each.merged.any() for each in shown):
        said.insert(1, "orange: merged with others, or new")
    if any(np.isfinite(each.scores).any() for each in shown):
        said.append("scores: yellow is high, dark is low")
    if any(view.box.left < 0 or view.box.top < 0 for view in views):
        said.append("grey: padding")
    if any(view.box.left > 0.5 or view.box.top > 0.5 for view in views):
        said.append("pale: cropped away, the model does not see it")
    return " · ".join(said)


def panel_size(views: int) -> int:
    """Return the longer side of a panel in pixels, chosen so that `views` panels take few rows."""
    return max(SMALLEST, min(LARGEST, WIDTH // (2 * max(views, 1)) - GAP))
