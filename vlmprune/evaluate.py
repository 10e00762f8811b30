"""Answering a benchmark's questions in batches, recording each answer and which tokens it was given from."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor

from vlmprune.benchmarks.base import Benchmark, Sample
from vlmprune.methods.base import Method
from vlmprune.models.loading import Loaded
from vlmprune.pruning.prompt import Record
from vlmprune.pruning.session import Session
from vlmprune.records import RunDirectory


class Images:
    """Preprocessed images, the last few kept: questions about one image stand together in a benchmark."""

    def __init__(self, benchmark: Benchmark, loaded: Loaded, size: int = 64) -> None:
        self.benchmark, self.loaded, self.size = benchmark, loaded, size
        self._pixels: dict[str, Tensor] = {}

    def __getitem__(self, image_id: str) -> Tensor:
        if image_id not in self._pixels:
            if len(self._pixels) >= self.size:
                del self._pixels[next(iter(self._pixels))]
            self._pixels[image_id] = self.loaded.preprocessor.pixels(self.benchmark.image(image_id))
        return self._pixels[image_id]


def inputs_for(samples: list[Sample], benchmark: Benchmark, loaded: Loaded, images: Images) -> dict[str, Tensor]:
    """Inputs of generate() for a batch of samples."""
    return loaded.preprocessor.batch(
        [benchmark.prompt(sample) for sample in samples],
        [images[sample.image_id] for sample in samples],
        loaded.device,
        loaded.model.dtype,
    )


def greedy(loaded: Loaded, inputs: dict[str, Tensor], max_new_tokens: int, **options: Any) -> Any:
    """Greedy decoding, as every published protocol uses. Returns what generate() returns."""
    with torch.inference_mode():
        return loaded.model.generate(**inputs, max_new_tokens=max_new_tokens, do_sample=False, num_beams=1, **options)


def answer_all(
    samples: list[Sample],
    benchmark: Benchmark,
    loaded: Loaded,
    method: Method,
    batch_size: int,
    directory: RunDirectory,
    advance: Callable[[int], None],
) -> None:
    """Answer `samples` under `method` and append every batch to the run directory as it comes."""
    images = Images(benchmark, loaded)
    recorded = {row.get("id") or row.get("image_id") for row in directory.kept()}
    with Session(loaded.adapter, method) as session:
        for batch in _batches(samples, batch_size):
            inputs = inputs_for(batch, benchmark, loaded, images)
            output = greedy(loaded, inputs, benchmark.max_new_tokens)
            new = output[:, inputs["input_ids"].shape[1] :]
            assert session.record is not None
            predictions = _predictions(batch, benchmark, loaded, new, session.record)
            directory.append(predictions, _kept(batch, method, session.record, loaded, recorded))
            advance(len(batch))


def _batches(samples: list[Sample], size: int) -> Iterator[list[Sample]]:
    for start in range(0, len(samples), size):
        yield samples[start : start + size]


def _predictions(
    batch: list[Sample], benchmark: Benchmark, loaded: Loaded, new: Tensor, record: Record
) -> list[dict[str, Any]]:
    texts = loaded.preprocessor.decode(new)
    lengths = generated_lengths(new, loaded.model.generation_config.eos_token_id)
    return [
        {
            "id": sample.id,
            "image_id": sample.image_id,
            "category": sample.category,
            "question": sample.question,
            "answer": sample.answer,
            "prediction": text,
            "score": benchmark.score(text, sample),
            "sequence": record.prompt_lengths[row],
            "visual": run_lengths([counts[row] for counts in record.visual_counts]),
            "generated": lengths[row],
        }
        for row, (sample, text) in enumerate(zip(batch, texts, strict=True))
    ]


def generated_lengths(new: Tensor, eos: int | list[int] | None) -> list[int]:
    """New tokens of each row [B, T] up to and with the end-of-sequence token; what follows it is padding."""
    ends = torch.isin(new, torch.tensor(eos if eos is not None else [], device=new.device))
    before_end = (ends.long().cumsum(1) - ends.long() == 0).sum(1)
    return before_end.tolist()


def run_lengths(counts: list[int]) -> list[tuple[int, int]]:
    """Visual tokens by decoder layer, as (first layer, tokens) wherever the number changes."""
    return [(layer, n) for layer, n in enumerate(counts) if layer == 0 or n != counts[layer - 1]]


def by_layer(runs: list[tuple[int, int]], depth: int) -> list[int]:
    """The inverse of `run_lengths` for `depth` layers."""
    starts = [layer for layer, _ in runs] + [depth]
    return [n for (layer, n), end in zip(runs, starts[1:], strict=True) for _ in range(layer, end)]


def _kept(
    batch: list[Sample], method: Method, record: Record, loaded: Loaded, recorded: set[str | None]
) -> list[dict[str, Any]]:
    """Bitmask lines (hex, first patch in the highest bit), once per image unless the question decides."""
    if record.kept is None:
        return []
    rows, columns = loaded.adapter.tower.grid
    kept, valid = record.kept.tolist(), None if record.valid is None else record.valid.tolist()
    lines = []
    for row, sample in enumerate(batch):
        name = sample.id if method.reads_question else sample.image_id
        if name in recorded:  # by an earlier question about this image, or before a crash
            continue
        recorded.add(name)
        slots = kept[row] if valid is None else [s for s, ok in zip(kept[row], valid[row], strict=True) if ok]
        key = {"id" if method.reads_question else "image_id": name}
        lines.append(key | {"n": rows * columns, "kept": bitmask(slots, rows * columns)})
    return lines


def bitmask(slots: list[int], n: int) -> str:
    """Hex of n bits, those of `slots` set; slot 0 is the highest bit."""
    value = sum(1 << (n - 1 - slot) for slot in set(slots))
    return f"{value:0{-(-n // 4)}x}"
