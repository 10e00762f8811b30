"""Pages of kept tokens: of a finished run's questions, and of one question under several methods.

pictures/index.json lists them (results/picture_index.py).
"""

from __future__ import annotations

import io
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from PIL import Image

from vlmprune.benchmarks.base import Benchmark, Sample
from vlmprune.engine.prompt_state import Record
from vlmprune.errors import UserError
from vlmprune.evaluation.predictions import by_layer
from vlmprune.evaluation.run_directory import RunDirectory, kept_key
from vlmprune.files import to_json, write_atomically
from vlmprune.methods.base import Method
from vlmprune.models.geometry import View
from vlmprune.models.loading import LoadedModel
from vlmprune.models.outline import WeightlessModel
from vlmprune.pictures.drawing import (
    GAP,
    WIDTH,
    Block,
    Panel,
    draw_page,
    draw_panels,
    kept_panel,
    plain_panel,
    score_panel,
)
from vlmprune.pictures.selection_trace import Trace
from vlmprune.results.picture_index import FOLDER, INDEX, Picture
from vlmprune.terminal import say

LARGEST = 300  # pixels of a panel's longer side
SMALLEST = 148


@dataclass(frozen=True)
class MethodAnswer:
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
    def of(cls, title: str, answer: str, record: Record, trace: Trace) -> MethodAnswer:
        """Build it from one prompt's record and trace."""
        slots = len(trace.scores)
        assert record.kept is not None  # the prompt has an image
        kept = record.kept[0].cpu().numpy()
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
    question: str, heading: str, pictures: list[Image.Image], views: list[View], answers: list[MethodAnswer]
) -> Image.Image:
    """Return a page with the question and a block per method: answer, kept tokens in every view, and scores, if any.

    The block of the unpruned model shows the plain pictures.
    """
    size = panel_size(len(views))
    blocks = [
        Block(f"{each.title}:  {each.answer or '(no answer)'}", [each.tokens], strips(pictures, views, each, size))
        for each in answers
    ]
    return draw_page(question, [heading, colour_legend(pictures, views, answers)], blocks)


def strips(pictures: list[Image.Image], views: list[View], answer: MethodAnswer, size: int) -> list[list[Panel]]:
    """Return a strip of views with the kept tokens (plain pictures if all were kept), and one with scores, if any."""
    if answer.kept.all() and not answer.merged.any():
        kept = plain_strip(pictures, views, size)
    else:
        kept = [
            (view.title, kept_panel(pictures[view.picture], view, answer.kept, answer.merged, size, size))
            for view in views
        ]
    if not np.isfinite(answer.scores).any():
        return [kept]
    scores = [
        (
            f"{view.title}, scores" if view.title else "scores",
            score_panel(pictures[view.picture], view, answer.scores, size, size),
        )
        for view in views
    ]
    return [kept, scores]


def plain_strip(pictures: list[Image.Image], views: list[View], size: int) -> list[Panel]:
    """Return a strip of the plain pictures that have tokens."""
    first = {view.picture: view for view in reversed(views)}
    return [("", plain_panel(pictures[at], view, size, size)) for at, view in sorted(first.items())]


def colour_legend(pictures: list[Image.Image], views: list[View], answers: list[MethodAnswer]) -> str:
    """Return the meaning of the colours that a page uses."""
    said = ["blue: kept as it is", "faded: dropped"]
    if any(each.merged.any() for each in answers):
        said.insert(1, "orange: merged with others, or new")
    if any(np.isfinite(each.scores).any() for each in answers):
        said.append("scores: yellow is high, dark is low")
    if any(view.box.left < 0 or view.box.top < 0 for view in views):
        said.append("grey: padding")
    if any(view.box.left > 0.5 or view.box.top > 0.5 for view in views):
        said.append("pale: cropped away, the model does not see it")
    return " · ".join(said)


def panel_size(views: int) -> int:
    """Return the longer side of a panel in pixels, chosen so that `views` panels take few rows."""
    return max(SMALLEST, min(LARGEST, WIDTH // (2 * max(views, 1)) - GAP))


def save_pictures(
    samples: list[Sample],
    benchmark: Benchmark,
    loaded: LoadedModel | WeightlessModel,
    directory: RunDirectory,
    title: str,
    count: int,
) -> None:
    """Write pictures of up to `count` answered samples, and their index.

    title: the method and its amount. An OSError is printed and does not stop the run.
    """
    if not count:
        return
    rows = {row["id"]: row for row in directory.predictions()}
    chosen = choose_samples([sample for sample in samples if sample.id in rows], count)
    if not chosen:
        return
    masks = {kept_key(row): row for row in directory.kept()}
    folder = directory.path / FOLDER
    index = []
    try:
        folder.mkdir(exist_ok=True)
        for number, sample in enumerate(chosen, start=1):
            row = rows[sample.id]
            mask = masks.get(("id", sample.id)) or masks.get(("image_id", sample.image_id))
            name = f"{number}-{file_name_part(sample.id)}"
            page, panels = draw_sample_page(sample, benchmark, loaded, title, row, mask)
            write_atomically(folder / f"{name}.png", as_png(page))
            entry = make_index_entry(f"{name}.png", row)
            if panels is not None:
                entry["panels"] = f"{name}-kept.png"
                write_atomically(folder / entry["panels"], as_png(panels))
            index.append(entry)
        write_atomically(folder / INDEX, to_json(index))
    except OSError as error:
        say(f"pictures of kept tokens could not be saved ({error}); the same command makes them once they can be")


def make_index_entry(file: str, row: dict[str, Any]) -> Picture:
    """Return the index entry of one line of predictions.jsonl."""
    return {
        "file": file,
        "id": row["id"],
        "question": row["question"],
        "answer": row["answer"],
        "prediction": row["prediction"],
        "score": row["score"],
        "kept": row["visual"][-1][1],
        "total": row["encoded"]["slots"],
    }


def as_png(picture: Image.Image) -> bytes:
    """Return a picture encoded as PNG."""
    buffer = io.BytesIO()
    picture.save(buffer, "PNG")
    return buffer.getvalue()


def choose_samples(samples: list[Sample], count: int) -> list[Sample]:
    """Return `count` samples at equal steps over `samples`, of different images if there are enough; the same for any
    method."""
    firsts = list({sample.image_id: sample for sample in reversed(samples)}.values())[::-1]
    candidates = firsts if len(firsts) >= count else samples
    count = min(count, len(candidates))
    return [candidates[index * len(candidates) // count] for index in range(count)]


def file_name_part(name: str) -> str:
    """Return a sample's id as a part of a file name, at most 60 characters."""
    return re.sub(r"[^\w.-]+", "_", name)[:60]


def draw_sample_page(
    sample: Sample,
    benchmark: Benchmark,
    loaded: LoadedModel | WeightlessModel,
    title: str,
    row: dict[str, Any],
    mask: dict[str, Any] | None,
) -> tuple[Image.Image, Image.Image | None]:
    """Return one page: the picture with the reference answer, and its kept tokens with the model's answer.

    The second image is the kept tokens alone, for a report that has the words as text; None without a picture.
    Raise UserError if `mask`, the line of kept.jsonl, has another number of visual tokens than the prompt.
    """
    prepare, images = loaded.preprocessor, benchmark.images(sample)
    media = prepare.media(images, sample.media)
    views, slots = prepare.prompt_views(benchmark.prompt(sample), media, [image.size for image in images])
    if mask is not None and mask["n"] != slots:
        raise UserError(f"kept.jsonl has n={mask['n']} for sample {sample.id}, whose prompt has {slots} visual tokens")
    kept = np.ones(slots, dtype=bool) if mask is None else unpack_mask(mask)
    counts = by_layer(row["visual"], loaded.adapter.decoder_depth)
    none = np.zeros(slots, dtype=bool)
    answer = MethodAnswer(
        title,
        row["prediction"],
        slots,
        counts[-1],
        sum(counts) / len(counts),
        kept,
        none,
        np.full(slots, np.nan),
    )
    size = panel_size(len(views))
    kept_strips = strips(images, views, answer, size)
    blocks = [
        Block(f"reference: {sample.answer or 'none'}", [sample.id], [plain_strip(images, views, size)]),
        Block(f"{title}: {answer.answer or '(no answer)'}", [answer.tokens], kept_strips),
    ]
    page = draw_page(sample.question, [colour_legend(images, views, [answer])], blocks)
    return page, draw_panels(kept_strips)


def unpack_mask(mask: dict[str, Any]) -> np.ndarray:
    """Return the mask of a line of kept.jsonl, bool [n]."""
    return np.array([digit == "1" for digit in f"{int(mask['kept'], 16):0{mask['n']}b}"])
