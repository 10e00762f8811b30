"""Model and preprocessor of a checkpoint without its weights, to check that its files belong together.

The model is built on torch's meta device, which holds shapes only. A picture and a question are preprocessed as every
sample is, and the shapes are compared with those that the vision encoder takes.
"""

from __future__ import annotations

from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch
from PIL import Image
from transformers import AutoModelForImageTextToText

from vlmprune.benchmarks.base import BadSample
from vlmprune.config.settings import ModelConfig
from vlmprune.errors import UserError, user_error_on_failure
from vlmprune.limits import limit_resources
from vlmprune.models.base import Adapter, EncoderInput, adapt, family_module
from vlmprune.models.checkpoint import substitute_processors
from vlmprune.models.preprocessing import Media, Preprocessor, Processors
from vlmprune.models.processor import Checkpoint, read_processors

QUESTION = "What color is the star?"
SIZE = (64, 48)  # of the picture, no square
SECONDS, GIBIBYTES = 6, 4  # limits of preprocessing a small picture; published checkpoints take a tenth
KEPT = 4  # models in memory: the jobs of a sweep need the same few many times


@dataclass(frozen=True)
class WeightlessModel:
    """Adapter and preprocessor of a model without weights."""

    adapter: Adapter
    preprocessor: Preprocessor


_models: dict[tuple[Any, ...], WeightlessModel] = {}


def build_weightless(checkpoint: Checkpoint, config: ModelConfig) -> WeightlessModel:
    """Return adapter and preprocessor of a model without weights. Raises UserError if its files do not fit together.

    checkpoint: its identity is not read, and may still be "".
    """
    settings = {name: value for name, value in vars(config).items() if name != "info"}
    key = (checkpoint.source, checkpoint.revision, repr(checkpoint.config), repr(settings), _stamp(checkpoint))
    if key not in _models:
        found = _build_weightless(checkpoint, config)
        check_inputs(found, checkpoint.source, "image")
        while len(_models) >= KEPT:
            del _models[next(iter(_models))]
        _models[key] = found
    return _models[key]


def _stamp(checkpoint: Checkpoint) -> tuple[tuple[str, int, int], ...]:
    """Return name, size and date of the files of a folder that are no weights; () for a hub name."""
    if not checkpoint.folder:
        return ()
    files = [path for path in Path(checkpoint.source).iterdir() if path.suffix != ".safetensors"]
    return tuple(sorted((path.name, path.stat().st_size, path.stat().st_mtime_ns) for path in files))


def _build_weightless(checkpoint: Checkpoint, config: ModelConfig) -> WeightlessModel:
    if checkpoint.random and not checkpoint.folder:
        processors = substitute_processors(config.name, checkpoint.config)
    else:
        processors = read_processors(checkpoint, config.prompt)
    start = f"model.path={checkpoint.source}:"
    why = f"{start} transformers cannot build the model of its config.json"
    with user_error_on_failure(why, "correct its vision_config or text_config"), torch.device("meta"):
        model = AutoModelForImageTextToText.from_config(checkpoint.config)
    adapter = adapt(model, config.options, "model.")
    family = family_module(checkpoint.config.model_type)
    with processor_errors(start, processors, adapter):
        return WeightlessModel(adapter, family.Inputs(processors, adapter, config))


def processor_errors(start: str, processors: Processors, adapter: Adapter) -> AbstractContextManager[None]:
    """Return a context that turns errors of an image processor into one line for the user; start: of its text."""
    name, family = type(processors.image_processor).__name__, adapter.config.model_type
    why = f"{start} its image processor, {name}, does not make the inputs of {family}"
    return user_error_on_failure(why, "preprocessor_config.json is another model's, or damaged")


def check_inputs(found: WeightlessModel, source: str, kind: Literal["image", "video"]) -> None:
    """Raise UserError if a picture, or two frames of a video, and a question cannot become the model's inputs."""
    prepare, start = found.preprocessor, f"model.path={source}:"
    picture = Image.new("RGB", SIZE, (200, 120, 40))
    with processor_errors(start, prepare.processors, found.adapter), limit_resources(SECONDS, GIBIBYTES):
        for name, (own, model) in prepare.agreements().items():
            if own != model:
                raise UserError(
                    f"{start} its image processor has {name}={own}, its config.json {model}; correct one of them"
                )
        try:
            media = prepare.media([picture] * (2 if kind == "video" else 1), kind)
        except BadSample as error:  # this picture is good, so that the fault is the checkpoint's
            raise ValueError(str(error)) from error
        encoded = EncoderInput.from_tensors(found.adapter, prepare.collate([media]))
    for medium in media:
        check_pixel_shapes(prepare, medium, start)
    text, _ = prepare.text(QUESTION, media)
    try:
        (ids,), _ = prepare.tokenize([QUESTION], [media])
    except BadSample as error:
        raise UserError(f"{start} {error}; its tokenizer is damaged, or another model's") from error
    rows = found.adapter.config.text_config.vocab_size
    if max(ids) >= rows:
        token = prepare.tokenizer.convert_ids_to_tokens(max(ids))
        raise UserError(
            f"{start} its tokenizer writes '{token}' as {max(ids)}, and its config.json's vocab_size is {rows}: the "
            "tokenizer is another model's, or the embedding was not resized"
        )
    if QUESTION not in text:
        raise UserError(
            f"model.prompt={prepare.config.prompt}: the checkpoint's chat template leaves the question out; correct "
            "it, or use model.prompt=vicuna_v1"
        )
    slots = int(found.adapter.visual_mask(torch.tensor([ids])).sum())
    if slots != encoded.slots:
        raise UserError(
            f"{start} a prompt has {slots} '{prepare.processors.image_token}' where its image processor makes pixels "
            f"of {encoded.slots} visual tokens; the tokenizer or preprocessor_config.json is another model's"
        )
    end = prepare.tokenizer.eos_token
    if end and ids[-1] == prepare.tokenizer.eos_token_id and not text.rstrip().endswith(end):
        raise UserError(f"{start} its tokenizer ends every prompt with '{end}'; set add_eos_token to false")


def check_pixel_shapes(prepare: Preprocessor, medium: Media, start: str) -> None:
    """Raise UserError if a medium's pixels are not finite, or not of the shape that the vision encoder takes."""
    for name, expected in prepare.pixel_shapes().items():
        pixels = medium.tensors.get(name)
        if pixels is None:
            continue
        sides = zip(pixels.shape, expected, strict=False)
        if pixels.dim() != len(expected) or any(b is not None and a != b for a, b in sides):
            wanted = ", ".join("any" if length is None else str(length) for length in expected)
            raise UserError(
                f"{start} its image processor gives {name} of shape [{', '.join(map(str, pixels.shape))}], and the "
                f"vision encoder of its config.json takes [{wanted}]; correct size, crop_size or image_size"
            )
        if not torch.isfinite(pixels).all():
            raise UserError(f"{start} its image processor gives pixels that are not finite; correct its image_std")
