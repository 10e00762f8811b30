"""Preprocessing of a question: images, frames and prompt become a model's inputs, each image once."""

from __future__ import annotations

import re
import threading
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, ClassVar, Literal

import torch
from PIL import Image
from torch import Tensor
from torch.nn.functional import pad

from vlmprune.benchmarks.base import BadSample, Sample
from vlmprune.benchmarks.columns import LONGEST_TEXT
from vlmprune.config.settings import ModelConfig
from vlmprune.errors import UserError, error_text
from vlmprune.limits import limit_resources
from vlmprune.models.base import Adapter
from vlmprune.models.geometry import Box, Pixels, View, pad_to_square, squared

# Conversation templates of LLaVA's code with the system sentence: of LLaVA-1.5 and -NeXT (user), Video-LLaVA (human).
SYSTEM = (
    "A chat between a curious {who} and an artificial intelligence assistant. "
    "The assistant gives helpful, detailed, and polite answers to the {who}'s questions. "
)
STYLES = {"vicuna_v1": SYSTEM.format(who="user"), "llava_v1": SYSTEM.format(who="human")}
INSTEAD = "; correct it, or use model.prompt=vicuna_v1"
SECONDS, GIBIBYTES = 4, 1  # limits of a chat template; published ones take milliseconds
LONGEST = 1_000_000  # characters that it may write around a question
MARKER = re.compile(r"<image(?: (\d+))?>")  # "<image 2>" in a question marks the position of its second image

Content = list[dict[str, str]]  # of a chat message: {"type": "text", "text": ...}, {"type": "image"}, {"type": "video"}


@dataclass(frozen=True)
class Prompts:
    """Prompts of one checkpoint.

    style: `chat_template` (the checkpoint's), `vicuna_v1` or `llava_v1`. tokens: kind of media -> its token.
    """

    tokenizer: Any
    chat_template: str | None
    tokens: dict[str, str]
    style: str

    def text(self, question: str, kinds: list[str]) -> tuple[list[str], list[int]]:
        """Return the prompt, split at its media, and the indices of the media in the order of the prompt.

        kinds: "image" or "video", one per medium. Raises UserError if the chat template leaves one out.
        """
        order, pieces = place_media(question, kinds)
        first = len(kinds) - pieces.count(None)
        before: Content = [{"type": kinds[index]} for index in order[:first]]
        placed = iter(order[first:])
        # A media token in the question's text would add a medium that does not exist.
        inline: Content = [
            {"type": kinds[next(placed)]} if piece is None else {"type": "text", "text": self._token.sub("", piece)}
            for piece in pieces
        ]
        if self.style in STYLES:
            lines = "".join(f"{self.tokens[item['type']]}\n" for item in before)
            text = f"{STYLES[self.style]}USER: {lines}{self._flat(inline)} ASSISTANT:"
        elif self._interleaves:
            text = self._chat(before + inline)
        else:
            text = self._chat([*before, {"type": "text", "text": self._flat(inline)}])
        if self._token.findall(text) != [self.tokens[kinds[index]] for index in order]:
            raise UserError(
                f"model.prompt={self.style}: the checkpoint's chat template does not place the prompt's "
                f"{', '.join(kinds)}{INSTEAD}"
            )
        return self._token.split(text), order

    def template(self, kind: str) -> str:
        """Return the whole prompt of a question about one medium, with {prompt} in place of the question."""
        pieces, _ = self.text("{prompt}", [kind])
        return self.tokens[kind].join(pieces)

    @cached_property
    def _token(self) -> re.Pattern[str]:
        return re.compile("|".join(re.escape(token) for token in self.tokens.values()))

    @cached_property
    def _interleaves(self) -> bool:
        """True if the chat template keeps an image between two texts; LLaVA's writes all images first."""
        text = self._chat([{"type": "text", "text": "before"}, {"type": "image"}, {"type": "text", "text": "after"}])
        return "before" in self._token.split(text)[0]

    def _flat(self, content: Content) -> str:
        return "".join(item.get("text", self.tokens.get(item["type"], "")) for item in content)

    def _chat(self, content: Content) -> str:
        try:
            # A limit of memory applies to all threads, and other threads may decode pictures.
            with limit_resources(SECONDS, GIBIBYTES if threading.active_count() == 1 else None):
                text = self.tokenizer.apply_chat_template(
                    [{"role": "user", "content": content}],
                    chat_template=self.chat_template,
                    add_generation_prompt=True,
                    tokenize=False,
                )
            if len(text) > LONGEST + 10 * len(self._flat(content)):
                raise ValueError(f"it writes {len(text):,} characters")
            return text
        # A template is a program that comes with the checkpoint: it may raise, loop or expect another format.
        except Exception as error:
            raise UserError(
                f"model.prompt={self.style}: the checkpoint's chat template raises {type(error).__name__} "
                f"({error_text(error)}){INSTEAD}"
            ) from error


def place_media(question: str, kinds: list[str]) -> tuple[list[int], list[str | None]]:
    """Return the result of `place_images` for images and videos: markers number the images, or the videos if none."""
    numbered = [index for index, kind in enumerate(kinds) if kind == "image"] or list(range(len(kinds)))
    order, pieces = place_images(question, len(numbered))
    inline = [numbered[index] for index in order[len(order) - pieces.count(None) :]]
    return [index for index in range(len(kinds)) if index not in inline] + inline, pieces


def place_images(question: str, images: int) -> tuple[list[int], list[str | None]]:
    """Return the indices of the images in the order of the prompt, and the question in pieces, None for an image.

    "<image 2>" places the second image, a bare "<image>" the first one that is left; images without a marker come
    before the question. A marker of an image that is placed already, or does not exist, becomes the text "image 2".
    """
    pieces: list[str | None] = []
    placed: list[int] = []
    end = 0
    for marker in MARKER.finditer(question):
        left = [index for index in range(images) if index not in placed]
        index = int(marker[1]) - 1 if marker[1] else left[0] if left else images
        pieces.append(question[end : marker.start()])
        end = marker.end()
        if index in left:
            placed.append(index)
            pieces.append(None)
        else:
            pieces.append(f"image {index + 1}")
    pieces.append(question[end:])
    before = [index for index in range(images) if index not in placed]
    return before + placed, [piece for piece in pieces if piece != ""]


@dataclass(frozen=True)
class Media:
    """One image or one video as the model takes it.

    tensors: inputs of `generate` by name, of this medium alone (`Preprocessor.collate` adds those of all media of a
    prompt); several media are concatenated along the first dimension. text: the text that replaces the medium's token
    in the prompt, with one placeholder per visual token. pictures: number of its images or frames. tiles: the content
    key of each tile that the encoder encodes; () if they were not computed.
    """

    kind: Literal["image", "video"]
    tensors: dict[str, Tensor]
    text: str
    pictures: int = 1
    tiles: tuple[str, ...] = ()


@dataclass(frozen=True)
class Processors:
    """Tokenizer, image processor and chat template of a checkpoint. image_processor: of transformers' PIL backend.

    image_token, video_token: one placeholder in the prompt; video_token is None if the checkpoint has none.
    video_size: `size` of the checkpoint's video processor; None if it has no settings for one.
    """

    tokenizer: Any
    image_processor: Any
    chat_template: str | None
    image_token: str
    video_token: str | None = None
    video_size: dict[str, int] | None = None


class Preprocessor(ABC):
    """Base class of a family's preprocessing, with the checkpoint's image processor, tokenizer and chat template."""

    takes_video: ClassVar[bool] = False  # if False, a video's frames are given as images
    dimensions: ClassVar[dict[str, int]] = {"pixel_values": 4}  # of each pixel tensor; the last three are a tile's

    def __init__(self, processors: Processors, adapter: Adapter, config: ModelConfig) -> None:
        self.processors, self.adapter, self.config = processors, adapter, config
        self.tokenizer = processors.tokenizer
        tokens = {"image": processors.image_token} | (
            {"video": processors.video_token} if processors.video_token else {}
        )
        self.prompts = Prompts(processors.tokenizer, processors.chat_template, tokens, config.prompt)

    @property
    def limits(self) -> dict[str, int]:
        """Limits of the pixels or tiles of a picture, by names of `model.` settings; {} if the family has no choice."""
        return {}

    @property
    def own_limits(self) -> dict[str, int]:
        """The checkpoint's `limits`, without the run's settings."""
        return {}

    def limits_text(self, kind: Literal["image", "video"]) -> str:
        """Return the `limits` of an image or a video as a phrase for the user; '' without limits."""
        return ""

    def agreements(self) -> dict[str, tuple[Any, Any]]:
        """Return, by name, pairs of a value of the image processor and of the model's config, which must be equal."""
        return {}

    def pixel_shapes(self) -> dict[str, tuple[int | None, ...]]:
        """Return the shapes of the pixel tensors that the model takes, by name in `generate`; None: any length."""
        vision = self.adapter.config.vision_config
        sides = vision.image_size if isinstance(vision.image_size, list | tuple) else (vision.image_size,) * 2
        return {name: (*(None,) * (n - 3), vision.num_channels, *sides) for name, n in self.dimensions.items()}

    @abstractmethod
    def image(self, image: Image.Image) -> Media:
        """Preprocess one RGB image. Raises BadSample, as `media` and `video` do, if the model cannot take it."""

    @abstractmethod
    def views(self, medium: Media, sizes: list[Pixels]) -> list[View]:
        """Return the areas that a medium's visual tokens cover in its pictures, of `sizes`; slots count from 0."""

    def video(self, frames: list[Image.Image]) -> Media:
        """Preprocess the RGB frames of one video, in order. Raises TypeError in families that take no videos."""
        raise TypeError(f"{type(self).__name__} takes no video: give its frames as images")

    def media(self, pictures: list[Image.Image], kind: Literal["image", "video"]) -> list[Media]:
        """Preprocess images, or the frames of one video: one medium if the family takes videos, else one per frame."""
        if kind == "video" and self.takes_video:
            return [replace(self.video(pictures), pictures=len(pictures))]
        return [self.image(picture) for picture in pictures]

    def kinds(self, samples: list[Sample]) -> frozenset[str]:
        """The kinds of media that the samples are given as: "image", "video"."""
        return frozenset(sample.media if self.takes_video else "image" for sample in samples)

    def collate(self, prompts: list[list[Media]]) -> dict[str, Tensor]:
        """Return the tensors of a batch from the media of each of its prompts; {} if no prompt has any."""
        media = [medium for own in prompts for medium in own]
        names = dict.fromkeys(name for each in media for name in each.tensors)
        parts = {name: [each.tensors[name] for each in media if name in each.tensors] for name in names}
        return {name: own[0] if len(own) == 1 else torch.cat(own) for name, own in parts.items()}  # cat would copy

    def extras(self, input_ids: Tensor) -> dict[str, Tensor]:
        """Return further inputs of the model, derived from the prompts' ids [B, L]."""
        return {}

    def tensors(self, images: list[Image.Image], nested: bool = False, **settings: Any) -> dict[str, Tensor]:
        """Return the tensors that the image processor makes of RGB images. Raises BadSample if it cannot.

        nested: pass them as the images of one prompt. settings: of the image processor. The colour axis is given
        explicitly, because a side of 1 or 3 pixels could be taken for it.
        """
        try:
            given = self.processors.image_processor(
                images=[images] if nested else images,
                input_data_format="channels_last",
                return_tensors="pt",
                **settings,
            )
        except (ValueError, ArithmeticError, MemoryError) as error:
            sizes = ", ".join(dict.fromkeys(f"{width} x {height}" for width, height in (each.size for each in images)))
            raise BadSample(
                f"the model's image processor takes no picture of {sizes} pixels ({error_text(error)})"
            ) from error
        return dict(given)

    def squared(self, image: Image.Image) -> Image.Image:
        """Return the image padded to a square if `model.image=pad`, else unchanged."""
        return pad_to_square(image, self.processors.image_processor.image_mean) if self.config.image == "pad" else image

    def original_box(self, size: Pixels, box: Callable[[Pixels], Box]) -> Box:
        """Return `box` of the size that the image processor gets (see `squared`), in pixels of the original picture."""
        given, (left, top) = squared(size, self.config.image == "pad")
        return box(given).shifted(-left, -top)

    def prompt_views(self, question: str, media: list[Media], sizes: list[Pixels]) -> tuple[list[View], int]:
        """Return the views of all media of a prompt, with slots counted through the prompt, and its number of slots.

        sizes: of all pictures, medium after medium.
        """
        _, order = self.prompts.text(question, [each.kind for each in media])
        starts = [sum(each.pictures for each in media[:index]) for index in range(len(media))]
        views: list[View] = []
        slots = 0
        for index in order:
            medium, first = media[index], starts[index]
            own = self.views(medium, sizes[first : first + medium.pictures])
            views += [view.after(first, slots) for view in own]
            slots += self.slots(medium)
        return views, slots

    def slots(self, medium: Media) -> int:
        """Return the number of visual slots of a medium in its prompt."""
        tokens = [self.processors.image_token, *([self.processors.video_token] if self.processors.video_token else [])]
        return sum(medium.text.count(token) for token in tokens)

    def text(self, question: str, media: list[Media]) -> tuple[str, list[Media]]:
        """Return the whole prompt, with one placeholder per visual token, and its media in the order of the prompt."""
        pieces, order = self.prompts.text(question, [each.kind for each in media])
        ordered = [media[index] for index in order]
        return pieces[0] + "".join(each.text + piece for each, piece in zip(ordered, pieces[1:], strict=True)), ordered

    def batch(
        self, questions: list[str], media: list[list[Media]], device: torch.device, dtype: torch.dtype
    ) -> dict[str, Tensor]:
        """Return inputs of `generate` for questions with their media: left-padded ids, mask and the media's tensors."""
        return self.pad_batch(*self.tokenize(questions, media), device, dtype)

    def tokenize(self, questions: list[str], media: list[list[Media]]) -> tuple[list[list[int]], list[list[Media]]]:
        """Return the ids of each whole prompt, and its media in the order of the prompt. Raises BadSample."""
        if (longest := max(map(len, questions))) > LONGEST_TEXT:
            raise BadSample(f"its prompt has {longest:,} characters; at most {LONGEST_TEXT:,} are asked")
        try:
            pairs = [self.text(question, own) for question, own in zip(questions, media, strict=True)]
        except UserError as error:  # the fault of this prompt: models/outline.py has tried the template with another
            raise BadSample(f"its prompt cannot be written: {error}") from error
        texts = [text for text, _ in pairs]
        begins = self.tokenizer.bos_token is not None and texts[0].startswith(self.tokenizer.bos_token)
        # Some templates write <s>; the tokenizer would add a second one.
        try:
            ids = self.tokenizer(texts, add_special_tokens=not begins)["input_ids"]
        except (TypeError, ValueError) as error:  # the Rust tokenizers refuse a lone surrogate
            raise BadSample(f"its prompt cannot be tokenized ({error_text(error)})") from error
        return ids, [ordered for _, ordered in pairs]

    def pad_batch(
        self, ids: list[list[int]], media: list[list[Media]], device: torch.device, dtype: torch.dtype
    ) -> dict[str, Tensor]:
        """Return inputs of `generate`, or of the model, for prompts of token ids with their media, left-padded."""
        encoded = self.tokenizer.pad({"input_ids": ids}, padding_side="left", return_tensors="pt")
        tensors = self.collate(media)
        return {
            "input_ids": encoded["input_ids"].to(device),
            "attention_mask": encoded["attention_mask"].to(device),
            **{name: given.to(device) for name, given in self.extras(encoded["input_ids"]).items()},
            **{
                name: given.to(device, dtype) if given.is_floating_point() else given.to(device)
                for name, given in tensors.items()
            },
        }

    def decode(self, ids: Tensor | list[list[int]]) -> list[str]:
        """Return the stripped answers of generated token ids, [B, T] or a list per answer."""
        return [text.strip() for text in self.tokenizer.batch_decode(ids, skip_special_tokens=True)]


def pad_tiles(prompts: list[list[Media]]) -> list[list[Media]]:
    """Return the media with all images padded to the number of tiles of the largest; videos are not changed.

    pixel_values is [1, T, 3, H, W]; the model ignores the added tiles, which are zero.
    """
    images = [medium for own in prompts for medium in own if medium.kind == "image"]
    most = max((image.tensors["pixel_values"].shape[1] for image in images), default=0)

    def fill(medium: Media) -> Media:
        if medium.kind != "image" or (missing := most - medium.tensors["pixel_values"].shape[1]) == 0:
            return medium
        pixels = pad(medium.tensors["pixel_values"], (0, 0, 0, 0, 0, 0, 0, missing))
        return replace(medium, tensors=medium.tensors | {"pixel_values": pixels})

    return [[fill(medium) for medium in own] for own in prompts]
