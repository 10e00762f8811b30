"""A program carried out in a session, and what can be seen of it from outside."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor
from transformers import DynamicCache

from tests.programs.oracle import Prompt
from tests.programs.program import BY_HAND, Program
from tests.programs.prompts import batch_of, longer
from vlmprune.models.base import Adapter
from vlmprune.pruning.session import Session

NEW = 4
ASKED = 3  # words of a second turn
BEAMS = 3
SEED = 7
EOS = list(range(3, 40))  # so many that most rows end early
GREEDY: dict[str, Any] = {"max_new_tokens": NEW, "do_sample": False, "pad_token_id": 0, "eos_token_id": None}
SAMPLE = {"do_sample": True, "top_k": 0}
ONE_EACH = ("greedy", "scores", "eos", "sample", *BY_HAND)  # modes with an answer, and a row of the cache, for each
PLACEHOLDERS = [95, 96, 97, 98]  # an answer that is read again with its prompt must not hold any
OPTIONS: dict[str, dict[str, Any]] = {
    "greedy": {},
    "scores": {"output_logits": True, "output_scores": True},
    "eos": {"eos_token_id": EOS},
    "beams": {"num_beams": BEAMS},
    "beams_several": {"num_beams": BEAMS, "num_return_sequences": 2},
    "sample": SAMPLE,
    "several": SAMPLE | {"num_return_sequences": 2},
}
CACHES: dict[str, dict[str, Any]] = {
    "": {},
    "none": {"use_cache": False, "suppress_tokens": PLACEHOLDERS},
    "static": {"cache_implementation": "static"},
    "own": {},
}


@dataclass
class Turn:
    """An answer. said: int64 [B', T], ids between the prompt and the answer, of earlier turns. new: int64 [B', N].

    kept: per decoder layer, the slots that it saw of the prompts, bool [B'', V], None for all; B'' and B' are
    multiples of the number of prompts. entered: per decoder layer, its input at the prefill, [B'', n, D]. counts,
    lengths: of the record. logits: [B', N, V] where the program asked for them.
    """

    said: Tensor
    new: Tensor
    kept: list[Tensor | None]
    entered: list[Tensor]
    counts: list[list[int]]
    lengths: list[int]
    logits: Tensor | None = None
    cache: Any = field(default=None, repr=False)

    @classmethod
    def of(cls, said: Tensor, new: Tensor, watch: Watch, logits: Tensor | None, cache: Any) -> Turn:
        """An answer that has just been given."""
        record = watch.session.record
        assert record is not None
        kept, entered = [*watch.kept], [*watch.entered]
        return cls(said, new, kept, entered, record.visual_counts, record.prompt_lengths, logits, cache)


class Watch:
    """Notes, before each decoder layer of a prefill, its input and the kept slots that the record then names."""

    def __init__(self, adapter: Adapter, session: Session) -> None:
        self.session = session
        self.kept: list[Tensor | None] = [None] * adapter.decoder_depth
        self.entered: list[Tensor] = [torch.empty(0)] * adapter.decoder_depth
        self.handles = [
            layer.register_forward_pre_hook(self._note(index), with_kwargs=True)
            for index, layer in enumerate(adapter.language_model.layers)
        ]

    def _note(self, index: int) -> Any:
        def note(_module: Any, args: tuple, kwargs: dict[str, Any]) -> None:
            assert self.session.record is not None
            cache = kwargs.get("past_key_values")
            if cache is not None and cache.get_seq_length(index):
                return  # a step after the prefill
            self.kept[index] = self.session.record.kept
            self.entered[index] = args[0] if args else kwargs["hidden_states"]

        return note

    def remove(self) -> None:
        for handle in self.handles:
            handle.remove()


def run(
    program: Program, adapter: Adapter, session: Session, inputs: dict[str, Tensor], prompts: list[Prompt]
) -> list[Turn]:
    """Carry out a program in an open session; one turn or two. prompts: as the bare model reads them."""
    watch = Watch(adapter, session)
    try:
        if program.before is not None:
            adapter.model(**cast(batch_of(program.family, [program.before], program.seed + 50), adapter))
        if mrope(program):  # transformers' own memory of the last images, wrong for prompts of text alone
            adapter.base_model.rope_deltas = None
        turns = [first_turn(program, adapter, inputs, watch, prompts)]
        if program.turn and program.mode in ONE_EACH and program.cache in ("", "own"):
            turns.append(second_turn(program, adapter, inputs, turns[0], watch, prompts))
    finally:
        watch.remove()
    return turns


def cast(inputs: dict[str, Tensor], adapter: Adapter) -> dict[str, Tensor]:
    """Inputs with their pixels in the model's precision."""
    dtype = adapter.model.dtype
    return {name: value.to(dtype) if value.is_floating_point() else value for name, value in inputs.items()}


def first_turn(
    program: Program, adapter: Adapter, inputs: dict[str, Tensor], watch: Watch, prompts: list[Prompt]
) -> Turn:
    model, nothing = adapter.model, inputs["input_ids"][:, :0]
    if program.mode in BY_HAND:
        placed = mrope(program) or program.mode == "placed"
        places = {"position_ids": padded_places(prompts)} if placed else {}
        options = {"return_dict": False} if program.mode == "tuple" else {}
        output = model(**inputs, **places, **options, use_cache=True)
        return steps(program, adapter, output, mask_of(inputs), nothing, watch, prompts)
    options = OPTIONS[program.mode] | CACHES[program.cache]
    if program.cache == "own":
        options = options | {"past_key_values": DynamicCache()}
    torch.manual_seed(SEED)
    output = model.generate(**inputs, **GREEDY | options, return_dict_in_generate=True)
    new = output.sequences[:, inputs["input_ids"].shape[1] :]
    logits = torch.stack(output.logits, dim=1) if output.logits else None
    return Turn.of(new[:, :0], new, watch, logits, output.past_key_values)


def mask_of(inputs: dict[str, Tensor]) -> Tensor:
    """The attention mask of inputs that may have none."""
    return inputs.get("attention_mask", torch.ones_like(inputs["input_ids"]))


def mrope(program: Program) -> bool:
    """Whether position ids are of three kinds."""
    return program.family.startswith("qwen")


def padded_places(prompts: list[Prompt]) -> Tensor:
    """Position ids [P, B, L] of left-padded prompts."""
    longest = max(len(prompt.embeds) for prompt in prompts)
    rows = [torch.nn.functional.pad(prompt.places[0], (longest - len(prompt.embeds), 0)) for prompt in prompts]
    return torch.stack(rows, dim=1) if len(rows[0]) > 1 else torch.cat(rows)


def next_places(program: Program, prompts: list[Prompt], said: int, count: int) -> dict[str, Tensor]:
    """Position ids for a plain forward pass of `count` tokens behind the prompts and `said` more, as an argument.

    Unlike generate(), a plain forward pass counts padding as positions: a caller who goes from one to the other, or has
    a model with mrope, says where tokens are.
    """
    if program.mode in ("forward", "tuple") and not mrope(program):
        return {}
    after = torch.stack([prompt.after[0] for prompt in prompts]).unsqueeze(1) + said + torch.arange(count)
    return {"position_ids": after.expand(3, -1, -1) if mrope(program) else after}


def steps(
    program: Program,
    adapter: Adapter,
    output: Any,
    mask: Tensor,
    said: Tensor,
    watch: Watch,
    prompts: list[Prompt],
) -> Turn:
    """Greedy decoding by hand from the output of a prefill on. mask: of all that the cache has seen."""
    options = {"return_dict": False} if program.mode == "tuple" else {}
    first, cache = (output[0], output[1]) if options else (output.logits, output.past_key_values)
    logits = [first[:, -1]]
    while len(logits) < NEW:
        mask = torch.cat([mask, mask.new_ones(len(mask), 1)], dim=1)
        places = next_places(program, prompts, said.shape[1] + len(logits) - 1, 1)
        output = adapter.model(
            input_ids=logits[-1].argmax(-1, keepdim=True),
            attention_mask=mask,
            past_key_values=cache,
            use_cache=True,
            **places,
            **options,
        )
        logits.append(output[0][:, -1])
    stacked = torch.stack(logits, dim=1)
    return Turn.of(said, stacked.argmax(-1), watch, stacked, cache)


def second_turn(
    program: Program,
    adapter: Adapter,
    inputs: dict[str, Tensor],
    first: Turn,
    watch: Watch,
    prompts: list[Prompt],
) -> Turn:
    """The answer to a few words more, with the first turn's cache, which lacks the last token of its answer."""
    model, generator = adapter.model, torch.Generator().manual_seed(program.seed)
    asked = torch.randint(3, 90, (len(first.new), ASKED), generator=generator)
    said = torch.cat([first.new, asked], dim=1)
    whole = longer(inputs, said)
    mask = mask_of(whole)
    fresh = torch.cat([first.new[:, -1:], asked], dim=1)
    if program.turn == "forward":
        output = model(
            input_ids=fresh,
            attention_mask=mask,
            past_key_values=first.cache,
            use_cache=True,
            **{"return_dict": False} if program.mode == "tuple" else {},
            **next_places(program, prompts, said.shape[1] - fresh.shape[1], fresh.shape[1]),
        )
        return steps(program, adapter, output, mask, said, watch, prompts)
    ids = fresh if program.turn == "new" else whole["input_ids"]
    given = {"input_ids": ids, "attention_mask": mask}
    output = model.generate(**given, past_key_values=first.cache, **GREEDY, return_dict_in_generate=True)
    return Turn.of(said, output.sequences[:, ids.shape[1] :], watch, None, output.past_key_values)
