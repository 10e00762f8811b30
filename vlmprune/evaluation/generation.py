"""Greedy decoding, as in every published protocol: the runner's only calls of generate().

A checkpoint's generation_config.json may set any option of generate(). Options of its greedy answer (end of sequence,
penalties, forbidden tokens) are used and printed; others (sampling, beams, caches, lengths) are ignored and printed;
options that change a greedy answer and are not supported are refused. That is `model.generation=checkpoint`, as in
lmms-eval; with `greedy` only the options that end an answer are used, and every token is the likeliest, as with
VLMEvalKit's repetition_penalty=1.0. Processors read every row's whole, unpruned prompt, so that an answer is the same
in a batch, alone, and after a shared prefix.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from math import inf
from typing import Any

import torch
from torch import Tensor
from transformers import (
    EncoderNoRepeatNGramLogitsProcessor,
    EncoderRepetitionPenaltyLogitsProcessor,
    ExponentialDecayLengthPenalty,
    ForcedEOSTokenLogitsProcessor,
    GenerationConfig,
    InfNanRemoveLogitsProcessor,
    LogitsProcessor,
    LogitsProcessorList,
    MinLengthLogitsProcessor,
    MinNewTokensLengthLogitsProcessor,
    NoBadWordsLogitsProcessor,
    NoRepeatNGramLogitsProcessor,
    PreTrainedConfig,
    RepetitionPenaltyLogitsProcessor,
    SequenceBiasLogitsProcessor,
    StoppingCriteria,
    StoppingCriteriaList,
    StopStringCriteria,
    SuppressTokensAtBeginLogitsProcessor,
    SuppressTokensLogitsProcessor,
)

from vlmprune.benchmarks.base import Benchmark, Sample
from vlmprune.errors import UserError, error_text
from vlmprune.evaluation.media_loader import MediaCache
from vlmprune.evaluation.predictions import generated_lengths
from vlmprune.models.loading import LoadedModel
from vlmprune.models.processor import Checkpoint, read_object

FILE = "generation_config.json"


@dataclass(frozen=True)
class PromptBatch:
    """Prompts for logits processors. ids: int64 [B, L]. ends: int64, ids that end an answer, or None."""

    ids: Any  # the type hints of transformers' processors are narrower than torch's
    ends: Any
    new_tokens: int

    @property
    def length(self) -> int:
        return self.ids.shape[1]

    @property
    def device(self) -> Any:
        return self.ids.device


# Settings that change greedy answers, in the order in which transformers applies them, and their processors.
PROCESSORS: dict[str, Callable[[Any, PromptBatch], LogitsProcessor]] = {
    "sequence_bias": lambda value, asked: SequenceBiasLogitsProcessor(value),
    "encoder_repetition_penalty": lambda value, asked: EncoderRepetitionPenaltyLogitsProcessor(value, asked.ids),
    "repetition_penalty": lambda value, asked: RepetitionPenaltyLogitsProcessor(value),
    "no_repeat_ngram_size": lambda value, asked: NoRepeatNGramLogitsProcessor(value),
    "encoder_no_repeat_ngram_size": lambda value, asked: EncoderNoRepeatNGramLogitsProcessor(value, asked.ids),
    "bad_words_ids": lambda value, asked: NoBadWordsLogitsProcessor(value, asked.ends),
    "min_length": lambda value, asked: MinLengthLogitsProcessor(value, asked.ends, asked.device),
    "min_new_tokens": lambda value, asked: MinNewTokensLengthLogitsProcessor(
        asked.length, value, asked.ends, asked.device
    ),
    "forced_eos_token_id": lambda value, asked: ForcedEOSTokenLogitsProcessor(
        asked.length + asked.new_tokens, value, asked.device
    ),
    "remove_invalid_values": lambda value, asked: InfNanRemoveLogitsProcessor(),
    "exponential_decay_length_penalty": lambda value, asked: ExponentialDecayLengthPenalty(
        tuple(value), asked.ends, asked.length
    ),
    "suppress_tokens": lambda value, asked: SuppressTokensLogitsProcessor(value, asked.device),
    "begin_suppress_tokens": lambda value, asked: SuppressTokensAtBeginLogitsProcessor(
        value, asked.length, asked.device
    ),
}
# These count a prompt's tokens or depend on their order, which filling up to the longest prompt would change.
ROW_SETTINGS = ("no_repeat_ngram_size", "encoder_no_repeat_ngram_size", "min_length")
WHILE_NO_END = ("min_length", "min_new_tokens", "exponential_decay_length_penalty")  # they act on the end ids only
ENDS = ("bos_token_id", "eos_token_id", "pad_token_id", "stop_strings")
CARRIED = (*ENDS, *PROCESSORS)
# These change the answer of any decoding, and greedy decoding with one forward pass per token does not support them.
REFUSED = ("guidance_scale", "token_healing", "force_words_ids", "constraints")
# Values that have no effect, besides None; for all other fields False has none.
NEUTRAL: dict[str, Any] = {
    "max_length": 20,
    "min_length": 0,
    "min_new_tokens": 0,
    "use_cache": True,
    "num_beams": 1,
    "num_beam_groups": 1,
    "num_return_sequences": 1,
    "diversity_penalty": 0.0,
    "length_penalty": 1.0,
    "temperature": 1.0,
    "top_k": 50,
    "top_p": 1.0,
    "typical_p": 1.0,
    "epsilon_cutoff": 0.0,
    "eta_cutoff": 0.0,
    "repetition_penalty": 1.0,
    "encoder_repetition_penalty": 1.0,
    "no_repeat_ngram_size": 0,
    "encoder_no_repeat_ngram_size": 0,
    "num_assistant_tokens": 20,
    "num_assistant_tokens_schedule": "constant",
    "assistant_confidence_threshold": 0.4,
    "assistant_lookbehind": 10,
    "target_lookbehind": 10,
    "guidance_scale": 1,
    "cache_implementation": "dynamic",
    "return_dict": True,  # older files repeat such settings of the model
}
ABOUT_THE_FILE = ("transformers_version", "_from_model_config", "_commit_hash")


@dataclass(frozen=True)
class Rules:
    """Rules of a checkpoint's greedy decoding.

    ends: ids that end an answer. filler: the id after it in a batch. stop_strings: texts that end it too. settings:
    those of PROCESSORS that have an effect. ignored: all other settings of its generation_config.
    """

    ends: tuple[int, ...]
    filler: int
    stop_strings: tuple[str, ...]
    settings: dict[str, Any]
    ignored: dict[str, Any]

    @classmethod
    def of(cls, config: GenerationConfig, generation: str = "checkpoint", vocabulary: float = inf) -> Rules:
        """Return the rules of a generation_config. Raise UserError for a setting that is not supported.

        generation: `model.generation`. vocabulary: the model's number of token ids, of which the filler has to be one.
        """
        given = {name: value for name, value in vars(config).items() if not name.startswith("_")}
        given = {name: value for name, value in given.items() if is_set(name, value)}
        carried = CARRIED if generation == "checkpoint" else ENDS
        for name in REFUSED:
            if name in given and generation == "checkpoint":
                raise UserError(
                    f"{name}={to_short_json(given[name])} in the model's {FILE}: greedy decoding, which a run uses, "
                    "cannot do that, and without it the answers would be others; remove it from the file, or go "
                    "without such rules by model.generation=greedy"
                )
        settings = {name: given[name] for name in PROCESSORS if name in given and name in carried}
        if "min_new_tokens" in settings:  # as transformers has it
            settings.pop("min_length", None)
        ends = ids_of("eos_token_id", given.get("eos_token_id"))
        if not ends:
            settings = {name: value for name, value in settings.items() if name not in WHILE_NO_END}
        strings = given.get("stop_strings", ())
        strings = tuple(strings) if isinstance(strings, list | tuple) else (strings,)
        if not all(isinstance(each, str) and each for each in strings):
            raise UserError(
                f"stop_strings={to_short_json(strings)} in the model's {FILE}: a text or a list of texts; correct the "
                "file"
            )
        # The filler is cut off again, but the model has to embed it.
        fillers = (*ids_of("pad_token_id", given.get("pad_token_id")), *ends)
        filler = next((index for index in fillers if 0 <= index < vocabulary), 0)
        ignored = {name: to_plain(value) for name, value in given.items() if name not in carried}
        return cls(ends, filler, strings, settings, dict(sorted(ignored.items())))

    @property
    def used(self) -> dict[str, Any]:
        """Settings that can change an answer, besides its end ids, as plain data."""
        strings = {"stop_strings": list(self.stop_strings)} if self.stop_strings else {}
        return strings | {name: to_plain(value) for name, value in self.settings.items()}

    @property
    def effective(self) -> dict[str, Any]:
        """Values in force, by their names in a generation_config; common settings are included at their defaults."""
        usual = {"do_sample": False, "num_beams": 1, "repetition_penalty": 1.0, "no_repeat_ngram_size": 0}
        return usual | self.used | {"eos_token_id": list(self.ends), "pad_token_id": self.filler}

    def summary_line(self, new_tokens: int) -> str:
        """Return a line about the used and the ignored settings for answers of at most `new_tokens`; '' for neither."""
        as_asked = ("max_new_tokens", new_tokens)
        ignored = {name: value for name, value in self.ignored.items() if (name, value) != as_asked}
        used, left = (
            ", ".join(f"{name}={to_short_json(value)}" for name, value in values.items())
            for values in (self.settings, ignored)
        )
        if not used and not left:
            return ""
        sentences = [
            f"used, which changes answers: {used} (model.generation=greedy uses no rule)" if used else "",
            f"not used: {left}" if left else "",
        ]
        told = "; ".join(filter(None, sentences))
        return f"of the model's {FILE}, {told}; answers are greedy, of at most {new_tokens} tokens"

    def with_ends(self, ends: int | list[int] | None) -> Rules:
        """Return the rules with other ids that end an answer; with None nothing ends it."""
        if ends is not None:
            return replace(self, ends=ids_of("eos_token_id", ends))
        settings = {name: value for name, value in self.settings.items() if name not in WHILE_NO_END}
        return replace(self, ends=(), stop_strings=(), settings=settings)

    def config(self, new_tokens: int, **settings: Any) -> GenerationConfig:
        """Return the complete config for generate(), without processors and stop strings."""
        return GenerationConfig(
            do_sample=False,
            num_beams=1,
            num_return_sequences=1,
            use_cache=True,
            max_new_tokens=new_tokens,
            eos_token_id=list(self.ends) or None,
            pad_token_id=self.filler,
            **settings,
        )

    def processors(self, prompts: Tensor, lengths: list[int], start: int, new_tokens: int) -> LogitsProcessorList:
        """Return the processors of answers to `prompts`, int64 [B, L] from `pad_left`; lengths: without the filling.

        start: index of the answers in the ids that generate() passes to a processor.
        """
        if not self.settings:
            return LogitsProcessorList()
        ends = torch.tensor(self.ends, device=prompts.device) if self.ends else None
        steps: list[Callable[[Tensor, Tensor], Tensor]] = []
        for name, value in self.settings.items():
            if name in ROW_SETTINGS:
                alone = [row[None, row.shape[0] - n :] for row, n in zip(prompts, lengths, strict=True)]
                each = [PROCESSORS[name](value, PromptBatch(own, ends, new_tokens)) for own in alone]
                steps.append(RowProcessors(each, prompts.shape[1], lengths))
            else:
                steps.append(PROCESSORS[name](value, PromptBatch(prompts, ends, new_tokens)))
        return LogitsProcessorList([WholePromptProcessor(prompts, start, steps)])

    def check(self, vocabulary: int) -> None:
        """Raise UserError if a setting's value cannot be used by a model with `vocabulary` token ids."""
        prompts: Any = torch.zeros(1, 2, dtype=torch.long)
        scores: Any = torch.zeros(1, vocabulary)
        for name, value in self.settings.items():
            try:
                replace(self, settings={name: value}).processors(prompts, [2], 2, 2)(prompts, scores)
            except Exception as error:  # transformers raises many types for a checkpoint's value
                raise UserError(
                    f"{name}={to_short_json(value)} in the model's {FILE} cannot be used ({error_text(error)}); "
                    "correct the file"
                ) from error


class WholePromptProcessor(LogitsProcessor):
    """Runs processors on whole prompts with the answers so far, where generate() has shorter or padded ones.

    prompts: int64 [B, L]. start: index of the answers in generate()'s ids.
    """

    def __init__(self, prompts: Tensor, start: int, steps: list[Callable[[Tensor, Tensor], Tensor]]) -> None:
        self.prompts, self.start, self.steps = prompts, start, steps

    def __call__(self, input_ids: Tensor, scores: Tensor) -> Tensor:
        ids = torch.cat([self.prompts, input_ids[:, self.start :]], dim=1)
        for step in self.steps:
            scores = step(ids, scores)
        return scores


class RowProcessors:
    """Applies one processor per row, without the ids that fill its prompt up to `longest`."""

    def __init__(self, processors: list[LogitsProcessor], longest: int, lengths: list[int]) -> None:
        self.processors, self.starts = processors, [longest - length for length in lengths]

    def __call__(self, ids: Tensor, scores: Tensor) -> Tensor:
        rows = zip(self.processors, self.starts, ids, scores, strict=True)
        return torch.cat([process(own[None, start:], score[None]) for process, start, own, score in rows])


class StopStrings(StoppingCriteria):
    """Ends answers at texts, which may start in the prompt. Arguments as in WholePromptProcessor."""

    def __init__(self, prompts: Tensor, start: int, strings: tuple[str, ...], tokenizer: Any) -> None:
        self.prompts, self.start = prompts, start
        self._criteria = StopStringCriteria(tokenizer, list(strings))

    def __call__(self, input_ids: Tensor, scores: Tensor | None, **kwargs: Any) -> Tensor:
        return self._criteria(torch.cat([self.prompts, input_ids[:, self.start :]], dim=1), scores)


def read_rules(checkpoint: Checkpoint, generation: str) -> Rules:
    """Return the rules of a checkpoint that is not loaded yet. Raise UserError if they are not supported."""
    vocabulary = checkpoint.config.get_text_config().vocab_size
    rules = Rules.of(read_config(checkpoint), generation, vocabulary)
    rules.check(vocabulary)
    return rules


def read_config(checkpoint: Checkpoint) -> GenerationConfig:
    """Return a checkpoint's generation_config as loading it would: from its file, or else from its config.json."""
    if checkpoint.random:  # only the architecture is used
        return GenerationConfig.from_model_config(checkpoint.config)
    try:
        data = read_object(checkpoint.source, FILE, checkpoint.revision, required=False)
        if data is None:
            given, _ = PreTrainedConfig.get_config_dict(checkpoint.source, revision=checkpoint.revision)
            return GenerationConfig.from_model_config(dict(given))
        return GenerationConfig.from_dict(data)
    except Exception as error:  # transformers raises many types for a checkpoint's file
        raise UserError(
            f"model.path={checkpoint.source}: its {FILE} cannot be used ({error_text(error)}); correct it, or remove "
            "it, and config.json applies"
        ) from error


def rules_of(loaded: LoadedModel) -> Rules:
    """Return the rules of a loaded model for its `model.generation`."""
    vocabulary = loaded.adapter.config.get_text_config().vocab_size
    return Rules.of(loaded.model.generation_config, loaded.preprocessor.config.generation, vocabulary)


def inputs_for(
    samples: list[Sample], benchmark: Benchmark, loaded: LoadedModel, images: MediaCache
) -> dict[str, Tensor]:
    """Return the inputs of generate() for a batch of samples."""
    return loaded.preprocessor.batch(
        [benchmark.prompt(sample) for sample in samples],
        [images[sample] for sample in samples],
        loaded.device,
        loaded.model.dtype,
    )


def greedy(loaded: LoadedModel, inputs: dict[str, Tensor], max_new_tokens: int, **options: Any) -> Any:
    """Return the output of generate() with greedy decoding, without gradients. options: those of greedy_from."""
    with torch.inference_mode():
        return greedy_from(loaded, max_new_tokens, None, **inputs, **options)


def greedy_from(loaded: LoadedModel, max_new_tokens: int, prompts: list[list[int]] | None = None, **inputs: Any) -> Any:
    """Return the output of generate() with greedy decoding, also from a filled cache, in the caller's gradient mode.

    prompts: each row's whole prompt, where input_ids hold less of it; rows that have none are copies of the last.
    inputs: of generate(), with fields of GenerationConfig; eos_token_id=None generates max_new_tokens in every answer.
    """
    model, ids = loaded.model, inputs["input_ids"]
    rules = rules_of(loaded)
    fields = vars(GenerationConfig())
    settings = {name: inputs.pop(name) for name in list(inputs) if name in fields}
    if "eos_token_id" in settings:
        rules = rules.with_ends(settings.pop("eos_token_id"))
    config = rules.config(max_new_tokens, **settings)
    if rules.settings or rules.stop_strings:
        whole, lengths = pad_left(remove_padding(inputs) if prompts is None else prompts, ids)
        processors = rules.processors(whole, lengths, ids.shape[1], max_new_tokens)
        inputs["logits_processor"] = LogitsProcessorList([*processors, *inputs.get("logits_processor", ())])
        if rules.stop_strings:
            stop = StopStrings(whole, ids.shape[1], rules.stop_strings, loaded.preprocessor.tokenizer)
            inputs["stopping_criteria"] = StoppingCriteriaList([stop])
    with use_config(model, config):
        return model.generate(**inputs, generation_config=config)


def decode_one_token(loaded: LoadedModel, **inputs: Any) -> Tensor:
    """Decode one token greedily, which fills a cache with the prompt."""
    return greedy_from(loaded, 1, **inputs)


def without_filler(loaded: LoadedModel, new: Tensor, prompts: list[list[int]]) -> list[list[int]]:
    """Return the answers `new`, ids [B, T], each up to and including the token that ends it. prompts: whole ones."""
    rules = rules_of(loaded)
    lengths = generated_lengths(new, list(rules.ends))
    if rules.stop_strings:
        whole, _ = pad_left(prompts, new)
        stop = StopStrings(whole, 0, rules.stop_strings, loaded.preprocessor.tokenizer)
        for length in range(new.shape[1], 0, -1):
            over = stop(new[:, :length], None).tolist()
            lengths = [min(old, length) if ended else old for old, ended in zip(lengths, over, strict=True)]
    return [ids[:length] for ids, length in zip(new.tolist(), lengths, strict=True)]


@contextmanager
def use_config(model: Any, config: GenerationConfig) -> Iterator[None]:
    """Use `config` as the model's generation_config inside, since generate() takes unset fields from the latter."""
    own, model.generation_config = model.generation_config, config
    try:
        yield
    finally:
        model.generation_config = own


def pad_left(prompts: list[list[int]], like: Tensor) -> tuple[Tensor, list[int]]:
    """Return prompts of as many rows as `like` has, as int64 [B, L], and their lengths.

    Shorter ones are filled up on the left with their first token, so that no other token is added; missing rows are
    copies of the last.
    """
    prompts = prompts + prompts[-1:] * (len(like) - len(prompts))
    longest = max(map(len, prompts))
    rows = [ids[:1] * (longest - len(ids)) + ids for ids in prompts]
    return torch.tensor(rows, device=like.device), [len(ids) for ids in prompts]


def remove_padding(inputs: dict[str, Any]) -> list[list[int]]:
    """Return the prompts in inputs of generate(), without padding."""
    mask = inputs["attention_mask"].bool()
    return [ids[real].tolist() for ids, real in zip(inputs["input_ids"], mask, strict=True)]


def is_set(name: str, value: Any) -> bool:
    """Return True if a field of a generation_config differs from the default behaviour of generate()."""
    if value is None or name in ABOUT_THE_FILE:
        return False
    return value != NEUTRAL[name] if name in NEUTRAL else value is not False


def ids_of(name: str, value: Any) -> tuple[int, ...]:
    """Return the ids in a field of a generation_config. Raise UserError for anything else."""
    ids = () if value is None else tuple(value) if isinstance(value, list | tuple) else (value,)
    if not all(isinstance(each, int) and not isinstance(each, bool) for each in ids):
        raise UserError(
            f"{name}={to_short_json(value)} in the model's {FILE}: it has to be a token's id or a list of ids"
        )
    return ids


def to_plain(value: Any) -> Any:
    """Return a value of a generation_config as plain JSON data."""
    return json.loads(json.dumps(value, default=lambda each: getattr(each, "to_dict", lambda: str(each))()))


def to_short_json(value: Any, longest: int = 60) -> str:
    """Return a value of a generation_config as JSON text, cut after `longest` characters."""
    text = json.dumps(to_plain(value))
    return text if len(text) <= longest else f"{text[:longest]}..."
