"""From generated tokens to the lines of predictions.jsonl and kept.jsonl."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from vlmprune.benchmarks.base import Benchmark, Sample
from vlmprune.errors import UserError
from vlmprune.measure.encoder import Encoded
from vlmprune.models.inputs import Media
from vlmprune.models.loading import Loaded
from vlmprune.models.prompts import place_media
from vlmprune.pruning.prompt import Record
from vlmprune.records import RunDirectory, kept_of


class Answers:
    """Writes each batch's answers to the run directory as it comes, and knows which samples are answered."""

    def __init__(self, benchmark: Benchmark, loaded: Loaded, directory: RunDirectory, reads_question: bool) -> None:
        self.benchmark, self.loaded, self.directory = benchmark, loaded, directory
        self.reads_question = reads_question
        self.done: set[str] = set()
        self._kept = {kept_of(row) for row in directory.kept()}

    def write(
        self,
        samples: list[Sample],
        media: list[list[Media]],
        new: list[list[int]],
        record: Record,
        rows: list[int],
        said: list[int],
        taken: list[int],
    ) -> None:
        """Append the answers `new`, ids. rows: each sample's row of `record`; said: words beyond that record.

        taken: positions of the decoder that each whole prompt takes.
        """
        texts = self.loaded.preprocessor.decode(new)
        kept = None if record.kept is None else record.kept.tolist()
        predictions: list[dict[str, Any]] = []
        lines: dict[tuple[str, str | None], dict[str, Any]] = {}
        for place, (sample, own, row) in enumerate(zip(samples, media, rows, strict=True)):
            given = encoded(own, self.loaded)
            predictions.append(
                {
                    "id": sample.id,
                    "image_id": sample.image_id,
                    "category": sample.category,
                    "question": sample.question,
                    "prompt": self.benchmark.prompt(sample),
                    "answer": sample.answer,
                    "prediction": texts[place],
                    "score": self.benchmark.score(texts[place], sample),
                    "extra": sample.extra,
                    "images": sum(each.pictures for each in own),
                    "encoded": given.as_dict(),
                    "sequence": record.prompt_lengths[row] + said[place],
                    "visual": run_lengths([counts[row] for counts in record.visual_counts]),
                    "positions": taken[place] + len(new[place]),
                    "generated": len(new[place]),
                }
            )
            if kept is not None and (line := self._kept_line(sample, own, kept[row][: given.slots])):
                lines.setdefault(kept_of(line), line)
        try:
            self.directory.append(predictions, list(lines.values()))
        except MemoryError as error:  # some may be written: the batch is not halved and asked again, as elsewhere
            raise UserError(
                "out of memory while answers were written: the same command goes on where it stopped"
            ) from error
        self._kept.update(lines)
        self.done.update(sample.id for sample in samples)

    def _kept_line(self, sample: Sample, media: list[Media], kept: list[bool]) -> dict[str, Any] | None:
        """The kept slots, once per image unless the question decides about them or about the order of its images.

        None where they are recorded already: by an earlier question about this image, or before a crash.
        """
        order, _ = place_media(self.benchmark.prompt(sample), [medium.kind for medium in media])
        alone = self.reads_question or order != sorted(order)
        key, name = ("id", sample.id) if alone else ("image_id", sample.image_id)
        if (key, name) in self._kept:
            return None
        return {key: name, "n": len(kept), "kept": bitmask(kept)}


def encoded(media: list[Media], loaded: Loaded) -> Encoded:
    """What a sample's media give the encoder, told on the CPU by the tensors' shapes and grids."""
    return Encoded.of(loaded.adapter, loaded.preprocessor.collate([media]))


def generated_lengths(new: Tensor, eos: int | list[int] | None) -> list[int]:
    """New tokens of each row [B, T] up to and with the end-of-sequence token; what follows it is padding."""
    ends = torch.isin(new, torch.tensor(eos if eos is not None else [], device=new.device))
    before_end = (ends.long().cumsum(1) - ends.long() == 0).sum(1)
    return before_end.tolist()


def run_lengths(counts: list[int]) -> list[tuple[int, int]]:
    """Visual tokens by decoder layer, as (first layer, tokens) wherever the number changes."""
    return [(layer, n) for layer, n in enumerate(counts) if layer == 0 or n != counts[layer - 1]]


def by_layer(runs: list[tuple[int, int]], depth: int) -> list[int]:
    """The inverse of `run_lengths` for `depth` layers. Raises UserError for a layer beyond them."""
    starts = [layer for layer, _ in runs] + [depth]
    if starts[-2] >= depth:  # a line that somebody else wrote
        raise UserError(f"predictions.jsonl: visual={runs} of a decoder of {depth} layers: remove such lines to resume")
    return [n for (layer, n), end in zip(runs, starts[1:], strict=True) for _ in range(layer, end)]


def bitmask(flags: list[bool]) -> str:
    """Hex of one bit per visual slot of the prompt, the first slot the highest bit; True where it was kept."""
    digits = "".join("01"[flag] for flag in flags)
    return f"{int(digits or '0', 2):0{-(-len(flags) // 4)}x}"
