"""Samples, pictures and text from a user's own benchmark, checked and converted to the types that a run takes."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from typing import Any

from PIL.Image import Image

from vlmprune.benchmarks.base import BadSample, Benchmark, Sample
from vlmprune.benchmarks.rgb import rgb
from vlmprune.errors import said
from vlmprune.own_code import BrokenContract, call, refuse, titled

TEXTS = ("id", "image_id", "question", "answer", "category", "group")
MEDIA = ("image", "video")


def samples(benchmark: Benchmark, name: str, given: Any, about: str) -> list[Sample]:
    """Return the samples that `load` gave: at least one, with unique ids. Raises BrokenContract."""
    if not isinstance(given, Iterable) or isinstance(given, str | bytes | Mapping):
        refuse(benchmark, name, given, "a list of Sample")
    found = call(benchmark, name, function=lambda: list(given))  # a generator runs here
    if not found:
        refuse(benchmark, name, given, "at least one Sample: there is no sample in it")
    seen: set[str] = set()
    for number, sample in enumerate(found):
        if not isinstance(sample, Sample):
            refuse(benchmark, name, sample, "a Sample", f"entry {number}")
        _check_sample(benchmark, name, sample, f"entry {number}")
        if sample.id in seen:
            refuse(benchmark, name, sample.id, "ids of which none is there twice", f"entry {number}")
        seen.add(sample.id)
    return found


def _check_sample(benchmark: Benchmark, name: str, sample: Sample, about: str) -> None:
    for field in TEXTS:
        text(benchmark, name, getattr(sample, field), f"{about}, {field}")
    if not sample.id or not sample.image_id:
        refuse(benchmark, name, sample.id and sample.image_id, "an id and an image_id that are not empty", about)
    if sample.media not in MEDIA:
        refuse(benchmark, name, sample.media, " or ".join(MEDIA), f"{about}, media")
    if not isinstance(sample.extra, dict):
        refuse(benchmark, name, sample.extra, "a dict", f"{about}, extra")
    try:
        json.dumps(sample.extra, allow_nan=False)
    except (TypeError, ValueError, RecursionError) as error:
        refuse(benchmark, name, sample.extra, f"plain data that JSON holds ({said(error)})", f"{about}, extra")


def text(benchmark: Benchmark, name: str, given: Any, about: str) -> str:
    """Return text that a file can hold. Raises BrokenContract for any other value."""
    if not isinstance(given, str):
        refuse(benchmark, name, given, "text (str)", about)
    try:
        given.encode()
    except UnicodeEncodeError:
        refuse(benchmark, name, given, "text without halves of a character (surrogates)", about)
    return given


def images(benchmark: Benchmark, name: str, given: Any, about: str) -> list[Image]:
    """Return the pictures of `images` in RGB. Raises BrokenContract, or BadSample for greys of an unknown range."""
    if not isinstance(given, Iterable) or isinstance(given, str | bytes | Mapping | Image) or hasattr(given, "dtype"):
        refuse(benchmark, name, given, "a list of PIL images", about)
    found = call(benchmark, name, function=lambda: list(given), about=about)
    for image in found:
        if not isinstance(image, Image):
            refuse(benchmark, name, image, "PIL images", about)
        if not all(image.size):
            raise BrokenContract(
                f"{titled(benchmark, name, about)}: {image.width} x {image.height} pixels; expected some"
            )
        image.load()  # an OSError of a truncated file makes this a bad sample
    try:
        return [image if image.mode == "RGB" else rgb(image, benchmark.orientation) for image in found]
    except ValueError as error:
        raise BadSample(f"its image: {error}") from error
