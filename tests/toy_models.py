"""Toy models of every family: random weights, large enough for distinct logits; made from a config, no download."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from transformers import CLIPVisionConfig, LlavaConfig, LlavaForConditionalGeneration, PretrainedConfig, PreTrainedModel

from vlmprune import prune
from vlmprune.engine.prompt_state import Record

NOT_FAMILIES = ("test_", "checkpoint", "__init__")
FOLDER = Path(__file__).parent / "families"
FAMILIES = sorted(path.stem for path in FOLDER.glob("*.py") if not path.stem.startswith(NOT_FAMILIES))

VISION: dict[str, Any] = {"hidden_size": 32, "intermediate_size": 64, "num_attention_heads": 4}
CLIP = VISION | {"num_hidden_layers": 5, "image_size": 48, "patch_size": 8, "projection_dim": 32}
TEXT: dict[str, Any] = {
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_hidden_layers": 6,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "vocab_size": 99,
    "max_position_embeddings": 512,
}


def toy_model(
    cls: type[PreTrainedModel], config: PretrainedConfig, attention: str = "sdpa", seed: int = 0, scale: float = 3
) -> Any:
    """A model whose every random weight is multiplied by `scale`."""
    torch.manual_seed(seed)
    model = cls._from_config(config, attn_implementation=attention).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.mul_(scale)
    return model


def toy_llava(
    text: PretrainedConfig, image_token: int, vision: dict[str, Any] = CLIP, **settings: Any
) -> LlavaForConditionalGeneration:
    """A LLaVA with this decoder; `settings` are those of `toy_model`."""
    config = LlavaConfig(
        vision_config=CLIPVisionConfig(**vision),
        text_config=text,
        image_token_id=image_token,
        image_seq_length=(vision["image_size"] // vision["patch_size"]) ** 2,
    )
    return toy_model(LlavaForConditionalGeneration, config, **settings)


def left_padded(rows: list[Tensor]) -> dict[str, Tensor]:
    """input_ids and attention_mask of prompts of different lengths."""
    longest = max(map(len, rows))
    ids = torch.stack([torch.nn.functional.pad(row, (longest - len(row), 0)) for row in rows])
    return {"input_ids": ids, "attention_mask": (ids > 0).long()}


def unpadded(given: dict[str, Tensor], row: int, *names: str) -> dict[str, Tensor]:
    """input_ids, attention_mask and what else is called `names` of one row, without its padding."""
    length = int(given["attention_mask"][row].sum())
    return {name: given[name][row : row + 1, -length:] for name in ("input_ids", "attention_mask", *names)}


@contextmanager
def inputs_of(*modules: nn.Module) -> Iterator[list[Tensor]]:
    """The first inputs of the modules, in the order of their calls."""
    seen: list[Tensor] = []

    def see(_module: nn.Module, args: tuple, kwargs: dict) -> None:
        seen.append(args[0] if args else kwargs["hidden_states"])

    handles = [module.register_forward_pre_hook(see, with_kwargs=True) for module in modules]
    try:
        yield seen
    finally:
        for handle in handles:
            handle.remove()


def record_of(model: nn.Module, inputs: dict[str, Tensor], method: Any, **settings: Any) -> Record:
    """The record of a prefill inside a session; settings: those of `prune`."""
    with prune(model, method, **settings) as session:
        model(**inputs)
    return session.record
