"""The load that speed is measured on: seeded random pixels and random text tokens, the same for every method.

Prompts of one batch have equal lengths and therefore no padding. The image is in the middle of the text. Text tokens
are random ids of the model's vocabulary, so that a prompt's length does not depend on the tokenizer.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from PIL import Image
from torch import Tensor

from vlmprune.errors import UserError
from vlmprune.measure.encoder import Encoded
from vlmprune.models.inputs import Media
from vlmprune.models.loading import Loaded
from vlmprune.speed.settings import Load


@dataclass(frozen=True)
class Prompts:
    """One batch. inputs: arguments of generate(). encoded: sizes of one image in the encoder."""

    inputs: dict[str, Tensor]
    encoded: Encoded

    @property
    def batch_size(self) -> int:
        return len(self.inputs["input_ids"])


def make_prompts(loaded: Loaded, load: Load, batch_size: int) -> Prompts:
    """Return `batch_size` prompts of load.prompt_tokens text tokens and an image. Raise UserError if too few."""
    prepare, side = loaded.preprocessor, load.image_size
    generator = torch.Generator().manual_seed(0)
    pixels = torch.randint(0, 256, (batch_size, side, side, 3), generator=generator, dtype=torch.uint8)
    media = [prepare.media([Image.fromarray(image.numpy())], "image") for image in pixels]
    words = ordinary_words(loaded)
    ids = []
    for own in media:
        placed = placeholders(loaded, own)
        room = load.prompt_tokens - int((~loaded.adapter.visual_mask(torch.tensor(placed))).sum())
        if room < 2:
            around = load.prompt_tokens - room
            raise UserError(
                f"speed.prompt_tokens={load.prompt_tokens}: an image alone brings {around}; give {around + 2} or more"
            )
        text = words[torch.randint(len(words), (room,), generator=generator)].tolist()
        ids.append(text[: room // 2] + placed + text[room // 2 :])
    encoded = Encoded.of(loaded.adapter, prepare.collate(media[:1]))
    return Prompts(prepare.padded(ids, media, loaded.device, loaded.model.dtype), encoded)


def placeholders(loaded: Loaded, media: list[Media]) -> list[int]:
    """Return the token ids of the media's placeholders in a prompt, with their start and end tokens."""
    text = "".join(medium.text for medium in media)
    return loaded.preprocessor.tokenizer(text, add_special_tokens=False)["input_ids"]


def ordinary_words(loaded: Loaded) -> Tensor:
    """Return the ids of the vocabulary that are not special to the model or its tokenizer, int64."""
    ids = torch.arange(loaded.adapter.config.text_config.vocab_size)
    special = loaded.adapter.visual_mask(ids)
    special |= torch.isin(ids, torch.tensor(loaded.preprocessor.tokenizer.all_special_ids))
    return ids[~special]
