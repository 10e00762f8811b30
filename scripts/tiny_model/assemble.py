"""Puts tower, projector, decoder and processor together as a plain LLaVA checkpoint."""

from __future__ import annotations

import copy
from pathlib import Path

import torch
from torch import Tensor
from transformers import (
    CLIPImageProcessor,
    CLIPVisionModel,
    GenerationConfig,
    LlamaConfig,
    LlavaConfig,
    LlavaForConditionalGeneration,
    LlavaProcessor,
    PreTrainedTokenizerFast,
)

from scripts.tiny_model.scenes import IMAGE_SIZE, PATCH_SIZE
from scripts.tiny_model.text import CHAT_TEMPLATE, SPECIAL
from scripts.tiny_model.tower import CLIP_MEAN, CLIP_STD

FEATURE_LAYER = -2  # of the tower's hidden states, as in LLaVA-1.5


def build_model(tower: CLIPVisionModel, tokenizer: PreTrainedTokenizerFast) -> LlavaForConditionalGeneration:
    """A LLaVA model around a trained tower; projector and decoder are random."""
    image, bos, eos, pad = (tokenizer.convert_tokens_to_ids(SPECIAL[k]) for k in ("image", "bos", "eos", "pad"))
    text = LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=128,
        intermediate_size=384,
        num_hidden_layers=6,
        num_attention_heads=4,
        num_key_value_heads=4,
        max_position_embeddings=512,
        tie_word_embeddings=True,
        initializer_range=0.05,
        bos_token_id=bos,
        eos_token_id=eos,
        pad_token_id=pad,
    )
    config = LlavaConfig(
        vision_config=tower.config.to_dict(),
        text_config=text.to_dict(),
        image_token_index=image,
        projector_hidden_act="gelu",
        vision_feature_layer=FEATURE_LAYER,
        vision_feature_select_strategy="default",
        image_seq_length=(IMAGE_SIZE // PATCH_SIZE) ** 2,
        tie_word_embeddings=True,
        bos_token_id=bos,
        eos_token_id=eos,
        pad_token_id=pad,
    )
    model = LlavaForConditionalGeneration(config)
    model.model.vision_tower.load_state_dict(tower.state_dict())
    model.generation_config = GenerationConfig(
        bos_token_id=bos, eos_token_id=eos, pad_token_id=pad, do_sample=False, max_new_tokens=8
    )
    return model


def build_processor(tokenizer: PreTrainedTokenizerFast) -> LlavaProcessor:
    """Scales the shorter side to 144 pixels, crops the centre, normalises as CLIP; renders LLaVA-1.5 prompts."""
    side = {"height": IMAGE_SIZE, "width": IMAGE_SIZE}
    images = CLIPImageProcessor(
        size={"shortest_edge": IMAGE_SIZE},
        crop_size=side,
        image_mean=list(CLIP_MEAN),
        image_std=list(CLIP_STD),
    )
    return LlavaProcessor(
        image_processor=images,
        tokenizer=tokenizer,
        patch_size=PATCH_SIZE,
        vision_feature_select_strategy="default",
        num_additional_image_tokens=1,  # the tower's [CLS]
        chat_template=CHAT_TEMPLATE,
    )


def start_projector(model: LlavaForConditionalGeneration, features: Tensor) -> None:
    """Standardises the projector's input: the mean and spread of `features` (N, 144, 192) go into its first layer."""
    first, second = model.model.multi_modal_projector.linear_1, model.model.multi_modal_projector.linear_2
    flat = features.float().flatten(0, 1)
    mean, spread = flat.mean(0), flat.std(0) + 1e-4
    with torch.no_grad():
        torch.nn.init.normal_(first.weight, std=first.in_features**-0.5)
        first.weight /= spread.to(first.weight)
        first.bias.copy_(-first.weight @ mean.to(first.weight))
        torch.nn.init.normal_(second.weight, std=second.in_features**-0.5)
        second.bias.zero_()


def save_checkpoint(model: LlavaForConditionalGeneration, processor: LlavaProcessor, folder: Path) -> None:
    """Half-precision safetensors, processor and chat template; loads through AutoProcessor and from_pretrained."""
    copy.deepcopy(model).half().save_pretrained(folder)  # the copy keeps the weights in training exact
    processor.save_pretrained(folder)
