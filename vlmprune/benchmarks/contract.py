"""Checks of what a user's own benchmark gives: samples, pictures, prompts, scores and metrics."""

from __future__ import annotations

import json
import math
import numbers
from collections.abc import Callable, Iterable, Mapping
from functools import wraps
from pathlib import Path
from typing import Any

from PIL.Image import Image

from vlmprune.benchmarks.base import BadSample, Benchmark, Metric, Protocol, Sample
from vlmprune.benchmarks.media import rgb
from vlmprune.errors import error_text
from vlmprune.own_code import BrokenContract, call, is_own, qualified_name, read_attribute, refuse

TEXTS = ("id", "image_id", "question", "answer", "category", "group")
MEDIA = ("image", "video")


def check_samples(benchmark: Benchmark, name: str, given: Any, about: str) -> list[Sample]:
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
        check_text(benchmark, name, getattr(sample, field), f"{about}, {field}")
    if not sample.id or not sample.image_id:
        refuse(benchmark, name, sample.id and sample.image_id, "an id and an image_id that are not empty", about)
    if sample.media not in MEDIA:
        refuse(benchmark, name, sample.media, " or ".join(MEDIA), f"{about}, media")
    if not isinstance(sample.extra, dict):
        refuse(benchmark, name, sample.extra, "a dict", f"{about}, extra")
    try:
        json.dumps(sample.extra, allow_nan=False)
    except (TypeError, ValueError, RecursionError) as error:
        refuse(benchmark, name, sample.extra, f"plain data that JSON holds ({error_text(error)})", f"{about}, extra")


def check_text(benchmark: Benchmark, name: str, given: Any, about: str) -> str:
    """Return text that a file can hold. Raises BrokenContract for any other value."""
    if not isinstance(given, str):
        refuse(benchmark, name, given, "text (str)", about)
    try:
        given.encode()
    except UnicodeEncodeError:
        refuse(benchmark, name, given, "text without halves of a character (surrogates)", about)
    return given


def check_images(benchmark: Benchmark, name: str, given: Any, about: str) -> list[Image]:
    """Return the pictures of `images` in RGB. Raises BrokenContract, or BadSample for greys of an unknown range."""
    if not isinstance(given, Iterable) or isinstance(given, str | bytes | Mapping | Image) or hasattr(given, "dtype"):
        refuse(benchmark, name, given, "a list of PIL images", about)
    found = call(benchmark, name, function=lambda: list(given), about=about)
    for image in found:
        if not isinstance(image, Image):
            refuse(benchmark, name, image, "PIL images", about)
        if not all(image.size):
            raise BrokenContract(
                f"{qualified_name(benchmark, name, about)}: {image.width} x {image.height} pixels; expected some"
            )
        image.load()  # an OSError of a truncated file makes this a bad sample
    try:
        return [image if image.mode == "RGB" else rgb(image, benchmark.orientation) for image in found]
    except ValueError as error:
        raise BadSample(f"its image: {error}") from error


OWN_FILES = ("config.yaml", "environment.json", "predictions.jsonl", "kept.jsonl", "bad.jsonl", "result.json")
NUMBER = "a finite number, 0 or more"


def with_checks(benchmark: Benchmark) -> Benchmark:
    """Return the benchmark; if its class is a user's, each method is checked at each call, also by another method.

    Raises BrokenContract if its class declares something that the base class does not allow.
    """
    if is_own(type(benchmark)):
        _check_declared(benchmark)
        for name, check in CHECKS.items():
            setattr(benchmark, name, _checked(benchmark, name, check))
    return benchmark


def _checked(benchmark: Benchmark, name: str, check: Callable[[Benchmark, str, Any, str], Any]) -> Callable[..., Any]:
    function = read_attribute(benchmark, name)
    if not callable(function):
        refuse(benchmark, name, function, "a method")

    @wraps(function)
    def checked(*args: Any, **kwargs: Any) -> Any:
        asked = [each for each in (*args, *kwargs.values()) if isinstance(each, Sample)]
        about = f"sample {asked[0].id}" if asked else ""
        try:
            given = call(benchmark, name, *args, about=about, function=function, **kwargs)
            return check(benchmark, name, given, about)
        except OSError as error:
            if name != "images":
                raise
            raise BadSample(f"its image cannot be read ({error_text(error)})") from error

    return checked


def _check_declared(benchmark: Benchmark) -> None:
    metric, protocol = read_attribute(benchmark, "metric"), read_attribute(benchmark, "protocol")
    if not isinstance(metric, Metric):
        refuse(benchmark, "metric", metric, "a Metric, such as Metric('accuracy')")
    ends = metric.lowest, metric.highest
    if not isinstance(metric.name, str) or not metric.name or None in map(finite_number, ends) or ends[0] >= ends[1]:
        refuse(benchmark, "metric", metric, "a name, and a range whose lowest is below its highest")
    if protocol is not None and not isinstance(protocol, Protocol):
        refuse(benchmark, "protocol", protocol, "None or a Protocol")
    _truth(benchmark, "resampled", read_attribute(benchmark, "resampled"), "")


def finite_number(value: Any) -> float | None:
    """Return `value` as a float, from a number or a scalar of numpy or torch; None for all else, nan and infinity."""
    if getattr(value, "shape", None) == () and hasattr(value, "item"):
        value = value.item()
    if not isinstance(value, numbers.Real):
        return None
    try:
        number = float(value)
    except OverflowError:
        return None
    return number if math.isfinite(number) else None


def _score(benchmark: Benchmark, name: str, given: Any, about: str) -> float | None:
    if given is None:
        return None
    score = finite_number(given)
    if score is None or score < 0:
        refuse(benchmark, name, given, f"{NUMBER}, or None", about)
    return score


def _metrics(benchmark: Benchmark, name: str, given: Any, about: str) -> dict[str, float]:
    if not isinstance(given, Mapping) or not all(isinstance(key, str) for key in given):
        refuse(benchmark, name, given, "a dict of numbers by the metrics' names")
    metrics = {key: finite_number(value) for key, value in given.items()}
    for key, value in metrics.items():
        if value is None:
            refuse(benchmark, name, given[key], "a finite number", key)
    if benchmark.metric.name not in metrics and (metrics or name != "summarise"):
        refuse(benchmark, name, [*metrics], f"the main metric, {benchmark.metric.name}, among them")
    return {key: value for key, value in metrics.items() if value is not None}


def _units(benchmark: Benchmark, name: str, given: Any, about: str) -> tuple[list[float], list[str]] | None:
    if given is None:
        return None
    expected = "None, or (scores, image ids) of one length: finite numbers and text"
    if not isinstance(given, tuple | list) or len(given) != 2 or not all(isinstance(part, Iterable) for part in given):
        refuse(benchmark, name, given, expected)
    scores, names = [finite_number(score) for score in given[0]], [*given[1]]
    if not scores or None in scores or len(scores) != len(names) or not all(isinstance(name, str) for name in names):
        refuse(benchmark, name, given, expected)
    return [score for score in scores if score is not None], names


def _identity(benchmark: Benchmark, name: str, given: Any, about: str) -> str:
    if not check_text(benchmark, name, given, about):
        refuse(benchmark, name, given, "a revision or a hash of the data, not empty")
    return given


def _data_name(benchmark: Benchmark, name: str, given: Any, about: str) -> str:
    if len(check_text(benchmark, name, given, about)) > 100 or not _is_file_name(given or "none"):
        refuse(benchmark, name, given, "part of a folder's name: up to 100 characters, no slash, no dot in front")
    return given


def _is_file_name(name: str) -> bool:
    return Path(name).name == name and not name.startswith(".") and name.isprintable()


def _truth(benchmark: Benchmark, name: str, given: Any, about: str) -> bool:
    if not isinstance(given, bool) and type(given).__name__ != "bool":  # numpy's bool
        refuse(benchmark, name, given, "True or False", about)
    return bool(given)


def _tools(benchmark: Benchmark, name: str, given: Any, about: str) -> dict[str, str]:
    if not isinstance(given, Mapping) or not all(isinstance(part, str) for pair in given.items() for part in pair):
        refuse(benchmark, name, given, "a dict of names by role, both text", about)
    return dict(given)


def _files(benchmark: Benchmark, name: str, given: Any, about: str) -> list[str]:
    if not isinstance(given, list | tuple) or not all(isinstance(file, str) for file in given):
        refuse(benchmark, name, given, "a list of files' names", about)
    return [*given]


def _submission(benchmark: Benchmark, name: str, given: Any, about: str) -> tuple[str, bytes | str] | None:
    if given is None:
        return None
    if not isinstance(given, tuple | list) or list(map(type, given)) not in ([str, bytes], [str, str]):
        refuse(benchmark, name, given, "None, or (file name, bytes)")
    if not _is_file_name(given[0]) or given[0] in OWN_FILES:
        refuse(benchmark, name, given[0], "the name of a file of its own in the run's directory")
    return given[0], given[1]


CHECKS: dict[str, Callable[[Benchmark, str, Any, str], Any]] = {
    "load": check_samples,
    "images": check_images,
    "files": _files,
    "shares_media": _truth,
    "check_media": lambda _benchmark, _name, _given, _about: None,
    "identity": _identity,
    "data_name": _data_name,
    "prompt": check_text,
    "score": _score,
    "match": _score,
    "summarise": _metrics,
    "scorable": _truth,
    "aggregate": _metrics,
    "scoring_tools": _tools,
    "submission_file": _submission,
    "units": _units,
    "main_score": _score,
}
