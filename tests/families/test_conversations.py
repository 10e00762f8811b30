"""Later turns on a filled cache: the answer of the same conversation prefilled anew, on every family."""

from __future__ import annotations

import copy
from importlib import import_module
from types import ModuleType

import pytest
import torch
from transformers import DynamicCache, StaticCache

from tests.families.test_guarantees import FAMILIES, GREEDY, NEW, methods_of
from vlmprune import prune
from vlmprune.config.registry import build_method
from vlmprune.methods.decoder_method import DecoderMethod
from vlmprune.models.base import adapt

TEXT = ("input_ids", "attention_mask", "mm_token_type_ids")
THREE_KINDS = ("qwen2_5_vl", "qwen3_vl")  # of position ids


def before_the_decoder(family: str) -> list[str]:
    return [
        name
        for name in methods_of(family)
        if name not in ("compose", "random") and not isinstance(build_method(name), DecoderMethod)
    ]


PAIRS = [(family, method) for family in FAMILIES for method in before_the_decoder(family)]


@pytest.fixture(params=PAIRS, ids="-".join)
def pair(request: pytest.FixtureRequest) -> tuple[ModuleType, str]:
    return import_module(f"tests.families.{request.param[0]}"), request.param[1]


def media(inputs: dict) -> dict:
    return {name: value for name, value in inputs.items() if name not in TEXT}


def text(inputs: dict, ids: torch.Tensor, *, mask: torch.Tensor | None = None) -> dict:
    """The arguments that go with `ids`, which begin with those of `inputs` or are new."""
    new = ids.shape[1] - inputs["input_ids"].shape[1]
    given = {"input_ids": ids}
    given["attention_mask"] = torch.nn.functional.pad(inputs["attention_mask"], (0, new), value=1)
    if mask is not None:
        given["attention_mask"] = mask
    if "mm_token_type_ids" in inputs:
        given["mm_token_type_ids"] = torch.nn.functional.pad(inputs["mm_token_type_ids"], (0, new))
    return given


def said(turn: torch.Tensor, words: list[int]) -> torch.Tensor:
    """The conversation so far and the next question, the same in every row."""
    return torch.cat([turn, torch.tensor([words]).expand(len(turn), -1)], dim=1)


def ask(model, inputs: dict, **options) -> torch.Tensor:
    """Random weights would say placeholders of images, too."""
    return model.generate(**inputs, **GREEDY, suppress_tokens=list(range(90, 99)), **options)


def test_all_ids_or_the_new_ones_alone(pair):
    family, name = pair
    model, inputs = family.make(), family.batch([8, 12])
    with prune(model, name, ratio=0.6):
        cache = DynamicCache()
        first = ask(model, inputs, past_key_values=cache)
        other = copy.deepcopy(cache)
        second = said(first, [5, 9, 11, 7])
        expected = ask(model, text(inputs, second) | media(inputs))
        assert torch.equal(ask(model, text(inputs, second), past_key_values=cache), expected)
        third = said(expected, [6, 4])
        anew = ask(model, text(inputs, third) | media(inputs))
        assert torch.equal(ask(model, text(inputs, third) | media(inputs), past_key_values=cache), anew)

        alone = {"input_ids": second[:, first.shape[1] - 1 :], "attention_mask": text(inputs, second)["attention_mask"]}
        assert torch.equal(ask(model, alone, past_key_values=other)[:, -NEW:], expected[:, -NEW:])


def test_a_cache_of_fixed_size(family):
    model, inputs = family.make(), family.batch([8, 12])
    with prune(model, "divprune", ratio=0.6):
        cache = StaticCache(config=model.config.get_text_config(), max_cache_len=256)
        first = ask(model, inputs, past_key_values=cache)
        second = said(first, [5, 9, 11])
        answered = ask(model, text(inputs, second), past_key_values=cache)
        assert torch.equal(answered, ask(model, text(inputs, second) | media(inputs)))
        third = said(answered, [6, 4])
        expected = ask(model, text(inputs, third) | media(inputs))
        alone = {"input_ids": third[:, second.shape[1] + NEW - 1 :]}
        alone["attention_mask"] = text(inputs, third)["attention_mask"]
        assert torch.equal(ask(model, alone, past_key_values=cache)[:, -NEW:], expected[:, -NEW:])


def test_conversations_in_turn(family):
    """Each cache says what it holds, whatever the model did in between; so does a copy of it."""
    model, first, second = family.make(), family.batch([8]), family.batch([14], seed=3)
    with prune(model, "divprune", ratio=0.7):
        caches = DynamicCache(), DynamicCache()
        turns = [
            ask(model, inputs, past_key_values=cache) for inputs, cache in zip((first, second), caches, strict=True)
        ]
        branch, twice = copy.deepcopy(caches[0]), copy.deepcopy(caches[0])
        twice.batch_repeat_interleave(2)  # one beginning, two questions
        ids = torch.cat([turns[0].expand(2, -1), torch.tensor([[5, 9], [33, 34]])], dim=1)
        both = ask(
            model,
            text({name: value.expand(2, -1) for name, value in first.items() if name in TEXT}, ids),
            past_key_values=twice,
        )
        for row in range(2):
            anew = ask(model, text(first, ids[row : row + 1]) | media(first))
            assert torch.equal(both[row], anew[0])
    with prune(model, "divprune", ratio=0.7):  # a session for each turn, as a chat loop may have it
        for inputs, cache, turn, words in (
            (first, caches[0], turns[0], [5, 9]),
            (second, caches[1], turns[1], [3, 8, 21]),
            (first, branch, turns[0], [33, 34, 35, 36]),
        ):
            ids = said(turn, words)
            assert torch.equal(
                ask(model, text(inputs, ids), past_key_values=cache), ask(model, text(inputs, ids) | media(inputs))
            )


def test_a_row_that_ended_early_and_a_padded_question(family):
    model, inputs = family.make(), family.batch([8, 12])
    with prune(model, "uniform", ratio=0.6):
        cache = DynamicCache()
        first = ask(model, inputs, past_key_values=cache)
        first[0, -3:] = 0  # what generate() fills in behind the end of an answer
        ids = torch.cat([first, torch.tensor([[0, 0, 5, 9], [6, 7, 8, 9]])], dim=1)
        mask = torch.nn.functional.pad(inputs["attention_mask"], (0, NEW + 4), value=1)
        mask[0, -7:-2] = 0
        given = text(inputs, ids, mask=mask)
        batch = ask(model, given, past_key_values=cache)[:, -NEW:]
        for row in range(2):
            alone = family.one_of(inputs, row)
            words = ids[row, inputs["input_ids"].shape[1] :][mask[row, inputs["input_ids"].shape[1] :].bool()]
            whole = torch.cat([alone["input_ids"], words[None]], dim=1)
            anew = ask(model, text(alone, whole) | media(alone))
            assert torch.equal(batch[row], anew[0, -NEW:])


def test_a_beginning_that_was_cached_outside(family):
    """A system prompt without an image, as generate() takes it: all ids, and a copy of the cache."""
    model, inputs = family.make(), family.batch([8])
    system = {"input_ids": inputs["input_ids"][:, :2], "attention_mask": inputs["attention_mask"][:, :2]}
    with torch.no_grad():
        cache = model(**system, past_key_values=DynamicCache()).past_key_values
    with prune(model, "divprune", ratio=0.6) as session:
        anew, kept = ask(model, inputs), session.record.kept
        again = copy.deepcopy(cache)
        filled = ask(model, inputs, past_key_values=again)
        assert torch.equal(filled, anew)
        assert torch.equal(session.record.kept, kept)
        ids = said(filled, [5, 9])
        assert torch.equal(
            ask(model, text(inputs, ids), past_key_values=again), ask(model, text(inputs, ids) | media(inputs))
        )


@pytest.mark.parametrize("name", [name for name in FAMILIES if name != "llava_onevision"])
def test_a_picture_in_a_later_turn(name):
    """Not on LLaVA-OneVision, which cuts a prompt's only picture into tiles, and not one of several."""
    family = import_module(f"tests.families.{name}")
    model, first, second = family.make(), family.batch([8]), family.batch([6], seed=5)
    with prune(model, "divprune", ratio=0.6) as session:
        cache = DynamicCache()
        turn = ask(model, first, past_key_values=cache)
        before = session.record.kept
        ask(model, family.batch([9, 5, 7], seed=3))  # another batch in between
        both = {"input_ids": torch.cat([turn, second["input_ids"]], dim=1)}
        both["attention_mask"] = torch.ones_like(both["input_ids"])
        if "mm_token_type_ids" in first:
            said_types = torch.zeros(1, NEW, dtype=torch.int)
            types = [first["mm_token_type_ids"], said_types, second["mm_token_type_ids"]]
            both["mm_token_type_ids"] = torch.cat(types, dim=1)
        pictures = joined(media(first), media(second))
        expected = ask(model, both | pictures)
        kept = session.record.kept
        later = ask(model, both | media(second), past_key_values=cache)
        assert torch.equal(later, expected)
        assert torch.equal(torch.cat([before, session.record.kept], dim=1), kept)
        third = said(later, [5, 9])
        anew = ask(model, text(both, third) | pictures)
        assert torch.equal(ask(model, text(both, third), past_key_values=cache), anew)

        with torch.no_grad():  # the same by hand
            whole = {name: torch.cat([first[name], second[name]], dim=1) for name in TEXT if name in first}
            cache = model(**first, use_cache=True).past_key_values
            logits = model(**second | {"attention_mask": None}, past_key_values=cache).logits[:, -1]
            torch.testing.assert_close(logits, model(**whole | pictures).logits[:, -1], rtol=1e-4, atol=1e-4)


def joined(first: dict, second: dict) -> dict:
    """The pictures of two prompts; those with fewer tiles are filled up, as processors do."""
    return {name: torch.cat(filled(first[name], second[name])) for name in first}


def filled(*pixels: torch.Tensor) -> list[torch.Tensor]:
    if pixels[0].dim() < 5:
        return list(pixels)
    tiles = max(each.shape[1] for each in pixels)
    return [torch.nn.functional.pad(each, (0, 0) * 3 + (0, tiles - each.shape[1])) for each in pixels]


def test_rows_that_the_caller_moves(family):
    """A beam search of one's own, a batch of which one row is done, one prompt for several answers."""
    model, inputs = family.make(), family.batch([8, 12])
    for name in ("divprune", "fastv"):
        with prune(model, name, ratio=0.6), torch.no_grad():
            first = model(**inputs, use_cache=True)
            token = first.logits[:, -1:].argmax(-1)
            for rows in ([1, 0], [1], [0, 0, 1], [0, 1]):
                cache = copy.deepcopy(first.past_key_values)
                cache.batch_select_indices(torch.tensor(rows))
                step = model(input_ids=token[rows], past_key_values=cache).logits[:, -1]
                for row, logits in zip(rows, step, strict=True):
                    prompt = family.one_of(inputs, row)
                    alone = model(**prompt, use_cache=True).past_key_values
                    expected = model(input_ids=token[row : row + 1], past_key_values=alone).logits[0, -1]
                    torch.testing.assert_close(logits, expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("name", ["uniform", "divprune", "fastv"])
def test_a_mask_that_hides_visual_tokens(family, name):
    """Hidden tokens are not there: the same as the bare model that sees neither them nor what is dropped."""
    if family.__name__.endswith(THREE_KINDS):
        pytest.skip("transformers counts rows and columns among the tokens that are seen, and finds too few")
    model, inputs = family.make(), family.batch([8, 12])
    visual = adapt(model).visual_mask(inputs["input_ids"])
    places = [row.nonzero().flatten() for row in visual]
    mask = inputs["attention_mask"].clone()
    for row, own in enumerate(places):
        mask[row, own[1::5]] = 0
    with torch.no_grad():
        with prune(model, name, ratio=0.6, positions="keep") as session:
            pruned = model(**inputs | {"attention_mask": mask}).logits[:, -1]
        kept = session.record.kept
        assert session.record.visual_counts[-1] == kept.sum(1).tolist()
        seen = mask.clone()
        for row, own in enumerate(places):
            seen[row, own] = kept[row, : len(own)].long()
            assert not seen[row, own[1::5]].any()
        if name == "fastv":  # its first layers see all that is not hidden
            expected = masked_logits(model, inputs | {"attention_mask": mask}, seen)
        else:
            expected = model(**inputs | {"attention_mask": seen}).logits[:, -1]
    torch.testing.assert_close(pruned, expected, rtol=1e-3, atol=1e-3)


def masked_logits(model, inputs: dict, seen: torch.Tensor) -> torch.Tensor:
    """The last logits where layers from 2 on see the positions in `seen` alone."""
    length = seen.shape[1]
    allowed = torch.ones(length, length).tril().bool() & seen.bool()[:, None, None, :]
    allowed = allowed | torch.eye(length, dtype=torch.bool)

    def hide(_layer, args, kwargs):
        return args, kwargs | {"attention_mask": allowed}

    layers = adapt(model).language_model.layers[2:]
    handles = [layer.register_forward_pre_hook(hide, with_kwargs=True) for layer in layers]
    try:
        return model(**inputs).logits[:, -1]
    finally:
        for handle in handles:
            handle.remove()
