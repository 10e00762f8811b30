"""From an image and a question to a model's inputs, each image preprocessed once, not once per question."""

from __future__ import annotations

from typing import Any

import torch
from PIL import Image
from torch import Tensor

from vlmprune.models.base import Adapter

# LLaVA's conversation template "vicuna_v1", system sentence included.
VICUNA_V1 = (
    "A chat between a curious user and an artificial intelligence assistant. "
    "The assistant gives helpful, detailed, and polite answers to the user's questions. "
    "USER: {image}\n{question} ASSISTANT:"
)


class Preprocessor:
    """The checkpoint's own image processor, tokenizer and chat template, driven piece by piece.

    prompt: `chat_template` or `vicuna_v1`. image: `processor` (resize and crop) or `pad` (LLaVA-1.5's evaluation: pad
    to a square with the mean colour first).
    """

    def __init__(self, processor: Any, adapter: Adapter, prompt: str, image: str) -> None:
        self.processor, self.adapter = processor, adapter
        self.tokenizer = processor.tokenizer
        self.prompt_style, self.image_style = prompt, image
        rows, columns = adapter.tower.grid
        self.placeholder = processor.image_token * (rows * columns)

    def pixels(self, image: Image.Image) -> Tensor:
        """float32 [tiles, 3, H, W] of one RGB image."""
        if self.image_style == "pad":
            image = pad_to_square(image, self.processor.image_processor.image_mean)
        return self.processor.image_processor(images=image, return_tensors="pt")["pixel_values"]

    def text(self, question: str) -> str:
        """The whole prompt, with the image's placeholder expanded to one token per patch."""
        if self.prompt_style == "vicuna_v1":
            text = VICUNA_V1.format(image=self.processor.image_token, question=question)
        else:
            content = [{"type": "image"}, {"type": "text", "text": question}]
            text = self.processor.apply_chat_template(
                [{"role": "user", "content": content}], add_generation_prompt=True, tokenize=False
            )
        return text.replace(self.processor.image_token, self.placeholder, 1)

    def batch(
        self, questions: list[str], pixels: list[Tensor], device: torch.device, dtype: torch.dtype
    ) -> dict[str, Tensor]:
        """Inputs of `generate` for questions with one image each: left-padded ids, mask, pixel values."""
        texts = [self.text(question) for question in questions]
        begins = self.tokenizer.bos_token is not None and texts[0].startswith(self.tokenizer.bos_token)
        encoded = self.tokenizer(
            texts,
            padding=True,
            padding_side="left",
            add_special_tokens=not begins,  # some templates write <s> themselves, and two would be wrong
            return_tensors="pt",
        )
        return {
            "input_ids": encoded["input_ids"].to(device),
            "attention_mask": encoded["attention_mask"].to(device),
            "pixel_values": torch.cat(pixels).to(device, dtype),
        }

    def decode(self, ids: Tensor) -> list[str]:
        """Generated token ids [B, T] -> stripped answers."""
        return [text.strip() for text in self.tokenizer.batch_decode(ids, skip_special_tokens=True)]


def pad_to_square(image: Image.Image, mean: list[float]) -> Image.Image:
    """Centre the image on a square of the processor's mean colour (LLaVA's expand2square)."""
    width, height = image.size
    side = max(width, height)
    square = Image.new("RGB", (side, side), tuple(int(channel * 255) for channel in mean))
    square.paste(image, ((side - width) // 2, (side - height) // 2))
    return square
