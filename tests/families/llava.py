"""LLaVA-1.5: 36 visual tokens an image."""

from __future__ import annotations

from tests.conftest import PATCHES, make_batch, make_llava, one_of

make, one_of = make_llava, one_of


def batch(texts: list[int], media: int = 1, seed: int = 0) -> dict:
    return make_batch(texts, media, seed)


def slots(given: dict) -> list[int]:
    return [PATCHES * (len(given["pixel_values"]) // len(given["input_ids"]))] * len(given["input_ids"])
