"""Checkpoints that someone else made: a tiny one of each family, with one thing wrong."""

from __future__ import annotations

import functools
import json
import os
import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tests.robustness.hostile.table import Hostile

CONFIG, PICTURES, RULES = "config.json", "preprocessor_config.json", "generation_config.json"
WEIGHTS, INDEX, TOKENS = "model.safetensors", "model.safetensors.index.json", "tokenizer_config.json"
RUN = ("run", "model=path", "model.path=./copy", "limit=1", "logger=none", "latency_samples=0", "show.samples=0")
TEMPLATE = "chat_template.jinja"
HUGE = 10**9
Fault = Callable[[Path], object]


@functools.cache
def checkpoint(family: str) -> Path:
    """Return the folder of a whole, tiny checkpoint, made once per process."""
    from tests.models.hub import save

    return save(Path(tempfile.mkdtemp(prefix="vlmprune-checkpoint-")) / family, family)


@functools.cache
def clip() -> Path:
    """Return the folder of the CLIP that belongs to the tiny LLaVA."""
    from transformers import AutoConfig

    from tests.models.clip import make_clip

    vision = AutoConfig.from_pretrained(checkpoint("llava")).vision_config
    return make_clip(Path(tempfile.mkdtemp(prefix="vlmprune-clip-")) / "clip", vision)


def copied(family: str, fault: Fault) -> Fault:
    def prepare(folder: Path) -> None:
        fault(Path(shutil.copytree(checkpoint(family), folder / "copy")))

    return prepare


def copied_clip(fault: Fault) -> Fault:
    def prepare(folder: Path) -> None:
        shutil.copytree(checkpoint("llava"), folder / "copy")
        fault(Path(shutil.copytree(clip(), folder / "clip")))

    return prepare


def case(name: str, fault: Fault, *named: str, family: str = "llava", extra: tuple[str, ...] = ()) -> Hostile:
    method = extra or ("ratio=0.5",)
    return Hostile("checkpoints", name, (*RUN, *method), named, copied(family, fault))


def edit(file: str, path: str, value: object) -> Fault:
    """Set the field at a dotted path of a JSON file; ... leaves it out."""

    def apply(folder: Path) -> None:
        data = json.loads((folder / file).read_text()) if (folder / file).exists() else {}
        *parts, last = path.split(".")
        node = data
        for part in parts:
            node = node.setdefault(part, {})
        if value is ...:
            del node[last]
        else:
            node[last] = value
        (folder / file).write_text(json.dumps(data))

    return apply


def content(file: str, data: bytes | str) -> Fault:
    return lambda folder: (folder / file).write_bytes(data if isinstance(data, bytes) else data.encode())


def instead(file: str, make: Callable[[Path], object]) -> Fault:
    """Put something that is no regular file, or none that can be read, where a file was."""

    def apply(folder: Path) -> None:
        (folder / file).unlink(missing_ok=True)
        make(folder / file)

    return apply


def sized(path: Path, size: int) -> None:
    path.touch()
    os.truncate(path, size)


ODD_FILES: dict[str, Callable[[Path], object]] = {
    "a pipe": os.mkfifo,
    "a folder": Path.mkdir,
    "a device": lambda path: path.symlink_to("/dev/zero"),
    "a broken link": lambda path: path.symlink_to("nowhere"),
}


def tokenizer_template(value: object) -> Fault:
    """Put a template into the tokenizer's config that was in a file of its own."""
    return lambda folder: ((folder / TEMPLATE).unlink(), edit(TOKENS, "chat_template", value)(folder))


def header(change: Callable[[dict[str, Any]], object]) -> Fault:
    """Rewrite the header of the weights; the numbers behind it stay."""

    def apply(folder: Path) -> None:
        data = (folder / WEIGHTS).read_bytes()
        length = int.from_bytes(data[:8], "little")
        names = json.loads(data[8 : 8 + length])
        change(names)
        text = json.dumps(names).encode()
        (folder / WEIGHTS).write_bytes(len(text).to_bytes(8, "little") + text + data[8 + length :])

    return apply


def first(names: dict[str, Any]) -> str:
    return next(name for name in sorted(names) if "language_model" in name)


def overlap(names: dict[str, Any]) -> None:
    one, other = [name for name in names if name != "__metadata__"][:2]
    names[one]["data_offsets"] = names[other]["data_offsets"]


def renamed(names: dict[str, Any]) -> None:
    names["other.weight"] = names.pop(first(names))


def transposed(names: dict[str, Any]) -> None:
    name = next(name for name in sorted(names) if name.endswith("mlp.up_proj.weight"))
    names[name]["shape"].reverse()


def index(*files: str) -> Fault:
    return content(INDEX, json.dumps({"weight_map": {f"weight{at}": file for at, file in enumerate(files)}}))


def other_vocabulary(folder: Path) -> None:
    data = json.loads((folder / "tokenizer.json").read_text())
    data["model"]["vocab"] |= {f"word{at}": at for at in range(256, 400)}
    (folder / "tokenizer.json").write_text(json.dumps(data))


STEP = {"type": "Replace", "pattern": {"Regex": "."}, "content": "a" * 10}
LONGER = {"type": "Sequence", "normalizers": [STEP] * 12}


def only_pickle(folder: Path) -> None:
    (folder / WEIGHTS).unlink()
    (folder / "pytorch_model.bin").write_bytes(b"cos\nsystem\n(S'touch stolen'\ntR.")


def bare(name: str, make: Fault, quick: bool = True, named: str = "") -> Hostile:
    """A folder that holds nothing but a config.json, which is refused before torch is needed for anything."""

    def prepare(folder: Path) -> None:
        (folder / "copy").mkdir()
        make(folder / "copy")

    words = ("model.path=", "copy", CONFIG, *([named] if named else []))
    return Hostile("checkpoints", f"{CONFIG}: {name}", (*RUN, "ratio=0.5"), words, prepare, quick=quick)


BARE = [
    bare("null", content(CONFIG, "null")),
    bare("5", content(CONFIG, "5")),
    bare("a text", content(CONFIG, '"llava"'), quick=False),
    bare("a list", content(CONFIG, "[]"), quick=False),
    bare("10,000 brackets", content(CONFIG, '{"a":' + "[" * 10_000)),
    bare("a NUL byte", content(CONFIG, b'{"model_type": "lla\0va"}')),
    bare("no UTF-8", content(CONFIG, b'{"model_type": "\xff"}')),
    bare("a byte order mark", content(CONFIG, b"\xef\xbb\xbf{}"), quick=False),
    bare("nothing", content(CONFIG, ""), quick=False),
    bare("half of it", content(CONFIG, '{"model_type": "llava", "vision_config"'), quick=False),
    bare("no model_type", content(CONFIG, '{"vision_config": {}}'), quick=False),
    bare("a model_type that is a list", content(CONFIG, '{"model_type": ["llava"]}'), named="model_type"),
    bare("200 MB", lambda folder: sized(folder / CONFIG, 200_000_000)),
    *(bare(name, instead(CONFIG, make), quick=name in ("a pipe", "a device")) for name, make in ODD_FILES.items()),
]

# What no family of ours is, names of our own modules among them.
FAMILIES = [
    case(f"model_type {name}", edit(CONFIG, "model_type", name), "family", name[:10])
    for name in ("base", "checks", "../x", "llava.__init__", "os.system", "", "bert")
]

# Family, field and values. Of each kind of field several, in each part of a config.
NUMBERS: dict[str, dict[str, tuple[object, ...]]] = {
    "llava": {
        "vision_config.patch_size": (0, -1, HUGE, 1e308, 0.5, "7", None, True, [], {}),
        "vision_config.num_hidden_layers": (0, -1, 3, HUGE),
        "vision_config.image_size": (HUGE, 13),
        "vision_config.num_channels": (0,),
        "vision_config.layer_norm_eps": (-1.0,),
        "vision_feature_layer": (99, -99, "last", [1, 2]),
        "vision_feature_select_strategy": ("nope",),
        "text_config": (..., []),
        "text_config.num_hidden_layers": (0, -1, 5, HUGE),
        "text_config.hidden_size": (0, HUGE),
        "text_config.intermediate_size": (HUGE,),
        "text_config.vocab_size": (0, HUGE),
        "text_config.head_dim": (0, 15),
        "text_config.rms_norm_eps": (0, -1.0, float("nan")),
        "text_config.num_attention_heads": (HUGE,),
        "text_config.num_key_value_heads": (3, 0, -1),
        "text_config.max_position_embeddings": (-1,),
        "text_config.rope_parameters.rope_theta": (0.0, float("nan"), -1.0, "7"),
        "text_config.rope_parameters": (
            {"rope_type": "linear", "factor": 0.0, "rope_theta": 1e4},
            {"rope_type": "dynamic", "factor": "big", "rope_theta": 1e4},
            [1],
        ),
        "text_config.dtype": ("os.system",),
        "text_config.output_hidden_states": ("x",),
        "text_config.num_labels": (HUGE,),
        "dtype": ("os.system", HUGE),
        "image_token_index": (-1,),
        "quantization_config": (5, {"quant_method": "nope"}),
        "num_labels": (HUGE,),
        "return_dict": (False,),
        "_attn_implementation": ("someone/kernel",),
    },
    "llava_next": {"image_grid_pinpoints": ([], [[0, 0]], [[HUGE, HUGE]])},
    "qwen2_5_vl": {
        "vision_config.window_size": (0,),
        "vision_config.spatial_merge_size": (0,),
        "vision_config.temporal_patch_size": (HUGE,),
        "vision_config.fullatt_block_indexes": ([99],),
        "vision_config.depth": (HUGE,),
        "vision_config.num_heads": (0,),
        "text_config.layer_types": (["full_attention"], ["nope"] * 6),
        "text_config.rope_parameters.mrope_section": ([4, 2], [HUGE, 2, 2]),
        "text_config.rope_parameters": (None,),
    },
    "qwen3_vl": {"vision_config.deepstack_visual_indexes": ([99],)},
    "internvl": {
        "downsample_ratio": (0, HUGE),
        "vision_config.image_size": ([56],),
        "vision_config.patch_size": ([0, 0],),
    },
}


# What transformers, or the parts of the checkpoint themselves, say is named in words of theirs.
ELSEWHERE: list[tuple[str, object, str, str]] = [
    ("configuration_files", 5, "llava", "cannot be loaded (config.json: "),
    ("text_config.num_hidden_layers", 7, "llava", "9 weights are missing"),
    ("vision_config.num_hidden_layers", 5, "llava", "16 weights are missing"),
    ("text_config.num_attention_heads", 3, "llava", "the number of attention heads (3)"),
    ("vision_config.num_attention_heads", 5, "llava", "the number of attention heads (5)"),
    ("text_config.rope_parameters.rope_type", "nope", "llava", "text_config in the model's config.json"),
    ("projector_hidden_act", "nope", "llava", "config.json (KeyError: 'nope')"),
    ("text_config.model_type", "qwen2", "llava", "18 weights are missing"),
    ("text_config.model_type", "bert", "llava", "its decoder BertModel"),
    ("image_token_index", HUGE, "llava", "its config.json names image_token_id"),
    ("image_token_index", 3, "llava", "does not place the prompt's image"),
    ("video_token_index", HUGE, "video_llava", "its config.json names video_token_id"),
    ("vision_aspect_ratio", "anyres_max_0", "llava_onevision", "does not make the inputs of llava_onevision"),
]


def shown(value: object) -> str:
    return "absent" if value is ... else str(value)[:50]


VALUES = [
    case(f"{family}: {path}={shown(value)}", edit(CONFIG, path, value), path.split(".")[-1], family=family)
    for family, fields in NUMBERS.items()
    for path, values in fields.items()
    for value in values
] + [
    case(f"{family}: {path}={shown(value)}", edit(CONFIG, path, value), said, family=family)
    for path, value, family, said in ELSEWHERE
]

PARTS = [
    *(
        case(f"{PICTURES}: {name}={shown(value)}", edit(PICTURES, name, value), family=family)
        for name, value, family in [
            ("size", 0, "llava"),
            ("size", {"shortest_edge": HUGE}, "llava"),
            ("size", [], "llava"),
            ("crop_size", {"height": HUGE, "width": HUGE}, "llava"),
            ("crop_size", {"height": -1, "width": 56}, "llava"),
            ("image_mean", "grey", "llava"),
            ("image_std", [0, 0, 0], "llava"),
            ("resample", 99, "llava"),
            ("rescale_factor", "7", "llava"),
            ("image_processor_type", "os.system", "llava"),
            ("image_processor_type", [], "llava"),
            ("patch_size", 0, "qwen2_5_vl"),
            ("size", {"shortest_edge": HUGE**2, "longest_edge": HUGE**2}, "qwen2_5_vl"),
            ("max_patches", HUGE, "internvl"),
        ]
    ),
    case(f"{PICTURES}: null", content(PICTURES, "null"), PICTURES),
    case(f"{PICTURES}: 10,000 brackets", content(PICTURES, "[" * 10_000), PICTURES),
    *(case(f"{PICTURES}: {name}", instead(PICTURES, make), PICTURES) for name, make in ODD_FILES.items()),
    case("processor_config.json: null", content("processor_config.json", "null"), "processor_config.json"),
    case("tokenizer.json: nothing", content("tokenizer.json", ""), "token"),
    case("tokenizer.json: half of it", content("tokenizer.json", '{"version": "1.0", "added'), "token"),
    case("tokenizer.json: null", content("tokenizer.json", "null"), "token"),
    case("tokenizer.json: a pipe", instead("tokenizer.json", os.mkfifo), "tokenizer.json"),
    case("tokenizer.json: a trillion times as long", edit("tokenizer.json", "normalizer", LONGER), "normalizer"),
    case(
        "tokenizer.json: 100,000 added tokens", edit("tokenizer.json", "added_tokens", [{}] * 100_000), "added_tokens"
    ),
    case("tokenizer.json: another vocabulary", other_vocabulary, "vocab_size"),
    *(
        case(f"{TOKENS}: {name}={shown(value)}", edit(TOKENS, name, value), "token")
        for name, value in [("pad_token", 5), ("unk_token", [1]), ("extra_special_tokens", 5)]
    ),
    case(f"{TOKENS}: a list", content(TOKENS, "[1]"), "token"),
    *(
        case(f"template: {name}", content(TEMPLATE, text), "template")
        for name, text in [
            ("for ever", "{% for i in range(99999) %}{% for j in range(99999) %}{% endfor %}{% endfor %}"),
            ("10 GB by *", "{% set a = 'a' * 10000000000 %}{{ a }}"),
            (
                "doubled and doubled",
                "{% set n = namespace(a='a' * 99) %}{% for i in range(60) %}{% set n.a = n.a + n.a %}{% endfor %}",
            ),
            ("10 ** 10 ** 8", "{{ 10 ** (10 ** 8) }}"),
            ("a width", "{{ '%999999999999d' % 5 }}"),
            ("ljust", "{{ 'a'.ljust(10000000000) }}"),
            ("itself", "{% macro a() %}{{ a() }}{% endmacro %}{{ a() }}"),
            ("raises", "{{ raise_exception('no') }}"),
            ("attributes", "{{ ''.__class__.__mro__[1].__subclasses__() }}"),
            ("imports", "{% import 'os' as os %}"),
            ("brackets", "{{ " + "(" * 10_000 + "1" + ")" * 10_000 + " }}"),
        ]
    ),
    case(f"{TEMPLATE}: a pipe", instead(TEMPLATE, os.mkfifo), TEMPLATE),
    case("template: a number", tokenizer_template(5), "template"),
    case("template: a list", tokenizer_template([5]), "its tokenizer cannot be loaded"),
]

GENERATION = [
    *(
        case(f"{RULES}: {name}={shown(value)}", edit(RULES, name, value), name)
        for name, values in {
            "repetition_penalty": (0, -1.0, float("nan"), "7"),
            "no_repeat_ngram_size": (-1, 0.5),
            "eos_token_id": ("</s>", [[1]]),
            "bad_words_ids": (5,),
            "sequence_bias": ([1],),
            "stop_strings": (5,),
            "min_new_tokens": ("7",),
            "exponential_decay_length_penalty": (5,),
            "forced_eos_token_id": (-5,),
        }.items()
        for value in values
    ),
    *(case(f"{RULES}: {text[:9]}", content(RULES, text), RULES) for text in ("null", "5", "[]", "[" * 10_000)),
    case(f"{RULES}: a pipe", instead(RULES, os.mkfifo), RULES),
]  # fmt: skip


BRACKETS = (10_005).to_bytes(8, "little") + b'{"a":' + b"[" * 10_000  # a header


def cut(share: float) -> Fault:
    return lambda folder: os.truncate(folder / WEIGHTS, int((folder / WEIGHTS).stat().st_size * share))


def start(data: bytes) -> Fault:
    def apply(folder: Path) -> None:
        (folder / WEIGHTS).write_bytes(data + (folder / WEIGHTS).read_bytes()[len(data) :])

    return apply


STORED = [
    case("weights: cut", cut(0.5), WEIGHTS),
    case("weights: nothing", cut(0), WEIGHTS),
    case("weights: a header of 2**63 bytes", start((2**63).to_bytes(8, "little")), WEIGHTS),
    case("weights: a header that is no JSON", start((100).to_bytes(8, "little") + b"{" * 100), WEIGHTS),
    case("weights: a header of 10,000 brackets", content(WEIGHTS, BRACKETS), WEIGHTS),
    case("weights: two at one place", header(overlap), WEIGHTS),
    case("weights: one missing", header(renamed), "missing"),
    case("weights: one of another shape", header(transposed), "shape"),
    *(case(f"weights: {name}", instead(WEIGHTS, make), WEIGHTS) for name, make in ODD_FILES.items()),
    case("weights: a pickle", only_pickle, "pytorch_model.bin"),
    case("index: outside", index("../../../etc/passwd"), INDEX),
    case("index: absolute", index("/etc/passwd"), INDEX),
    case("index: a missing file", index("model-00001-of-00002.safetensors"), "model-00001-of-00002.safetensors"),
    case("index: empty", index(), INDEX),
    case("index: null", content(INDEX, "null"), INDEX),
    case("index: numbers", content(INDEX, '{"weight_map": {"a": 5}}'), INDEX),
    case("index: 10,000 brackets", content(INDEX, "[" * 10_000), INDEX),
    case("index: a pipe", instead(INDEX, os.mkfifo), INDEX),
]  # fmt: skip

RANDOM = ("model.random_weights=true",)
DRAWN = [
    case(f"random weights: {path}={value}", edit(CONFIG, path, value), "memory", extra=(*RANDOM, "ratio=0.5"))
    for path, value in [("text_config.hidden_size", 2**20), ("vision_config.hidden_size", 2**20)]
]  # fmt: skip


def clip_case(name: str, fault: Fault, *named: str) -> Hostile:
    extra = ("method=cdpruner", "ratio=0.5", "method.clip=./clip")
    return Hostile("checkpoints", f"clip: {name}", (*RUN, *extra), ("method.clip=", *named), copied_clip(fault))


CLIP = [
    clip_case("config.json is null", content(CONFIG, "null"), CONFIG),
    clip_case("config.json is a pipe", instead(CONFIG, os.mkfifo), CONFIG),
    clip_case("heads that do not divide", edit(CONFIG, "text_config.num_attention_heads", 3), "attention heads (3)"),
    clip_case("a layer too many", edit(CONFIG, "text_config.num_hidden_layers", 3), "missing"),
    clip_case("1e9 layers", edit(CONFIG, "text_config.num_hidden_layers", HUGE), "num_hidden_layers"),
    clip_case("a vocabulary of 1e9", edit(CONFIG, "text_config.vocab_size", HUGE), "vocab_size"),
    clip_case("a larger vocabulary", edit(CONFIG, "text_config.vocab_size", 17), "shape"),
    clip_case("no positions", edit(CONFIG, "text_config.max_position_embeddings", 0), "max_position_embeddings"),
    clip_case("no projection", edit(CONFIG, "projection_dim", 0), "projection_dim"),
    clip_case("weights cut", cut(0.5), WEIGHTS),
    clip_case("weights are a pipe", instead(WEIGHTS, os.mkfifo), WEIGHTS),
    clip_case("tokenizer.json is null", content("tokenizer.json", "null"), "cannot be loaded"),
    clip_case("another vocabulary", other_vocabulary, "vocab_size"),
]

CASES: list[Hostile] = [*BARE, *FAMILIES, *VALUES, *PARTS, *GENERATION, *STORED, *DRAWN, *CLIP]
