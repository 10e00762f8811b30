"""The feature store over every family: answers do not change, and what is known is not encoded again."""

from __future__ import annotations

import pytest
import torch

from tests.families import llava
from tests.families.test_guarantees import FAMILIES, generate, method_of, methods_of, snapshot
from tests.toy_models import inputs_of
from vlmprune.engine.encoding_cache import EncodingStore
from vlmprune.engine.session import Session
from vlmprune.methods.encoder_method import VisionMethod
from vlmprune.models.base import EncoderInput, adapt

ALIKE = [name for name in FAMILIES if not name.startswith("qwen")]  # Qwen encodes all pictures as one sequence


def remembering(family: str) -> list[str]:
    names = ["none", *methods_of(family)]
    return [name for name in names if not isinstance(method_of(name), VisionMethod)]


def counted(adapter):
    """The tiles that go through the first encoder layer's attention."""
    return inputs_of(*adapter.vision_attentions(0))


def pixels(inputs: dict) -> dict:
    """Inputs of the encoder; Video-LLaVA's images have a longer name on transformers 5.17."""
    return {name: given for name, given in inputs.items() if name.startswith("pixel_values") or name == "image_sizes"}


@pytest.mark.parametrize(
    "family", [ALIKE[0], *(pytest.param(name, marks=pytest.mark.slow) for name in ALIKE[1:])], indirect=True
)
def test_answers_do_not_change_and_known_tiles_are_not_encoded(family):
    model = family.make()
    adapter = adapt(model)
    first, second = family.batch([8, 12]), family.batch([7, 9, 6], seed=1)
    store = EncodingStore(2**30)
    shown = {}
    for label, inputs in (("a", first), ("b", second)):
        tiles = len(EncoderInput.from_tensors(adapter, pixels(inputs)).tiles)
        shown[label] = (inputs, [f"{label}{number}" for number in range(tiles)])
    for method in remembering(family.__name__.rpartition(".")[2]):
        for inputs, keys in (shown["a"], shown["b"], shown["a"]):
            with Session(adapter, method_of(method)) as session:
                expected, kept = generate(model, inputs), session.record.kept
            with Session(adapter, method_of(method), features=store) as session, counted(adapter) as encoded:
                session.show(keys)
                assert torch.equal(generate(model, inputs), expected), method
                assert kept is None or torch.equal(session.record.kept, kept), method
            assert sum(map(len, encoded)) in (0, len(keys))
        assert not encoded, method  # the third time nothing of the first is encoded again
    assert store.hits and store.misses


def test_unknown_tiles_join_known_ones_and_each_is_encoded_once():
    model = llava.make()
    adapter, inputs = adapt(model), llava.batch([8, 12, 6, 9])
    inputs["pixel_values"][2] = inputs["pixel_values"][1]  # two questions about one image
    keys = ["x", "y", "y", "z"]
    for method in ("cls", "vtc_cls", "visionzip", "prumerge", "fastv"):
        with Session(adapter, method_of(method)):
            expected = generate(model, inputs)
        store = EncodingStore(2**30)
        one = llava.one_of(inputs, 1)
        with Session(adapter, method_of(method), features=store) as session, counted(adapter) as encoded:
            session.show(["y"])
            generate(model, one)
            session.show(keys)
            assert torch.equal(generate(model, inputs), expected), method
            assert list(map(len, encoded)) == [1, 2], method
        # A tile that nobody named is encoded as ever.
        with Session(adapter, method_of(method), features=store), counted(adapter) as encoded:
            assert torch.equal(generate(model, inputs), expected)
            assert list(map(len, encoded)) == [4]


def test_the_model_is_left_as_it_was():
    model, inputs = llava.make(), llava.batch([8])
    adapter = adapt(model)
    generate(model, inputs)  # transformers itself leaves something on the first call
    before = snapshot(model)
    with Session(adapter, method_of("cls"), features=EncodingStore(2**20)) as session:
        session.show(["x"])
        generate(model, inputs)
    assert snapshot(model) == before
