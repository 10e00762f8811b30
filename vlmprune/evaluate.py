"""Answering a benchmark's questions in batches, recording each answer and which tokens it was given from."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import torch
from torch import Tensor

from vlmprune.benchmarks.base import BadSample, Benchmark, Sample
from vlmprune.errors import UserError
from vlmprune.measure.encoder import Encoded
from vlmprune.methods.base import Method
from vlmprune.models.inputs import Media
from vlmprune.models.loading import Loaded
from vlmprune.progress import say
from vlmprune.pruning.prompt import Record
from vlmprune.pruning.session import Session
from vlmprune.records import RunDirectory


class Images:
    """Preprocessed media, decoded in threads ahead of their use and the last few kept: questions about one image stand
    together in a benchmark."""

    def __init__(self, benchmark: Benchmark, loaded: Loaded, size: int = 64, workers: int = 4) -> None:
        self.benchmark, self.loaded, self.size = benchmark, loaded, size
        self._workers = ThreadPoolExecutor(workers)
        self._media: dict[str, Future[list[Media]]] = {}

    def prefetch(self, samples: list[Sample]) -> None:
        """Start decoding the media of `samples`, the next ones to be asked."""
        for sample in samples:
            if sample.image_id not in self._media:
                if len(self._media) >= self.size:
                    del self._media[next(iter(self._media))]
                self._media[sample.image_id] = self._workers.submit(self._preprocess, sample)

    def __getitem__(self, sample: Sample) -> list[Media]:
        """The sample's images or its video. Raises BadSample."""
        self.prefetch([sample])
        return self._media[sample.image_id].result()

    def _preprocess(self, sample: Sample) -> list[Media]:
        return self.loaded.preprocessor.media(self.benchmark.images(sample), sample.media)


def inputs_for(samples: list[Sample], benchmark: Benchmark, loaded: Loaded, images: Images) -> dict[str, Tensor]:
    """Inputs of generate() for a batch of samples."""
    return loaded.preprocessor.batch(
        [benchmark.prompt(sample) for sample in samples],
        [images[sample] for sample in samples],
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
    session: Session,
    batch_size: int,
    directory: RunDirectory,
    advance: Callable[[int], None],
    skip_bad: bool = False,
) -> None:
    """Answer `samples` in `session`, not open yet, and append every batch to the run directory as it comes.

    skip_bad: a sample whose media cannot be had is noted in the directory and left out; else it raises a UserError.
    """
    images = Images(benchmark, loaded, size=max(64, 4 * batch_size))
    recorded = {row.get("id") or row.get("image_id") for row in directory.kept()}
    with session:
        for batch, following in _batches(samples, batch_size):
            images.prefetch(batch + following)
            usable = _usable(batch, images, directory, skip_bad)
            if usable:
                inputs = inputs_for(usable, benchmark, loaded, images)
                session.ask([sample.question for sample in usable])
                output = greedy(loaded, inputs, benchmark.max_new_tokens)
                new = output[:, inputs["input_ids"].shape[1] :]
                assert session.record is not None
                predictions = _predictions(usable, benchmark, loaded, new, session.record, images)
                directory.append(predictions, _kept(usable, session.method, session.record, recorded))
            advance(len(batch))


def _batches(samples: list[Sample], size: int) -> Iterator[tuple[list[Sample], list[Sample]]]:
    """Every batch, and the one after it."""
    for start in range(0, len(samples), size):
        yield samples[start : start + size], samples[start + size : start + 2 * size]


def _usable(batch: list[Sample], images: Images, directory: RunDirectory, skip_bad: bool) -> list[Sample]:
    """The samples of a batch whose media could be decoded."""
    usable, bad = [], []
    for sample in batch:
        try:
            images[sample]
        except BadSample as error:
            if not skip_bad:
                raise UserError(f"sample {sample.id}: {error}; on_bad_sample=skip leaves such samples out") from error
            bad.append({"id": sample.id, "reason": str(error)})
            say(f"left out: sample {sample.id}: {error}")
        else:
            usable.append(sample)
    directory.append_bad(bad)
    return usable


def _predictions(
    batch: list[Sample], benchmark: Benchmark, loaded: Loaded, new: Tensor, record: Record, images: Images
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
            "extra": sample.extra,
            "images": sum(media.pictures for media in images[sample]),
            "encoded": encoded(images[sample], loaded).as_dict(),
            "sequence": record.prompt_lengths[row],
            "visual": run_lengths([counts[row] for counts in record.visual_counts]),
            "generated": lengths[row],
        }
        for row, (sample, text) in enumerate(zip(batch, texts, strict=True))
    ]


def encoded(media: list[Media], loaded: Loaded) -> Encoded:
    """What a sample's media give the encoder, told on the CPU by the tensors' shapes and grids."""
    tensors = media[0].tensors if len(media) == 1 else loaded.preprocessor.collate(media)  # which copies pixels
    return Encoded.of(loaded.adapter, tensors)


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


def _kept(batch: list[Sample], method: Method, record: Record, recorded: set[str | None]) -> list[dict[str, Any]]:
    """Lines of kept slots as bitmasks, once per image unless the question decides."""
    if record.kept is None:
        return []
    lines = []
    for sample, kept in zip(batch, record.kept.tolist(), strict=True):
        name = sample.id if method.reads_question else sample.image_id
        if name in recorded:  # by an earlier question about this image, or before a crash
            continue
        recorded.add(name)
        key = {"id" if method.reads_question else "image_id": name}
        lines.append(key | {"n": len(kept), "kept": bitmask(kept)})
    return lines


def bitmask(flags: list[bool]) -> str:
    """Hex of one bit per visual slot of the prompt, the first slot the highest bit; True where it was kept."""
    digits = "".join("01"[flag] for flag in flags)
    return f"{int(digits or '0', 2):0{-(-len(flags) // 4)}x}"
