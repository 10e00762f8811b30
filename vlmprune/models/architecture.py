"""`model.random_weights=true`: published architectures from configs/architecture, for speed measurements.

The weights are random, so that answers mean nothing; no file is downloaded. The tokenizer is a substitute that has the
checkpoint's special tokens at their ids, and one unknown token for every word. The image processor is transformers'
with the checkpoint's sizes.
"""

from __future__ import annotations

import json
import tempfile
from pathlib import Path
from typing import Any

import torch
from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from tokenizers.pre_tokenizers import WhitespaceSplit
from transformers import AutoConfig, AutoModelForImageTextToText, PreTrainedTokenizerFast

# transformers 5.17 does not export this at top level without torchvision, which the PIL backend does not need.
from transformers.models.auto.image_processing_auto import AutoImageProcessor

from vlmprune.errors import UserError
from vlmprune.models.inputs import Parts
from vlmprune.registry import options, read

# All content in order; each medium as its placeholder between the tokens with which the checkpoint's template marks it.
TEMPLATE = (
    "{% for message in messages %}{% for item in message['content'] %}"
    "{% if item['type'] == 'text' %}{{ ' ' + item['text'] + ' ' }}{% else %}{{ media[item['type']] }}{% endif %}"
    "{% endfor %}{% endfor %}"
)


def architecture(name: str) -> Any:
    """Return the transformers config of a published model. Raises UserError if none is shipped for it."""
    known = options("architecture")
    if name not in known:
        raise UserError(
            f"model.random_weights=true: no architecture of model={name} is shipped; known: {', '.join(known)}; or "
            "model=path with a folder that has a config.json"
        )
    config = dict(read("architecture", name)["config"])
    return AutoConfig.for_model(**config)


def draw_weights(config: Any, attention: str, dtype: torch.dtype, device: torch.device) -> Any:
    """Return the model with random weights from a fixed seed, on `device`."""
    devices = [device] if device.type == "cuda" else []
    with torch.random.fork_rng(devices), torch.device(device):
        torch.manual_seed(0)
        return AutoModelForImageTextToText.from_config(config, dtype=dtype, attn_implementation=attention)


def stand_in(name: str, config: Any) -> Parts:
    """Return a substitute for the tokenizer, image processor and chat template of a model, without a download."""
    data = read("architecture", name)
    special: dict[str, int] = data["tokens"]
    tokenizer = Tokenizer(WordLevel({"<unk>": 0, **special}, unk_token="<unk>"))
    tokenizer.pre_tokenizer = WhitespaceSplit()
    fast = PreTrainedTokenizerFast(tokenizer_object=tokenizer, unk_token="<unk>", pad_token="<unk>")
    fast.add_special_tokens({"additional_special_tokens": list(special)})
    tokens = {index: token for token, index in special.items()}
    media = {"image": data["image"], "video": data.get("video", "")}
    template = "{% set media = " + json.dumps(media) + " %}" + TEMPLATE
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "preprocessor_config.json").write_text(json.dumps(data["image_processor"]), encoding="utf-8")
        processor = AutoImageProcessor.from_pretrained(folder, backend="pil")
    video = tokens.get(getattr(config, "video_token_id", -1)) or media["video"].strip()
    return Parts(fast, processor, template, tokens[config.image_token_id], video or None)
