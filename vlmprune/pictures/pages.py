"""Pictures of a run's kept tokens, drawn from the run's records without the model.

pictures/index.json lists them (picture_index.py).
"""

from __future__ import annotations

import io
import re
from typing import Any

import numpy as np
from PIL import Image

from vlmprune.answers import by_layer
from vlmprune.benchmarks.base import Benchmark, Sample
from vlmprune.errors import UserError
from vlmprune.models.loading import Loaded
from vlmprune.models.outline import Outline
from vlmprune.progress import say
from vlmprune.records import RunDirectory, kept_of, to_json, write_atomically
from vlmprune.report.picture_index import FOLDER, INDEX, Picture
from vlmprune.report.sheet import Block, page
from vlmprune.report.shown import Shown, legend, panel_size, plain_strip, strips


def save_pictures(
    samples: list[Sample],
    benchmark: Benchmark,
    loaded: Loaded | Outline,
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
    chosen = pictured([sample for sample in samples if sample.id in rows], count)
    if not chosen:
        return
    masks = {kept_of(row): row for row in directory.kept()}
    folder = directory.path / FOLDER
    index = []
    try:
        folder.mkdir(exist_ok=True)
        for number, sample in enumerate(chosen, start=1):
            row = rows[sample.id]
            mask = masks.get(("id", sample.id)) or masks.get(("image_id", sample.image_id))
            file = f"{number}-{safe(sample.id)}.png"
            write_atomically(folder / file, as_png(draw(sample, benchmark, loaded, title, row, mask)))
            index.append(entry(file, row))
        write_atomically(folder / INDEX, to_json(index))
    except OSError as error:
        say(f"pictures of kept tokens could not be saved ({error}); the same command makes them once they can be")


def entry(file: str, row: dict[str, Any]) -> Picture:
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


def pictured(samples: list[Sample], count: int) -> list[Sample]:
    """Return `count` samples at equal steps over `samples`, of different images if there are enough; the same for any
    method."""
    firsts = list({sample.image_id: sample for sample in reversed(samples)}.values())[::-1]
    candidates = firsts if len(firsts) >= count else samples
    count = min(count, len(candidates))
    return [candidates[index * len(candidates) // count] for index in range(count)]


def safe(name: str) -> str:
    """Return a sample's id as a part of a file name, at most 60 characters."""
    return re.sub(r"[^\w.-]+", "_", name)[:60]


def draw(
    sample: Sample,
    benchmark: Benchmark,
    loaded: Loaded | Outline,
    title: str,
    row: dict[str, Any],
    mask: dict[str, Any] | None,
) -> Image.Image:
    """Return one page: the picture with the reference answer, and its kept tokens with the model's answer.

    Raise UserError if `mask`, the line of kept.jsonl, has another number of visual tokens than the prompt.
    """
    prepare, images = loaded.preprocessor, benchmark.images(sample)
    media = prepare.media(images, sample.media)
    views, slots = prepare.prompt_views(benchmark.prompt(sample), media, [image.size for image in images])
    if mask is not None and mask["n"] != slots:
        raise UserError(f"kept.jsonl has n={mask['n']} for sample {sample.id}, whose prompt has {slots} visual tokens")
    kept = np.ones(slots, dtype=bool) if mask is None else unpacked(mask)
    counts = by_layer(row["visual"], loaded.adapter.decoder_depth)
    none = np.zeros(slots, dtype=bool)
    shown = Shown(
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
    blocks = [
        Block(f"reference: {sample.answer or 'none'}", [sample.id], [plain_strip(images, views, size)]),
        Block(f"{title}: {shown.answer or '(no answer)'}", [shown.tokens], strips(images, views, shown, size)),
    ]
    return page(sample.question, [legend(images, views, [shown])], blocks)


def unpacked(mask: dict[str, Any]) -> np.ndarray:
    """Return the mask of a line of kept.jsonl, bool [n]."""
    return np.array([digit == "1" for digit in f"{int(mask['kept'], 16):0{mask['n']}b}"])
