"""Prompts: the text around a question, and the positions of its images and videos."""

from __future__ import annotations

import re
import threading
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from vlmprune.bounds import bounds
from vlmprune.errors import UserError, said

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
            with bounds(SECONDS, GIBIBYTES if threading.active_count() == 1 else None):
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
                f"({said(error)}){INSTEAD}"
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
