"""The text tower of CLIP beside a vision-language model, for the relevance of image patches to a question.

A LLaVA checkpoint contains CLIP's vision encoder alone. The text tower, both projections into the common space and the
norm before the visual one are read from the CLIP checkpoint. CLIP's vision layers are not loaded, because the model has
already computed their output.
"""

from __future__ import annotations

import copy
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import normalize
from transformers import AutoTokenizer, CLIPModel

from vlmprune.errors import UserError, user_error_on_failure
from vlmprune.files import expand_path
from vlmprune.methods.base import Method, Tower
from vlmprune.methods.tensor_ops import products
from vlmprune.models.checkpoint import read_config
from vlmprune.models.processor import Checkpoint, check_folder, first_line, is_of_shapes, read_object
from vlmprune.models.weights import check_files, check_sizes, folder_hash

MATCHING = ("hidden_size", "patch_size", "image_size", "num_hidden_layers")  # another encoder differs in one of these


class _WithoutVisionLayers(CLIPModel):
    """CLIP without its vision encoder's layers; their weights in the checkpoint are ignored without a warning."""

    _keys_to_ignore_on_load_unexpected = [r"vision_model\.encoder\."]  # noqa: RUF012  (transformers' own attribute)


class TextTower:
    """Relevance of vision-encoder patches to questions, as in CDPruner (arXiv:2506.10967).

    clip: a CLIPModel; its vision layers are not used. tokenizer: the one of its checkpoint.
    """

    def __init__(self, clip: Any, tokenizer: Any) -> None:
        self.clip, self.tokenizer = clip.eval().requires_grad_(False), tokenizer
        self.context: int = clip.config.text_config.max_position_embeddings  # 77 tokens
        # Of the last call only: a longer memory would hide the cost of a repeated question from the measured time.
        self._embeddings: dict[str, Tensor] = {}

    @torch.no_grad()
    def relevance(self, features: Tensor, questions: list[str]) -> Tensor:
        """Return float32 [images, N], the cosine of each patch and its question, the mean over the question's segments.

        features: [images, N, C] patches at the projector's input; the images of one question are consecutive, in the
        questions' order. Raises ValueError if the images cannot be divided evenly among the questions.
        """
        images = len(features)
        if not questions or images % len(questions):
            raise ValueError(f"{images} images for {len(questions)} questions: every question needs equally many")
        device = self.clip.device
        patches = self.clip.vision_model.post_layernorm(features.to(device, torch.float32))
        patches = normalize(self.clip.visual_projection(patches), dim=-1)
        text = self.embed(questions).repeat_interleave(images // len(questions), dim=0)
        return products(text.unsqueeze(1), patches).squeeze(1).to(features.device)

    @torch.no_grad()
    def embed(self, questions: list[str]) -> Tensor:
        """Return float32 [questions, projection width], the mean of the unit embeddings of each question's segments.

        Its product with a unit vector is the mean of the cosines.
        """
        new = [question for question in dict.fromkeys(questions) if question not in self._embeddings]
        if new:
            segments = [self.segments(question) for question in new]
            pooled = self.clip.text_model(torch.cat(segments).to(self.clip.device)).pooler_output
            units = normalize(self.clip.text_projection(pooled), dim=-1).split([len(part) for part in segments])
            self._embeddings |= {question: part.mean(dim=0) for question, part in zip(new, units, strict=True)}
        self._embeddings = {question: self._embeddings[question] for question in questions}
        return torch.stack([self._embeddings[question] for question in questions])

    def segments(self, question: str) -> Tensor:
        """Return int64 [segments, 77], all tokens of the question, the last segment padded with zeros, as published.

        No mask is needed: attention is causal, so that pooled tokens do not attend to the padding at the end.
        """
        ids = self.tokenizer(question, truncation=False, verbose=False)["input_ids"]
        return torch.tensor(ids + [0] * (-len(ids) % self.context)).view(-1, self.context)


def find_method_clip(method: Method, tower: Tower, vision_config: Any) -> Checkpoint | None:
    """Return the CLIP that `method` names in its field `clip`; None for a method that reads no text_relevance.

    tower, vision_config: of the vision-language model. Raises UserError like `find_text_tower`.
    """
    for part in method.parts(tower.grid[0] * tower.grid[1]):
        if "text_relevance" in part.needs:
            return find_text_tower(part.clip, vision_config)  # type: ignore[attr-defined]
    return None


def find_text_tower(source: str, vision_config: Any) -> Checkpoint:
    """Return the CLIP checkpoint in folder or hub name `source`, by its config.json; no weight is loaded.

    vision_config: that of the vision-language model. Raises UserError if there is no CLIP, or its vision encoder is not
    the model's.
    """
    folder = expand_path("method.clip", source)
    if source.startswith((".", "/", "~")) and not folder.is_dir():
        raise UserError(f"method.clip={source}: no such folder")
    place, start = str(folder) if folder.is_dir() else source, f"method.clip={source}:"
    if folder.is_dir():
        check_folder(folder, start)
    try:
        data = read_object(place, "config.json", None)
    except (OSError, ValueError) as error:
        raise UserError(f"{start} cannot be loaded (config.json: {first_line(error)})") from error
    if data is None:
        raise UserError(f"{start} cannot be loaded (it has no config.json)")
    if data.get("model_type") != "clip":
        raise UserError(f"{start} a '{data.get('model_type')}' checkpoint, not a CLIP with both towers")
    config = read_config(data, place, start)
    if vision_config.model_type != "clip_vision_model":
        raise UserError(f"method.clip={source}: the model's vision encoder is '{vision_config.model_type}', not CLIP")
    for field in MATCHING:
        theirs, ours = getattr(config.vision_config, field), getattr(vision_config, field)
        if theirs != ours:
            raise UserError(
                f"method.clip={source}: not the CLIP of this model, its vision encoder has {field}={theirs} and the "
                f"model's has {ours}"
            )
    if folder.is_dir():
        check_files(folder, source, "method.clip")
        return Checkpoint(str(folder), config, folder_hash(folder))
    return Checkpoint(source, config, f"commit:{config._commit_hash}")


def load_text_tower(checkpoint: Checkpoint, device: torch.device) -> TextTower:
    """Load the checkpoint that `find_text_tower` returned, in float32 as published, from safetensors only.

    Raises UserError if files are damaged or weights are missing.
    """
    source = checkpoint.source
    config = copy.deepcopy(checkpoint.config)
    config.vision_config.num_hidden_layers = 0
    why = f"method.clip={source}: transformers cannot build the model of its config.json"
    with user_error_on_failure(why, "correct its text_config"), torch.device("meta"):
        empty = _WithoutVisionLayers(config)
    check_sizes(checkpoint, empty, "method.clip")
    try:
        pair: Any = _WithoutVisionLayers.from_pretrained(
            source,
            config=config,
            dtype=torch.float32,
            use_safetensors=True,
            trust_remote_code=False,
            output_loading_info=True,
        )
        tokenizer = AutoTokenizer.from_pretrained(source, trust_remote_code=False)
    except Exception as error:  # transformers raises many types for damaged files
        if is_of_shapes(error):
            raise UserError(f"method.clip={source}: its weights have other shapes than its config.json says") from error
        raise UserError(f"method.clip={source}: cannot be loaded ({first_line(error)})") from error
    clip, loading_info = pair
    if loading_info["missing_keys"]:  # transformers would fill them with random numbers
        missing = sorted(loading_info["missing_keys"])
        raise UserError(f"method.clip={source}: {len(missing)} weights are missing, {missing[0]} among them")
    last, rows = max(tokenizer.get_vocab().values(), default=-1), config.text_config.vocab_size
    if last >= rows:
        raise UserError(f"method.clip={source}: its tokenizer has ids up to {last}, and its vocab_size is {rows}")
    return TextTower(clip.to(device), tokenizer)
