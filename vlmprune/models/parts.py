"""A checkpoint's tokenizer, image processor and chat template, and whether they belong to its model."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from transformers import AutoTokenizer, ProcessorMixin

# transformers 5.17 hides its top-level name where torchvision is missing, though the PIL backend does not need it.
from transformers.models.auto.image_processing_auto import AutoImageProcessor

from vlmprune.errors import UserError
from vlmprune.models.config_schema import ImageProcessor, Processor, Tokenizer, TokenizerConfig
from vlmprune.models.files import read_object
from vlmprune.models.inputs import Parts

# Files of settings that transformers reads, and takes for objects, beside config.json.
SETTINGS: dict[str, Any] = {
    "tokenizer.json": Tokenizer,
    "tokenizer_config.json": TokenizerConfig,
    "special_tokens_map.json": dict[str, Any],
    "added_tokens.json": dict[str, Any],
    "chat_template.json": dict[str, Any],
    "preprocessor_config.json": ImageProcessor,
    "processor_config.json": Processor,
}


@dataclass(frozen=True)
class Checkpoint:
    """A checkpoint whose config.json was read; no weight is loaded yet."""

    source: str  # folder or hub name
    config: Any  # transformers config
    identity: str  # commit on the hub, a hash of the folder's files, or one of the architecture
    revision: str | None = None  # commit on the hub
    random: bool = False  # only the architecture is used
    folder: bool = False  # whether `source` is a local folder


def read_parts(checkpoint: Checkpoint, prompt: str) -> Parts:
    """Tokenizer, image processor and chat template. Raises UserError where one is absent, damaged or another model's.

    transformers' own processor is not built: most need torchvision. Of its settings those that say how many tokens a
    picture has (patch_size, vision_feature_select_strategy, num_additional_image_tokens) are not read: the model's
    config says it, and the encoder does it.
    """
    source, config = checkpoint.source, checkpoint.config
    common: dict[str, Any] = {"revision": checkpoint.revision, "trust_remote_code": False}
    try:
        for what, schema in SETTINGS.items():
            read_object(source, what, checkpoint.revision, schema, required=False)
        what = "tokenizer"
        tokenizer = AutoTokenizer.from_pretrained(source, **common)
        what = "image processor"
        # Chosen explicitly: where torchvision is installed the default would be its backend and give other pixels.
        image_processor = AutoImageProcessor.from_pretrained(source, backend="pil", **common)
        what = "processor_config.json"
        settings, _ = ProcessorMixin.get_processor_dict(source, revision=checkpoint.revision)
        what = "video_preprocessor_config.json"
        video_size = _video_size(source, settings, checkpoint.revision)
    except Exception as error:  # whatever transformers says of someone else's files
        raise UserError(f"model.path={source}: its {what} cannot be loaded ({first_line(error)})") from error
    template = settings.get("chat_template") or tokenizer.chat_template
    if isinstance(template, dict):
        template = template.get("default")
    if template is not None and not isinstance(template, str):
        raise UserError(
            f"model.path={source}: its chat template is {type(template).__name__}, where a text is expected"
        )
    if template is None and prompt == "chat_template":
        raise UserError(f"model.path={source}: it has no chat template; use model.prompt=vicuna_v1")
    parts = Parts(
        tokenizer,
        image_processor,
        template,
        image_token=_token(tokenizer, config, "image_token_id", source),
        # InternVL's has no id: its videos become images before the prompt is read.
        video_token=_token(tokenizer, config, "video_token_id", source)
        if hasattr(config, "video_token_id")
        else getattr(tokenizer, "video_token", None),
        video_size=video_size,
    )
    check_tokens(checkpoint, parts, settings)
    return parts


def check_tokens(checkpoint: Checkpoint, parts: Parts, settings: dict[str, Any]) -> None:
    """Raise UserError where the tokenizer's ids are not the model's; give it a token to fill batches up with.

    settings: of processor_config.json.
    """
    start, tokenizer, config = f"model.path={checkpoint.source}:", parts.tokenizer, checkpoint.config
    for name, token in (("image_token", parts.image_token), ("video_token", parts.video_token)):
        own = settings.get(name) or getattr(tokenizer, name, None)
        own = own.get("content") if isinstance(own, dict) else own
        if own is not None and token is not None and str(own) != token:
            index = getattr(config, f"{name}_id", None)
            raise UserError(
                f"{start} its processor's {name} is '{own}', and {name}_id={index} of its config.json is '{token}' in "
                "the tokenizer; correct one of them"
            )
    # Words alone: a token that was added and never stands in a prompt needs no row of the embedding.
    words = set(tokenizer.get_vocab().values()) - tokenizer.added_tokens_decoder.keys()
    rows, last = config.text_config.vocab_size, max(words, default=-1)
    if last >= rows:
        raise UserError(
            f"{start} its tokenizer has ids up to {last}, and its config.json's vocab_size is {rows}: the tokenizer is "
            "another model's, or the embedding was not resized"
        )
    media = {parts.image_token, parts.video_token}
    # What fills a batch up is masked: any word does, but one that stands for a picture.
    fillers = [getattr(tokenizer, f"{name}_token") for name in ("pad", "eos", "bos", "unk")]
    filler = next((token for token in fillers if token is not None and token not in media), None)
    if filler is None:
        raise UserError(f"{start} its tokenizer has neither pad_token nor eos_token; name one in tokenizer_config.json")
    tokenizer.pad_token = filler


def is_of_shapes(error: Exception) -> bool:
    """Return True where `from_pretrained` says that weights have other shapes than the config.

    transformers has no class for it: up to 5.23 it raises a RuntimeError that names its argument for such weights.
    """
    return "ignore_mismatched_sizes" in str(error)


def first_line(error: BaseException) -> str:
    """The first line of an error's message, cut to a length that fits one."""
    return str(error).strip().splitlines()[0][:200] if str(error).strip() else type(error).__name__


def _video_size(source: str, settings: dict[str, Any], revision: str | None) -> dict[str, int] | None:
    """`size` of the video processor, in processor_config.json or a file of its own; None where neither has it."""
    found = settings.get("video_processor")
    if found is None:
        found = read_object(source, "video_preprocessor_config.json", revision, required=False) or {}
    # As transformers has it: older files name both by themselves.
    older = {"shortest_edge": found.get("min_pixels"), "longest_edge": found.get("max_pixels")}
    size = (found.get("size") or {}) | {name: value for name, value in older.items() if value is not None}
    return size or None


def _token(tokenizer: Any, config: Any, name: str, source: str) -> str:
    index = getattr(config, name)
    token = tokenizer.convert_ids_to_tokens(index)
    if not token:
        raise UserError(f"model.path={source}: its tokenizer has no token {index}, which its config.json names {name}")
    return token
