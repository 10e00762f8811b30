"""CDPruner through a session: the questions reach the selection, in batches as one by one."""

from __future__ import annotations

import pytest
import torch

from tests.conftest import make_batch, make_llava, one_of
from tests.families.test_guarantees import generate
from tests.models.clip import make_clip
from tests.toy_models import left_padded
from vlmprune import prune
from vlmprune.methods.base import Signals
from vlmprune.methods.cdpruner import CDPruner
from vlmprune.methods.compose import Compose

QUESTIONS = ["is there a red star", "the blue square", "left of the star"]


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A CLIP that has the same vision encoder as `make_llava`."""
    return str(make_clip(tmp_path_factory.mktemp("clip"), make_llava().config.vision_config))


def test_keeps_what_the_method_selects(sdpa_model, clip) -> None:
    batch = make_batch([8])
    seen = {}
    projector = sdpa_model.model.multi_modal_projector
    handle = projector.register_forward_hook(lambda _m, args, out: seen.update(features=args[0], projected=out))
    with prune(sdpa_model, "cdpruner", keep=9, clip=clip) as session:
        session.ask(QUESTIONS[:1])
        sdpa_model(**batch)
        kept = session.record.kept[0].nonzero().flatten()
        relevance = session.text_tower.relevance(seen["features"], QUESTIONS[:1])
    handle.remove()
    signals = Signals(grid=(6, 6), images=1, projected=seen["projected"], text_relevance=relevance)
    assert torch.equal(kept, CDPruner(keep=9).select(signals, 9).indices[0])


def test_a_batch_equals_one_by_one(model, clip) -> None:
    batch = make_batch([5, 9, 7], images=2)
    with prune(model, "cdpruner", ratio=0.75, clip=clip) as session:
        session.ask(QUESTIONS)
        together, kept = generate(model, batch), session.record.kept
        for row, question in enumerate(QUESTIONS):
            session.ask([question])
            assert torch.equal(generate(model, one_of(batch, row))[0], together[row])
            assert torch.equal(session.record.kept[0], kept[row])
        session.ask(QUESTIONS[::-1])
        generate(model, batch)
        assert not torch.equal(session.record.kept, kept)


def test_prompts_with_different_numbers_of_images(model, clip) -> None:
    few, many = make_batch([11], images=1), make_batch([7], images=3, seed=1)
    rows = [few["input_ids"][0], many["input_ids"][0]]
    batch = left_padded(rows) | {"pixel_values": torch.cat([few["pixel_values"], many["pixel_values"]])}
    with prune(model, "cdpruner", ratio=0.75, clip=clip) as session:
        session.ask(QUESTIONS[:2])
        together, kept = generate(model, batch), session.record.kept
        for row, alone in enumerate((few, many)):
            session.ask([QUESTIONS[row]])
            assert torch.equal(generate(model, alone)[0], together[row])
            own = session.record.kept[0]
            assert torch.equal(own, kept[row, : len(own)])


def test_beams_share_the_question(sdpa_model, clip) -> None:
    batch = make_batch([5, 9])
    with prune(sdpa_model, "cdpruner", ratio=0.75, clip=clip) as session:
        session.ask(QUESTIONS[:2])
        generate(sdpa_model, batch)
        greedy = session.record.kept
        session.ask(QUESTIONS[:2])
        generate(sdpa_model, batch, num_beams=2)
        assert {tuple(row) for row in session.record.kept.tolist()} == {tuple(row) for row in greedy.tolist()}


def test_inside_the_decoder_follows(sdpa_model, clip) -> None:
    method = Compose(keep=6, before=CDPruner(clip=clip))
    with prune(sdpa_model, method) as session:
        session.ask(QUESTIONS[:1])
        generate(sdpa_model, make_batch([8]))
        assert session.record.visual_counts[-1] == [6]


def test_generate_without_a_question(sdpa_model, clip) -> None:
    with (
        pytest.raises(RuntimeError, match=r"call session\.ask"),
        prune(sdpa_model, "cdpruner", ratio=0.75, clip=clip),
    ):
        generate(sdpa_model, make_batch([8]))


def test_ratio_0_is_the_unpruned_model(sdpa_model, clip) -> None:
    batch = make_batch([8])
    plain = generate(sdpa_model, batch)
    with prune(sdpa_model, "cdpruner", ratio=0, clip=clip):
        assert torch.equal(generate(sdpa_model, batch), plain)
