"""A checkpoint's small files, tokenizer, image processor and chat template, checked before and after loading."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from transformers import AutoTokenizer, ProcessorMixin

# transformers 5.17 does not export this at top level without torchvision, which the PIL backend does not need.
from transformers.models.auto.image_processing_auto import AutoImageProcessor
from transformers.utils import cached_file

from vlmprune.errors import UserError, error_text
from vlmprune.files import check_regular, read_bytes
from vlmprune.models.config_schema import ImageProcessor, Processor, Tokenizer, TokenizerConfig
from vlmprune.models.preprocessing import Processors
from vlmprune.typed_json import parse_json

LARGEST = 2**24  # bytes of a file of settings; published files have at most a hundredth of it
LARGEST_TOKENIZER = 2**28
KINDS = (".json", ".safetensors", ".jinja", ".model", ".txt")


def check_folder(folder: Path, start: str) -> None:
    """Raise UserError if a file is a pipe, a device, a folder or a broken link, or the chat template is too large.

    start: of the error's text.
    """
    for file in sorted(path for path in folder.iterdir() if path.suffix in KINDS):
        try:
            check_regular(file)
        except OSError as error:
            raise UserError(f"{start} {file.name}: {error.strerror}") from error
    template = folder / "chat_template.jinja"
    if template.exists() and (size := template.stat().st_size) > LARGEST:
        raise UserError(f"{start} {template.name}: it has {size:,} bytes; at most {LARGEST:,} are read")


def read_object(
    source: str, name: str, revision: str | None, schema: Any = dict[str, Any], required: bool = True
) -> Any:
    """Return the object in a JSON file of a folder or hub name; None if it is not `required` and not found.

    Raises OSError, and ValueError if it is no JSON, no object, or does not fit the schema.
    """
    file = cached_file(
        source,
        name,
        revision=revision,
        _raise_exceptions_for_missing_entries=required,
        _raise_exceptions_for_connection_errors=required,
    )
    if file is None:
        return None
    try:
        content = read_bytes(file, LARGEST_TOKENIZER if name == "tokenizer.json" else LARGEST)
        return parse_json(content, schema, finite=False)  # libraries accept -Infinity in fields not in the schema
    except (OSError, ValueError) as error:
        raise ValueError(error_text(error)) from error


# Files of settings beside config.json that transformers reads as JSON objects.
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
    identity: str  # commit on the hub, a hash of the folder's files or of the architecture; "" if not read yet
    revision: str | None = None  # commit on the hub
    random: bool = False  # True if only the architecture is used
    folder: bool = False  # True if `source` is a local folder


def read_processors(checkpoint: Checkpoint, prompt: str) -> Processors:
    """Load tokenizer, image processor and chat template. Raises UserError if one is absent, damaged or another model's.

    transformers' processor classes are not used: most need torchvision. Their settings for the number of tokens of a
    picture (patch_size, vision_feature_select_strategy, num_additional_image_tokens) are not read, since the model's
    config determines it.
    """
    source, config = checkpoint.source, checkpoint.config
    common: dict[str, Any] = {"revision": checkpoint.revision, "trust_remote_code": False}
    try:
        for what, schema in SETTINGS.items():
            read_object(source, what, checkpoint.revision, schema, required=False)
        what = "tokenizer"
        tokenizer = AutoTokenizer.from_pretrained(source, **common)
        what = "image processor"
        # Explicit, because with torchvision installed its backend would be the default and give other pixels.
        image_processor = AutoImageProcessor.from_pretrained(source, backend="pil", **common)
        what = "processor_config.json"
        settings, _ = ProcessorMixin.get_processor_dict(source, revision=checkpoint.revision)
        what = "video_preprocessor_config.json"
        video_size = _video_size(source, settings, checkpoint.revision)
    except Exception as error:  # transformers raises many types for damaged files
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
    processors = Processors(
        tokenizer,
        image_processor,
        template,
        image_token=_token(tokenizer, config, "image_token_id", source),
        # InternVL's video token has no id in the config: its videos become images before the prompt is tokenized.
        video_token=_token(tokenizer, config, "video_token_id", source)
        if hasattr(config, "video_token_id")
        else getattr(tokenizer, "video_token", None),
        video_size=video_size,
    )
    check_tokens(checkpoint, processors, settings)
    return processors


def check_tokens(checkpoint: Checkpoint, processors: Processors, settings: dict[str, Any]) -> None:
    """Raise UserError if the tokenizer's ids are not the model's; set the tokenizer's padding token.

    settings: of processor_config.json.
    """
    start, tokenizer, config = f"model.path={checkpoint.source}:", processors.tokenizer, checkpoint.config
    for name, token in (("image_token", processors.image_token), ("video_token", processors.video_token)):
        own = settings.get(name) or getattr(tokenizer, name, None)
        own = own.get("content") if isinstance(own, dict) else own
        if own is not None and token is not None and str(own) != token:
            index = getattr(config, f"{name}_id", None)
            raise UserError(
                f"{start} its processor's {name} is '{own}', and {name}_id={index} of its config.json is '{token}' in "
                "the tokenizer; correct one of them"
            )
    # Added tokens are left out: one that is never in a prompt needs no row of the embedding.
    words = set(tokenizer.get_vocab().values()) - tokenizer.added_tokens_decoder.keys()
    rows, last = config.text_config.vocab_size, max(words, default=-1)
    if last >= rows:
        raise UserError(
            f"{start} its tokenizer has ids up to {last}, and its config.json's vocab_size is {rows}: the tokenizer is "
            "another model's, or the embedding was not resized"
        )
    media = {processors.image_token, processors.video_token}
    # Padding is masked, so that any token will do except a media placeholder.
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
    """Return the first line of an error's message, at most 200 characters; the type's name for an empty message."""
    return str(error).strip().splitlines()[0][:200] if str(error).strip() else type(error).__name__


def _video_size(source: str, settings: dict[str, Any], revision: str | None) -> dict[str, int] | None:
    """Return `size` of the video processor, from processor_config.json or its separate file; None if neither has it."""
    found = settings.get("video_processor")
    if found is None:
        found = read_object(source, "video_preprocessor_config.json", revision, required=False) or {}
    # As in transformers: older files have two fields in place of `size`.
    older = {"shortest_edge": found.get("min_pixels"), "longest_edge": found.get("max_pixels")}
    size = (found.get("size") or {}) | {name: value for name, value in older.items() if value is not None}
    return size or None


def _token(tokenizer: Any, config: Any, name: str, source: str) -> str:
    index = getattr(config, name)
    token = tokenizer.convert_ids_to_tokens(index)
    if not token:
        raise UserError(f"model.path={source}: its tokenizer has no token {index}, which its config.json names {name}")
    return token
