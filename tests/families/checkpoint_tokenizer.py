"""A tokenizer that any checkpoint of the tests can have: one token per byte, and the family's special tokens."""

from __future__ import annotations

import json
from pathlib import Path

from tokenizers import Tokenizer
from tokenizers.decoders import ByteLevel as Bytes
from tokenizers.models import BPE
from tokenizers.pre_tokenizers import ByteLevel
from tokenizers.processors import TemplateProcessing
from transformers import PreTrainedTokenizerFast

BYTES = 256


def save_tokenizer(folder: Path, special: list[str], pad: str, bos: str | None, eos: str) -> dict[str, int]:
    """Write tokenizer.json and its config; special tokens get the ids from 256 on, returned by name.

    bos: begins every text where there is one, as Llama's tokenizer does.
    """
    alphabet = {symbol: index for index, symbol in enumerate(sorted(ByteLevel.alphabet()))}
    ids = {token: BYTES + index for index, token in enumerate(special)}
    tokenizer = Tokenizer(BPE(alphabet, []))
    tokenizer.pre_tokenizer = ByteLevel(add_prefix_space=False)
    tokenizer.decoder = Bytes()
    tokenizer.add_special_tokens(special)
    if bos is not None:
        tokenizer.post_processor = TemplateProcessing(single=f"{bos} $A", special_tokens=[(bos, ids[bos])])
    PreTrainedTokenizerFast(tokenizer_object=tokenizer, pad_token=pad, bos_token=bos, eos_token=eos).save_pretrained(
        folder
    )
    return ids


def write_json(folder: Path, name: str, content: dict) -> None:
    (folder / name).write_text(json.dumps(content, indent=2))
