"""Where a question's images and videos stand in its prompt, and the words around them."""

from __future__ import annotations

import re
import threading
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from vlmprune.bounds import bounds
from vlmprune.errors import UserError, said

# Conversation templates of LLaVA's code, system sentence included: that of LLaVA-1.5 and -NeXT, that of Video-LLaVA.
SYSTEM = (
    "A chat between a curious {who} and an artificial intelligence assistant. "
    "The assistant gives helpful, detailed, and polite answers to the {who}'s questions. "
)
STYLES = {"vicuna_v1": SYSTEM.format(who="user"), "llava_v1": SYSTEM.format(who="human")}
INSTEAD = "; correct it, or use model.prompt=vicuna_v1"
SECONDS, GIBIBYTES = 4, 1  # that a chat template may take; published ones take milliseconds
LONGEST = 1_000_000  # characters that it may write around a question
MARKER = re.compile(r"<image(?: (\d+))?>")  # "<image 2>" in a question is where its second image stands

Content = list[dict[str, str]]  # of a chat message: {"type": "text", "text": ...}, {"type": "image"}, {"type": "video"}


@dataclass(frozen=True)
class Prompts:
    """Prompts of one checkpoint.

    style: `chat_template` (its own), `vicuna_v1` or `llava_v1`. tokens: kind of media -> its token.
    """

    tokenizer: Any
    chat_template: str | None
    tokens: dict[str, str]
    style: str

    def text(self, question: str, kinds: list[str]) -> tuple[list[str], list[int]]:
        """The prompt, cut where its media stand, and the media in the order in which they stand there.

        kinds: "image" or "video", one per medium. Raises UserError where the chat template leaves one out.
        """
        order, pieces = place_media(question, kinds)
        first = len(kinds) - pieces.count(None)
        before: Content = [{"type": kinds[index]} for index in order[:first]]
        placed = iter(order[first:])
        # A media token among the question's own words would be one too many.
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
        """Return the whole prompt of a question about one medium, {prompt} standing where its text does."""
        pieces, _ = self.text("{prompt}", [kind])
        return self.tokens[kind].join(pieces)

    @cached_property
    def _token(self) -> re.Pattern[str]:
        return re.compile("|".join(re.escape(token) for token in self.tokens.values()))

    @cached_property
    def _interleaves(self) -> bool:
        """Whether the chat template leaves an image between two texts; LLaVA's writes all images first."""
        text = self._chat([{"type": "text", "text": "before"}, {"type": "image"}, {"type": "text", "text": "after"}])
        return "before" in self._token.split(text)[0]

    def _flat(self, content: Content) -> str:
        return "".join(item.get("text", self.tokens.get(item["type"], "")) for item in content)

    def _chat(self, content: Content) -> str:
        try:
            # A limit would be that of pictures which other threads decode, too. Before a run there are none.
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
        # A template is a program of the checkpoint's: it may refuse, be wrong, not end, or take a message for one text.
        except Exception as error:
            raise UserError(
                f"model.prompt={self.style}: the checkpoint's chat template raises {type(error).__name__} "
                f"({said(error)}){INSTEAD}"
            ) from error


def place_media(question: str, kinds: list[str]) -> tuple[list[int], list[str | None]]:
    """`place_images` for a prompt's images and videos: markers number its images, or its videos where it has none."""
    numbered = [index for index, kind in enumerate(kinds) if kind == "image"] or list(range(len(kinds)))
    order, pieces = place_images(question, len(numbered))
    inline = [numbered[index] for index in order[len(order) - pieces.count(None) :]]
    return [index for index in range(len(kinds)) if index not in inline] + inline, pieces


def place_images(question: str, images: int) -> tuple[list[int], list[str | None]]:
    """The images in the order in which they stand, and the question in pieces, None where an image stands in it.

    "<image 2>" places the second image, a bare "<image>" the first one that is left; images that no marker places come
    before the question. Where an image is named again, or does not exist, the words "image 2" remain.
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
