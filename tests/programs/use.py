"""A program carried out in a session, as a user of transformers would, and what can be seen of it from outside."""

from __future__ import annotations

import copy
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor
from transformers import DynamicCache

from tests.programs.oracle import Prompt
from tests.programs.program import BY_HAND, Program
from tests.programs.prompts import TEXTS, batch_of, joined, longer
from tests.programs.prompts import Prompt as Pieces
from vlmprune.engine.session import Session
from vlmprune.models.base import Adapter

NEW = 4
BEAMS = 3
SEED = 7
EOS = list(range(3, 40))  # so many that most rows end early
GREEDY: dict[str, Any] = {"max_new_tokens": NEW, "do_sample": False, "pad_token_id": 0, "eos_token_id": None}
SAMPLE = {"do_sample": True, "top_k": 0}
ONE_EACH = ("greedy", "scores", "eos", "sample", *BY_HAND)  # modes with an answer, and a row of the cache, for each
PLACEHOLDERS = [95, 96, 97, 98]
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
    "none": {"use_cache": False},
    "static": {"cache_implementation": "static"},
    "own": {},
}


@dataclass
class Turn:
    """An answer. said: int64 [B', T], ids between the prompt and the answer, of earlier turns. new: int64 [B', N].

    owners: the prompt of each answer. kept: per decoder layer, the slots that it saw of the prompts, bool [B'', V],
    None for all; B'' is a multiple of the number of prompts. entered: per decoder layer, its input at the prefill,
    [B'', n, D]. counts, lengths: of the record. logits: [B', N, V] where the program asked for them. whole: the inputs
    of each answer's conversation up to there, where this turn shows something.
    """

    said: Tensor
    new: Tensor
    owners: list[int]
    kept: list[Tensor | None]
    entered: list[Tensor]
    counts: list[list[int]]
    lengths: list[int]
    logits: Tensor | None = None
    cache: Any = field(default=None, repr=False)
    whole: list[dict[str, Tensor]] | None = None

    @classmethod
    def of(cls, said: Tensor, new: Tensor, owners: list[int], watch: Watch, logits: Tensor | None, cache: Any) -> Turn:
        """An answer that has just been given."""
        record = watch.session.record
        assert record is not None
        kept, entered = [*watch.kept], [*watch.entered]
        return cls(said, new, owners, kept, entered, record.visual_counts, record.prompt_lengths, logits, cache)


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
    program: Program,
    adapter: Adapter,
    session: Session,
    inputs: dict[str, Tensor],
    alone: list[dict[str, Tensor]],
    prompts: list[Prompt],
) -> list[Turn]:
    """Carry out a program in an open session; one turn or two.

    alone: the inputs of each prompt by itself. prompts: the same as the bare model reads them.
    """
    watch = Watch(adapter, session)
    try:
        if program.before is not None:
            adapter.model(**cast(batch_of(program.family, [program.before], program.seed + 50), adapter))
        if program.family.startswith("qwen"):  # transformers' memory of the last images is wrong for text alone
            adapter.base_model.rope_deltas = None
        user = User(program, adapter, watch, prompts, alone)
        turns = [user.ask(inputs)]
        if program.turn and program.mode in ONE_EACH and program.cache in ("", "own"):
            turns.append(user.ask_more(inputs, turns[0]))
    finally:
        watch.remove()
    return turns


def banned(program: Program) -> list[int]:
    """Placeholders, where an answer is read again with its prompt, so that a picture would seem to stand there."""
    return PLACEHOLDERS if program.turn or program.cache == "none" else []


def cast(inputs: dict[str, Tensor], adapter: Adapter) -> dict[str, Tensor]:
    """Inputs with their pixels in the model's precision."""
    dtype = adapter.model.dtype
    return {name: value.to(dtype) if value.is_floating_point() else value for name, value in inputs.items()}


class User:
    """Asks a model. prompts: those of the rows of the cache. alone: the inputs of each first prompt."""

    def __init__(
        self,
        program: Program,
        adapter: Adapter,
        watch: Watch,
        prompts: list[Prompt],
        alone: list[dict[str, Tensor]],
    ) -> None:
        self.program, self.adapter, self.watch, self.prompts, self.alone = program, adapter, watch, prompts, alone
        self.model = adapter.model
        self.owners = list(range(len(prompts)))
        self.mrope = program.family.startswith("qwen")
        self.suppressed = {"suppress_tokens": banned(program)} if banned(program) else {}
        self.options = {"use_cache": True} | ({"return_dict": False} if program.mode == "tuple" else {})

    def ask(self, inputs: dict[str, Tensor]) -> Turn:
        """The first turn."""
        program = self.program
        if program.mode in BY_HAND:
            places = {"position_ids": self.padded_places()} if self.mrope or program.mode == "placed" else {}
            output = self.model(**inputs, **places, **self.options)
            return self.step(output, mask_of(inputs), inputs["input_ids"][:, :0])
        options = OPTIONS[program.mode] | CACHES[program.cache] | self.suppressed
        if program.cache == "own":
            options = options | {"past_key_values": DynamicCache()}
        torch.manual_seed(SEED)
        output = self.model.generate(**inputs, **GREEDY | options, return_dict_in_generate=True)
        new = output.sequences[:, inputs["input_ids"].shape[1] :]
        owners = [owner for owner in self.owners for _ in range(len(new) // len(self.owners))]
        logits = torch.stack(output.logits, dim=1) if output.logits else None
        return Turn.of(new[:, :0], new, owners, self.watch, logits, output.past_key_values)

    def ask_more(self, inputs: dict[str, Tensor], first: Turn) -> Turn:
        """The second turn, with the cache of the first, which lacks the last token of its answer."""
        program = self.program
        cache, rows = self.rearranged(first.cache)
        asked = self.inputs_of([program.more] * len(rows))
        said = torch.cat([first.new[rows], asked["input_ids"]], dim=1)
        texts = {name: inputs[name][rows] for name in TEXTS if name in inputs}
        whole = joined(longer(texts, first.new[rows]), asked)
        mask, start = mask_of(whole), whole["input_ids"].shape[1] - asked["input_ids"].shape[1] - 1
        given = whole if program.turn == "full" else {n: v[:, start:] if n in TEXTS else v for n, v in whole.items()}
        if len(program.more) == 1:
            given = {"input_ids": given["input_ids"]}
        given = given | {"attention_mask": mask, "past_key_values": cache}
        if program.turn == "forward":
            new = said.shape[1] - first.new.shape[1] + 1
            output = self.model(**given, **self.next_places(first.new.shape[1] - 1, new), **self.options)
            turn = self.step(output, mask, said)
        else:
            output = self.model.generate(**given, **GREEDY, **self.suppressed, return_dict_in_generate=True)
            new_ids = output.sequences[:, given["input_ids"].shape[1] :]
            turn = Turn.of(said, new_ids, self.owners, self.watch, None, output.past_key_values)
        if len(program.more) > 1:
            turn.whole = [
                joined(longer(self.alone[owner], first.new[owner : owner + 1]), self.inputs_of([program.more], [row]))
                for row, owner in enumerate(self.owners)
            ]
        return turn

    def inputs_of(self, prompts: list[Pieces], rows: list[int] | None = None) -> dict[str, Tensor]:
        """Inputs of second turns."""
        return cast(batch_of(self.program.family, prompts, self.program.seed + 20, rows), self.adapter)

    def rearranged(self, cache: Any) -> tuple[Any, list[int]]:
        """The cache with its rows in another order or number, and which ones they are."""
        rows = list(range(len(self.prompts)))
        if self.program.rows == "copy":
            cache = copy.deepcopy(cache)
        elif self.program.rows == "reorder":
            rows = rows[::-1]
            cache.reorder_cache(torch.tensor(rows))
        elif self.program.rows == "select":
            rows = rows[-1:]
            cache.batch_select_indices(torch.tensor(rows))
        elif self.program.rows == "repeat":
            rows = [row for row in rows for _ in range(2)]
            cache.batch_repeat_interleave(2)
        self.prompts, self.owners = [self.prompts[row] for row in rows], rows
        return cache, rows

    def step(self, output: Any, mask: Tensor, said: Tensor) -> Turn:
        """Greedy decoding by hand from an output on. mask: of all that the cache has seen."""
        cache = output[1] if isinstance(output, tuple) else output.past_key_values
        logits = [output[0][:, -1]]
        while len(logits) < NEW:
            mask = torch.cat([mask, mask.new_ones(len(mask), 1)], dim=1)
            places = self.next_places(said.shape[1] + len(logits) - 1, 1)
            token = self.best(logits[-1]).unsqueeze(1)
            output = self.model(input_ids=token, attention_mask=mask, past_key_values=cache, **places, **self.options)
            logits.append(output[0][:, -1])
        stacked = torch.stack(logits, dim=1)
        return Turn.of(said, self.best(stacked), self.owners, self.watch, stacked, cache)

    def best(self, logits: Tensor) -> Tensor:
        """The ids of the largest logits that are not banned."""
        allowed = logits.clone()
        allowed[..., banned(self.program)] = -torch.inf
        return allowed.argmax(-1)

    def padded_places(self) -> Tensor:
        """Position ids [B, L], or [3, B, L], of left-padded prompts."""
        longest = max(len(prompt.embeds) for prompt in self.prompts)
        rows = [torch.nn.functional.pad(each.places[0], (longest - len(each.embeds), 0)) for each in self.prompts]
        return torch.stack(rows, dim=1) if self.mrope else torch.cat(rows)

    def next_places(self, said: int, count: int) -> dict[str, Tensor]:
        """Position ids for a plain forward pass of `count` tokens behind the prompts and `said` more, as an argument.

        Unlike generate(), a plain forward pass counts padding as positions: a caller who goes from one to the other, or
        has a model with mrope, says where tokens are.
        """
        if self.program.mode in ("forward", "tuple") and not self.mrope:
            return {}
        after = torch.stack([prompt.after[0] for prompt in self.prompts]).unsqueeze(1) + said + torch.arange(count)
        return {"position_ids": after.expand(3, -1, -1) if self.mrope else after}


def mask_of(inputs: dict[str, Tensor]) -> Tensor:
    """The attention mask of inputs that may have none."""
    return inputs.get("attention_mask", torch.ones_like(inputs["input_ids"]))
