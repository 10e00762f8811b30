"""The engine's guarantees over every model family: methods x families x attention backends.

Where a guarantee would take long with all methods of all families, llava has them all and the others some.
"""

from __future__ import annotations

from importlib import import_module

import pytest
import torch

from tests.toy_models import FAMILIES
from vlmprune import prune
from vlmprune.config.registry import build_method, find_choices
from vlmprune.errors import UserError
from vlmprune.methods.base import Method
from vlmprune.models.base import adapt

NEW = 5
GREEDY = {"max_new_tokens": NEW, "do_sample": False, "pad_token_id": 0, "eos_token_id": None}
NEEDS = {name: set(build_method(name).needs) for name in find_choices("method")}


def methods_of(family: str) -> list[str]:
    """Methods that the family's signals allow, without those that need a second checkpoint."""
    signals = import_module(f"vlmprune.models.families.{family}").SIGNALS - {"text_relevance"}
    return sorted(name for name, needs in NEEDS.items() if needs <= signals and name != "none")


def method_of(name: str) -> Method:
    """The method as it drops 60 % of the tokens, or none."""
    return build_method(name, ratio=None if name == "none" else 0.6)


PAIRS = [(family, method) for family in FAMILIES for method in methods_of(family)]


def some(*names: str) -> list[tuple[str, str]]:
    """Every method of llava, and `names` of each other family that has them."""
    return [(family, name) for family, name in PAIRS if family == "llava" or name in names]


def generate(model, inputs, **settings):
    return model.generate(**inputs, **GREEDY | settings)[:, -NEW:]


def test_there_are_methods_to_test():
    assert {"cls", "fastv", "random", "uniform", "tome", "compose"} <= set(methods_of("llava"))
    assert all({"fastv", "random", "uniform"} <= set(methods_of(family)) for family in FAMILIES)


def test_methods_whose_signals_a_family_lacks_are_refused(family):
    name = family.__name__.rpartition(".")[2]
    model = family.make()
    for method in sorted(NEEDS.keys() - {"none", "cdpruner", *methods_of(name)}):
        with pytest.raises(UserError, match=f"which model '{name}' does not have"):
            prune(model, method, ratio=0.5)


def check_ratio_0(model, inputs, names, slots):
    """Logits and tokens are the bare model's, bit by bit; slots: a function, the visual tokens of each prompt."""
    bare, tokens = model(**inputs).logits, generate(model, inputs)
    for name in names:
        with prune(model, name, ratio=0) as session:
            assert torch.equal(model(**inputs).logits, bare), name
            assert torch.equal(generate(model, inputs), tokens), name
        assert session.record.visual_counts[0] == slots(inputs)


def check_samples(family, model, name, inputs):
    """A batch gives the tokens, counts and kept slots that its samples give."""
    with prune(model, name, ratio=0.6) as session:
        together, record = generate(model, inputs), session.record
        for row in range(len(together)):
            alone = family.one_of(inputs, row)
            assert torch.equal(generate(model, alone)[0], together[row])
            assert [count[0] for count in session.record.visual_counts] == [c[row] for c in record.visual_counts]
            kept = torch.zeros_like(record.kept[row])
            if family.slots(alone)[0]:
                kept[: session.record.kept.shape[1]] = session.record.kept[0]
            assert torch.equal(kept, record.kept[row])


def check_logits(family, model, inputs, tolerance, method, **amount):
    """A batch gives the kept slots that its samples give, and their last logits within a tolerance."""
    with prune(model, method, **amount) as session:
        together, record = model(**inputs).logits[:, -1], session.record
        for row in range(len(together)):
            alone = model(**family.one_of(inputs, row)).logits[0, -1]
            torch.testing.assert_close(alone, together[row], rtol=tolerance, atol=tolerance)
            kept = session.record.kept[0]
            assert torch.equal(kept, record.kept[row, : len(kept)])


@pytest.mark.parametrize("attention", ["sdpa", "eager"])
def test_ratio_0_is_bit_identical(family, attention):
    own = family.__name__.rpartition(".")[2]
    names = [name for pair, name in some("cls", "fastv", "divprune", "compose") if pair == own]
    check_ratio_0(family.make(attention), family.batch([9, 6]), ["none", *names], family.slots)


@pytest.mark.parametrize(
    ("family", "name", "attention"),
    [(*pair, "sdpa") for pair in PAIRS] + [("llava", name, "eager") for name in methods_of("llava")],
    indirect=["family"],
)
def test_a_batch_gives_what_its_samples_give(family, name, attention):
    model = family.make(attention)
    for media in (1, 2):
        check_samples(family, model, name, family.batch([8, 12, 6, 8], media))


@pytest.mark.parametrize("name", ["prumerge", "prumerge_plus"])
def test_images_that_decide_their_own_number_do_not_depend_on_the_batch(family, name):
    if name not in methods_of(family.__name__.rpartition(".")[2]):
        pytest.skip("the family has no such signals")
    check_logits(family, family.make(), family.batch([8, 12, 6]), 1e-4, name)


def check_masked(model, inputs, name):
    """Layers from each stage on see the dropped tokens neither at prefill nor while decoding; returns the record."""
    adapter = adapt(model)
    with prune(model, name, ratio=0.7, positions="keep") as session:
        output = model.generate(**inputs, **GREEDY | {"max_new_tokens": 9}, return_dict_in_generate=True)
    record = session.record
    texts = [total - visual for total, visual in zip(record.prompt_lengths, record.visual_counts[0], strict=True)]
    for layer, counts in zip(output.past_key_values.layers, record.visual_counts, strict=True):
        assert layer.keys.shape[2] == max(t + n for t, n in zip(texts, counts, strict=True)) + 8
    if name != "pyramiddrop":  # its earlier stages' sets are not in the record
        seen = seen_by_layer(adapter, inputs, record)
        assert torch.equal(output.sequences[:, -9:], masked_generate(model, adapter, inputs, seen, 9))
    return record


@pytest.mark.parametrize("attention", ["sdpa", "eager"])
@pytest.mark.parametrize("name", ["fastv", "pyramiddrop"])
def test_dropped_inside_the_decoder_equals_masked(family, attention, name):
    check_masked(family.make(attention), family.batch([8, 8]), name)


def seen_by_layer(adapter, inputs, record):
    """bool [B, L], the positions that layers see whose visual tokens are fewer than at first."""
    visual = adapter.visual_mask(inputs["input_ids"])
    real = torch.ones_like(visual) & inputs["attention_mask"].bool()
    slot = visual.cumsum(1) - 1
    dropped = visual & ~record.kept.gather(1, slot.clamp(0, record.kept.shape[1] - 1))
    return real & ~dropped


def masked_generate(model, adapter, inputs, seen, steps, first=2):
    """Greedy decoding with a cache in which layers from `first` on may attend to `seen` and what is generated only."""

    def hide(layer, args, kwargs):
        hidden = args[0] if args else kwargs["hidden_states"]
        cache = kwargs.get("past_key_values", kwargs.get("layer_past"))
        total = (cache.get_seq_length(0) if cache is not None else 0) or 0
        if layer is adapter.language_model.layers[0]:  # whose cache has not grown yet
            total += hidden.shape[1]
        length = max(total, hidden.shape[1])
        rows = torch.arange(length - hidden.shape[1], length)
        allowed = torch.arange(length) <= rows[:, None]
        columns = torch.cat([seen, seen.new_ones(len(seen), length - seen.shape[1])], 1)
        allowed = allowed & columns[:, None, None, :] | torch.eye(length, dtype=torch.bool)[rows]
        mask = torch.zeros(allowed.shape).masked_fill(~allowed, torch.finfo(torch.float32).min)
        return args, kwargs | {"attention_mask": mask}

    handles = [
        layer.register_forward_pre_hook(hide, with_kwargs=True) for layer in adapter.language_model.layers[first:]
    ]
    try:
        return model.generate(**inputs, **GREEDY | {"max_new_tokens": steps})[:, -steps:]
    finally:
        for handle in handles:
            handle.remove()


@pytest.mark.parametrize(("family", "name"), some("uniform", "fastv"), indirect=["family"])
def test_beams_and_samples_work(family, name):
    model, inputs = family.make(), family.batch([8, 12])
    with prune(model, name, ratio=0.6):
        beams = generate(model, inputs, num_beams=3)
        assert torch.equal(beams[1], generate(model, family.one_of(inputs, 1), num_beams=3)[0])
        assert len(generate(model, inputs, do_sample=True, num_return_sequences=2)) == 4


def test_no_visual_token_at_all(family):
    """The blind baseline: what the image shows must not matter."""
    model, inputs = family.make(), family.batch([8, 12])
    other = family.batch([8, 12], seed=1) | {"input_ids": inputs["input_ids"]}
    with prune(model, "uniform", ratio=1) as session:
        assert torch.equal(model(**inputs).logits, model(**other).logits)
    assert session.record.visual_counts == [[0, 0]] * len(session.record.visual_counts)


def snapshot(model):
    """Everything a session could leave behind: hooks, instance attributes, configs."""
    return {
        name: (
            [len(hooks) for key, hooks in sorted(vars(module).items()) if key.endswith("_hooks")],
            sorted(vars(module)),
            id(getattr(module, "config", None)),
        )
        for name, module in model.named_modules()
    }


def test_the_model_is_left_as_it_was(family):
    model, inputs = family.make(), family.batch([8])
    bare = generate(model, inputs)
    before = snapshot(model)
    for name in methods_of(family.__name__.rpartition(".")[2]):
        with prune(model, name, ratio=0.5):
            generate(model, inputs)
        assert snapshot(model) == before, name
        with pytest.raises(ZeroDivisionError), prune(model, name, ratio=0.5):
            model(**inputs)
            raise ZeroDivisionError
        assert snapshot(model) == before, name
    assert torch.equal(generate(model, inputs), bare)
