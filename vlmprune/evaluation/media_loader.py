"""Cache of images and videos that threads decode and preprocess ahead of the questions about them."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import replace
from typing import TypeVar

from vlmprune.benchmarks.base import BadSample, Benchmark, Sample
from vlmprune.benchmarks.media import sample_budget
from vlmprune.models.loading import LoadedModel
from vlmprune.models.preprocessing import Media, Preprocessor

T = TypeVar("T")


class MediaCache:
    """Preprocessed media by `Sample.image_id`, of which the last `size` are kept; named: with names of their tiles.

    The undecoded media of each sample are compared with those of its image_id (`Benchmark.check_media`), so that no
    sample gets another picture.
    """

    def __init__(
        self, benchmark: Benchmark, loaded: LoadedModel, size: int = 64, workers: int = 4, named: bool = False
    ) -> None:
        self.benchmark, self.loaded, self.size, self.named = benchmark, loaded, size, named
        self._workers = ThreadPoolExecutor(workers)
        self._media: dict[str, Future[list[Media]]] = {}
        self._checks: dict[str, Future[None]] = {}  # by sample

    def prefetch(self, samples: list[Sample]) -> None:
        """Start decoding the media of `samples`, the next ones to run."""
        for sample in samples:
            if self.benchmark.shares_media(sample):
                self._begin(self._checks, sample.id, self.benchmark.check_media, sample)
            self._begin(self._media, sample.image_id, self._preprocess, sample)

    def __getitem__(self, sample: Sample) -> list[Media]:
        """Return the sample's images or its video. Raise BadSample if they cannot be used."""
        self.prefetch([sample])
        if sample.id in self._checks:
            self._checks[sample.id].result()
        return self._media[sample.image_id].result()

    def _begin(self, kept: dict[str, Future[T]], key: str, work: Callable[[Sample], T], sample: Sample) -> None:
        if key not in kept:
            if len(kept) >= self.size:
                del kept[next(iter(kept))]
            kept[key] = self._workers.submit(work, sample)

    def _preprocess(self, sample: Sample) -> list[Media]:
        media = media_of(sample, self.benchmark, self.loaded.preprocessor)
        return [name_tiles(medium) for medium in media] if self.named else media


def media_of(sample: Sample, benchmark: Benchmark, preprocessor: Preprocessor) -> list[Media]:
    """Return the sample's images or its video, preprocessed. Raise BadSample, which names the files."""
    with sample_budget():
        pictures = benchmark.images(sample)
        try:
            return preprocessor.media(pictures, sample.media)
        except BadSample as error:
            files = ", ".join(benchmark.files(sample))
            raise BadSample(f"{files}: {error}" if files else str(error)) from error


def name_tiles(medium: Media) -> Media:
    """Return the medium with a name for each of its tiles: a hash of the encoder's input, and the tile's number.

    For families that encode tiles separately, with pixels [tiles, 3, H, W] or [1, tiles, 3, H, W]. The hash of an image
    alone in its prompt differs from that of the same image beside others, where the family cuts it differently.
    """
    content = hashlib.sha256()
    for name, tensor in sorted(medium.tensors.items()):
        content.update(f"{name} {tuple(tensor.shape)} {tensor.dtype}".encode())
        content.update(tensor.contiguous().numpy().tobytes())
    tiles = sum(len(given.flatten(0, -4)) for name, given in medium.tensors.items() if name.startswith("pixel_values"))
    return replace(medium, tiles=tuple(f"{content.hexdigest()}-{number}" for number in range(tiles)))
