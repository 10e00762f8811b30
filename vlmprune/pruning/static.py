"""Decode steps as CUDA graphs: a static cache of the pruned length, on the bare model, used again batch after batch.

A short prompt's decode step is a few hundred kernels that take less time to run than to launch. transformers compiles
decode steps by itself where the cache is static and nothing hooks into the model, which is how questions go on from a
shared beginning (prefix.py). A graph belongs to one shape and one place in memory: so every batch is filled up to the
same size, and the cache is kept, cleared, and replaced only by a longer one.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from transformers import CompileConfig, StaticCache

from vlmprune.pruning.prefix import Prefixes

BUCKET = 256  # tokens that a cache's length is rounded up to


class StaticCaches:
    """Answers questions from shared beginnings with compiled decode steps.

    backend: torch.compile's; None for transformers' choice (inductor with CUDA graphs). The CPU is compiled for as
    well, for tests and because it was asked for.
    """

    def __init__(self, model: Any, backend: str | None = None) -> None:
        self.text_config = model.config.get_text_config()
        self.compilation = CompileConfig() if backend is None else CompileConfig(backend=backend, mode="default")
        self.compilation._compile_all_devices = True  # type: ignore[assignment]  # transformers types it as None
        self._cache: StaticCache | None = None
        self._shape = (0, 0)  # rows, tokens

    def answer(
        self,
        prefixes: Prefixes,
        generate: Callable[..., Tensor],
        rows: list[int],
        questions: list[list[int]],
        new_tokens: int,
        batch_size: int,
    ) -> Tensor:
        """As `Prefixes.answer`, for at most `batch_size` questions and `new_tokens` new tokens each."""
        missing = batch_size - len(rows)
        length = prefixes.valid.shape[1] + max(map(len, questions)) + new_tokens
        cache = self._empty(batch_size, length)
        with torch.no_grad():  # not inference_mode, whose tensors CUDA graphs cannot write to later
            new = prefixes.answer(
                generate,
                rows + rows[-1:] * missing,
                questions + questions[-1:] * missing,
                lambda: cache,
                compile_config=self.compilation,
            )
        return new[: len(rows)]

    def _empty(self, rows: int, length: int) -> StaticCache:
        if self._cache is None or rows != self._shape[0] or length > self._shape[1]:
            self._shape = (rows, -(-length // BUCKET) * BUCKET)
            self._cache = None  # first, so that two are never in memory together
            self._cache = StaticCache(config=self.text_config, max_cache_len=self._shape[1])
        self._cache.reset()
        return self._cache
