"""Tiny random checkpoints in the format of the hub, one per family: the shipped architectures, made small."""

from __future__ import annotations

import io
import json
from contextlib import redirect_stderr
from pathlib import Path
from typing import Any

import torch
from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from tokenizers.pre_tokenizers import WhitespaceSplit
from transformers import AutoConfig, AutoModelForImageTextToText, PreTrainedTokenizerFast

from vlmprune.config.registry import find_choices, read_choice
from vlmprune.config.settings import ModelConfig
from vlmprune.models.checkpoint import find_checkpoint
from vlmprune.models.loading import LoadedModel, load

# One published model of every family.
MODELS = {read_choice("architecture", name)["config"]["model_type"]: name for name in find_choices("architecture")}

WORDS = ["What", "color", "is", "the", "star?", "red", "blue", "yes", "no", "left"]
WORDS += ["USER:", "ASSISTANT:", "How", "many"]
TEXT = {"hidden_size": 64, "intermediate_size": 96, "num_hidden_layers": 6, "num_attention_heads": 4}
TEXT |= {"num_key_value_heads": 2, "vocab_size": 256, "max_position_embeddings": 4096, "head_dim": 16}
VISION = {"hidden_size": 32, "intermediate_size": 64}

# LLaVA's templates write all media first, Qwen's leave them between the texts.
LLAVA_TEMPLATE = (
    "{% for message in messages %}{{ message['role'].upper() + ': ' }}"
    "{% for content in message['content'] | selectattr('type', 'equalto', 'image') %}{{ '<image>\n' }}{% endfor %}"
    "{% for content in message['content'] | selectattr('type', 'equalto', 'video') %}{{ '<video>\n' }}{% endfor %}"
    "{% for content in message['content'] | selectattr('type', 'equalto', 'text') %}{{ content['text'] + ' ' }}"
    "{% endfor %}{% endfor %}{% if add_generation_prompt %}{{ 'ASSISTANT:' }}{% endif %}"
)
QWEN_TEMPLATE = (
    "{% for message in messages %}<|im_start|>{{ message['role'] }}\n{% for content in message['content'] %}"
    "{% if content['type'] == 'text' %}{{ content['text'] }}{% elif content['type'] == 'image' %}IMAGE"
    "{% else %}VIDEO{% endif %}{% endfor %}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
CLIP = {"image_size": 56, "num_hidden_layers": 4, "num_attention_heads": 4, "projection_dim": 32}
SMALL: dict[str, dict[str, Any]] = {  # of the vision encoder, beside VISION
    "llava": CLIP,
    "llava_next": CLIP,
    "video_llava": CLIP,
    "llava_onevision": {"image_size": 56, "num_hidden_layers": 4, "num_attention_heads": 4},
    "internvl": {"image_size": [56, 56], "num_hidden_layers": 4, "num_attention_heads": 4},
    "qwen2_5_vl": {"depth": 4, "num_heads": 4, "out_hidden_size": 64, "fullatt_block_indexes": [1, 3]},
    "qwen3_vl": {"depth": 4, "num_heads": 4, "out_hidden_size": 64, "deepstack_visual_indexes": [1, 2]},
}
PINPOINTS = [[56, 112], [112, 56], [112, 112]]


def save(folder: Path, family: str) -> Path:
    """Write config.json, model.safetensors, tokenizer, preprocessor_config.json and chat template."""
    shipped = read_choice("architecture", MODELS[family])
    special = {token: 256 - len(shipped["tokens"]) + index for index, token in enumerate(shipped["tokens"])}
    config = small_config(shipped, special)
    torch.manual_seed(0)
    with redirect_stderr(io.StringIO()):  # transformers' bar, among the lines of the test that is the first to save
        AutoModelForImageTextToText.from_config(config).save_pretrained(folder)

    tokenizer = Tokenizer(WordLevel({word: at for at, word in enumerate(["<unk>", *WORDS])} | special, "<unk>"))
    tokenizer.pre_tokenizer = WhitespaceSplit()
    fast = PreTrainedTokenizerFast(tokenizer_object=tokenizer, unk_token="<unk>", pad_token="<unk>")
    fast.add_special_tokens({"additional_special_tokens": list(special)})
    fast.save_pretrained(folder)

    (folder / "preprocessor_config.json").write_text(json.dumps(small_processor(shipped["image_processor"])))
    llava = family in ("llava", "llava_next", "video_llava")
    template = LLAVA_TEMPLATE if llava else QWEN_TEMPLATE.replace("IMAGE", shipped["image"])
    template = template.replace("VIDEO", shipped.get("video", ""))
    if family == "qwen2_5_vl":  # an older file for the same thing
        (folder / "chat_template.json").write_text(json.dumps({"chat_template": template}))
    else:
        (folder / "chat_template.jinja").write_text(template)
    return folder


def load_saved(folder: Path, **settings: Any) -> LoadedModel:
    """The checkpoint of a folder on the CPU in float32; settings: of the ModelConfig."""
    config = ModelConfig("path", str(folder), **settings)
    return load(find_checkpoint(config), config, torch.float32, torch.device("cpu"))


def small_config(shipped: dict[str, Any], special: dict[str, int]) -> Any:
    """The family's config with few and narrow layers, its tokens at the ids of `special`."""
    config = dict(shipped["config"])
    at = {index: special[token] for token, index in shipped["tokens"].items()}
    config |= {key: at[value] for key, value in config.items() if key.endswith(("token_id", "token_index"))}
    family = config["model_type"]
    text = config["text_config"] | TEXT
    if "rope_parameters" in text:
        text["rope_parameters"] = text["rope_parameters"] | {"mrope_section": [4, 2, 2]}
    config |= {"text_config": text, "vision_config": config["vision_config"] | VISION | SMALL[family]}
    config |= {"dtype": "float32"} | ({"image_grid_pinpoints": PINPOINTS} if "image_grid_pinpoints" in config else {})
    return AutoConfig.for_model(**config)


def small_processor(shipped: dict[str, Any]) -> dict[str, Any]:
    """preprocessor_config.json for images of 56 pixels, or for few pixels where images keep their own size."""
    name = shipped["image_processor_type"]
    if name.startswith(("Qwen", "Got")):  # the hub names the class of another backend
        shipped = shipped | {"image_processor_type": f"{name}Fast"}
    sizes = {"shortest_edge": 56, "longest_edge": 56 * 56, "height": 56, "width": 56}
    small = {key: {side: sizes[side] for side in shipped[key]} for key in ("size", "crop_size") if key in shipped}
    if name.startswith("Qwen"):
        small["size"] = {"shortest_edge": 32 * 32, "longest_edge": 128 * 128}
    return shipped | small | ({"image_grid_pinpoints": PINPOINTS} if "image_grid_pinpoints" in shipped else {})
