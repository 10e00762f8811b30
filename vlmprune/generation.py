"""Greedy answers, as every published protocol asks for them, and the inputs that they are given from."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from vlmprune.benchmarks.base import Benchmark, Sample
from vlmprune.media_cache import Images
from vlmprune.models.loading import Loaded


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


def greedy_from(loaded: Loaded, max_new_tokens: int, **inputs: Any) -> Tensor:
    """The same from a filled cache; whoever calls it decides whether gradients are tracked."""
    return loaded.model.generate(max_new_tokens=max_new_tokens, do_sample=False, num_beams=1, **inputs)
