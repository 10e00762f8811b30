"""Lines of predictions.jsonl and kept.jsonl, from generated tokens and the record of a prefill."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from vlmprune.benchmarks.base import Benchmark, Sample
from vlmprune.engine.prompt_state import Record
from vlmprune.errors import UserError
from vlmprune.evaluation.run_directory import RunDirectory, kept_key
from vlmprune.methods.base import Method, acting_parts
from vlmprune.models.base import EncoderInput
from vlmprune.models.loading import LoadedModel
from vlmprune.models.preprocessing import Media, place_media


class AnswerWriter:
    """Writer of each batch's answers to the run directory; `done` has the ids of the answered samples.

    follow: called with the lines of each batch, once they are written.
    """

    def __init__(self, benchmark: Benchmark, loaded: LoadedModel, directory: RunDirectory, method: Method) -> None:
        self.benchmark, self.loaded, self.directory = benchmark, loaded, directory
        self.reads_question = method.reads_question
        self._prunes = bool(acting_parts(method, loaded.adapter.tower))
        self.done: set[str] = set()
        self.follow: Callable[[list[dict[str, Any]]], None] = lambda _rows: None
        self._kept = {kept_key(row) for row in directory.kept()}

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
        """Append the answers `new`, token ids, to the run directory.

        rows: each sample's row of `record`. said: text tokens after those of the record. taken: decoder positions of
        each whole prompt.
        """
        texts = self.loaded.preprocessor.decode(new)
        kept = record.kept.tolist() if record.kept is not None and self._prunes else None
        predictions: list[dict[str, Any]] = []
        lines: dict[tuple[str, str | None], dict[str, Any]] = {}
        for place, (sample, own, row) in enumerate(zip(samples, media, rows, strict=True)):
            given = encoder_input(own, self.loaded)
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
                lines.setdefault(kept_key(line), line)
        try:
            self.directory.append(predictions, list(lines.values()))
        except MemoryError as error:  # some lines may be written, so that the batch must not be halved and run again
            raise UserError("out of memory while answers were written: the same command resumes") from error
        self._kept.update(lines)
        self.done.update(sample.id for sample in samples)
        self.follow(predictions)

    def _kept_line(self, sample: Sample, media: list[Media], kept: list[bool]) -> dict[str, Any] | None:
        """Return the line of kept slots: one per image, or one per question that decides them or its images' order.

        None if it is recorded already: by an earlier question about this image, or before a crash.
        """
        order, _ = place_media(self.benchmark.prompt(sample), [medium.kind for medium in media])
        alone = self.reads_question or order != sorted(order)
        key, name = ("id", sample.id) if alone else ("image_id", sample.image_id)
        if (key, name) in self._kept:
            return None
        return {key: name, "n": len(kept), "kept": bitmask(kept)}


def encoder_input(media: list[Media], loaded: LoadedModel) -> EncoderInput:
    """Return the encoder's input for a sample's media, computed on the CPU from the tensors' shapes and grids."""
    return EncoderInput.from_tensors(loaded.adapter, loaded.preprocessor.collate([media]))


def generated_lengths(new: Tensor, eos: int | list[int] | None) -> list[int]:
    """Return the number of new tokens of each row [B, T] up to and including the end-of-sequence token."""
    ends = torch.isin(new, torch.tensor(eos if eos is not None else [], device=new.device))
    before_end = (ends.long().cumsum(1) - ends.long() == 0).sum(1)
    return before_end.tolist()


def run_lengths(counts: list[int]) -> list[tuple[int, int]]:
    """Return the visual tokens by decoder layer as (first layer, tokens) for every layer where the number changes."""
    return [(layer, n) for layer, n in enumerate(counts) if layer == 0 or n != counts[layer - 1]]


def by_layer(runs: list[tuple[int, int]], depth: int) -> list[int]:
    """Return the inverse of `run_lengths` for `depth` layers. Raise UserError for a layer beyond them."""
    starts = [layer for layer, _ in runs] + [depth]
    if starts[-2] >= depth:  # a line that vlmprune did not write
        raise UserError(f"predictions.jsonl: visual={runs} of a decoder of {depth} layers: remove such lines to resume")
    return [n for (layer, n), end in zip(runs, starts[1:], strict=True) for _ in range(layer, end)]


def bitmask(flags: list[bool]) -> str:
    """Return one bit per visual slot of the prompt in hex, the first slot as the highest bit, 1 if it was kept."""
    digits = "".join("01"[flag] for flag in flags)
    return f"{int(digits or '0', 2):0{-(-len(flags) // 4)}x}"
