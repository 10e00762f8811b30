"""A tiny random CLIP checkpoint with a tokenizer of its own, made from a config: no hub, no download."""

from __future__ import annotations

from pathlib import Path

import torch
from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from tokenizers.pre_tokenizers import Whitespace
from tokenizers.processors import TemplateProcessing
from transformers import CLIPConfig, CLIPModel, CLIPVisionConfig, PreTrainedTokenizerFast

CONTEXT = 12  # tokens of one segment; CLIP's are 77
WORDS = ["is", "there", "a", "red", "star", "left", "of", "the", "blue", "square"]
START, END = 14, 15


def ids_of(question: str) -> list[int]:
    """The tokens of a question, with both ends."""
    return [START, *(1 + WORDS.index(word) for word in question.split()), END]


def make_clip(folder: Path, vision: CLIPVisionConfig) -> Path:
    """Save a CLIP whose vision encoder is `vision`, with weights large enough for distinct cosines."""
    torch.manual_seed(0)
    text = {
        "hidden_size": 16,
        "intermediate_size": 32,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "vocab_size": END + 1,
        "max_position_embeddings": CONTEXT,
        "bos_token_id": START,
        "eos_token_id": END,
    }
    clip = CLIPModel(CLIPConfig(text_config=text, vision_config=vision.to_dict(), projection_dim=24))
    with torch.no_grad():
        for parameter in clip.parameters():
            parameter.add_(torch.randn_like(parameter), alpha=0.2)
    clip.save_pretrained(folder)

    ends = {"<s>": START, "</s>": END}
    words = {word: index for index, word in enumerate(["!", *WORDS])}
    tokenizer = Tokenizer(WordLevel(words | ends, unk_token="!"))
    tokenizer.pre_tokenizer = Whitespace()
    tokenizer.post_processor = TemplateProcessing(single="<s> $A </s>", special_tokens=list(ends.items()))
    PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, bos_token="<s>", eos_token="</s>", unk_token="!", model_max_length=CONTEXT
    ).save_pretrained(folder)
    return folder
