"""LLaVA-NeXT's visual structure: what a tile's patch becomes in the prompt, and what pruning leaves of it."""

from __future__ import annotations

import pytest
import torch
from PIL import Image

from tests.families import llava_next
from tests.models.hub import load_saved
from tests.toy_models import record_of
from vlmprune import prune
from vlmprune.config.registry import build_method
from vlmprune.engine.session import Session
from vlmprune.errors import UserError
from vlmprune.methods.cls import ClsAttention
from vlmprune.methods.divprune import DivPrune
from vlmprune.models.families.llava_next import LlavaNext
from vlmprune.models.geometry import best_filled_resolution, tile_geometry

PINPOINTS = [[336, 672], [672, 336], [672, 672], [1008, 336], [336, 1008]]  # llava-v1.6's
SIDE = llava_next.SIDE


@pytest.fixture(scope="module")
def model():
    return llava_next.make()


@pytest.mark.parametrize("size", [(30, 40), (20, 60), (45, 17), (33, 24), (7, 90), (91, 8)])
def test_slots_and_patches_are_those_of_transformers_packing(model, size):
    """Ids written into the features come out of transformers' own packing where the geometry says."""
    geometry = LlavaNext(model).geometry(size)
    ids = torch.arange(float(geometry.tiles * SIDE**2)).view(geometry.tiles, SIDE**2, 1)
    (packed,), (length,) = model.model.pack_image_features(
        [ids], torch.tensor([size]), "default", image_newline=torch.tensor([-1.0])
    )
    assert int(length) == geometry.slots
    assert packed[:, 0].tolist() == geometry.slot_patches().tolist()
    assert int((packed == -1).sum()) == geometry.newlines
    alive = [tile * SIDE**2 + patches for tile, (patches, _) in enumerate(geometry.unpadded_patches())]
    assert sorted(packed[packed >= 0].tolist()) == torch.cat(alive).tolist()
    for patches, (height, width) in geometry.unpadded_patches():
        assert len(patches) == height * width


def test_published_size_of_a_672_image():
    """FasterVLM: 5 x 29 = 145 tokens at 95 %."""
    geometry = tile_geometry((672, 672), PINPOINTS, 336, 24)
    assert geometry.tiles == 5
    assert geometry.slots == 5 * 576 + 48
    assert sum(ClsAttention(ratio=0.95).count(len(patches)) for patches, _ in geometry.unpadded_patches()) == 145


@pytest.mark.parametrize(
    ("size", "best"),
    [((480, 640), (672, 672)), ((500, 500), (672, 672)), ((400, 600), (336, 672)), ((300, 1200), (336, 1008))],
)
def test_fastervlm_chooses_the_fullest_resolution(size, best):
    assert best_filled_resolution(size, PINPOINTS) == best


def test_every_tile_keeps_its_share_of_what_survives_unpadding(model):
    inputs = llava_next.batch([8])
    record = record_of(model, inputs, "cls", ratio=0.5)
    geometry = LlavaNext(model).geometry(llava_next.SIZES[0])
    expected = sum(
        ClsAttention(ratio=0.5).count(len(patches)) for patches, _ in geometry.unpadded_patches() if len(patches)
    )
    assert record.visual_counts == [[expected]] * 6
    assert record.kept.shape == (1, geometry.slots)


@pytest.mark.parametrize(("newline", "extra"), [("drop", 0), ("keep", 1)])
def test_newlines_go_with_the_patches_or_stay(model, newline, extra):
    inputs = llava_next.batch([8, 9], media=2)
    record = record_of(model, inputs, "uniform", ratio=0.5, model_options={"newline": newline})
    adapter = LlavaNext(model)
    geometry = [adapter.geometry(tuple(size)) for size in inputs["image_sizes"].tolist()]
    patches = [sum(ClsAttention(ratio=0.5).count(len(p)) for p, _ in g.unpadded_patches() if len(p)) for g in geometry]
    newlines = [extra * g.newlines for g in geometry]
    totals = [patches[i] + newlines[i] for i in range(4)]
    assert record.visual_counts[0] == [totals[0] + totals[1], totals[2] + totals[3]]


@pytest.mark.parametrize(("size", "tiles"), [((112, 112), 5), ((112, 60), 3), ((90, 112), 5), ((50, 112), 3)])
def test_fastervlm_packing_has_neither_padding_nor_newlines(hub, size, tiles):
    """As in FasterVLM's code: base and tiles whole, no newline, also unpruned."""
    loaded = load_saved(hub("llava_next"), options={"packing": "fastervlm"})
    media = loaded.preprocessor.media([Image.effect_noise(size, 60).convert("RGB")], "image")
    assert media[0].tensors["pixel_values"].shape[1] == tiles
    inputs = loaded.preprocessor.batch(["What"], [media], torch.device("cpu"), torch.float32)
    assert loaded.adapter.visual_mask(inputs["input_ids"]).sum() == 16 * tiles
    for ratio, kept in [(0, 16), (0.75, 4), (0.9, 2)]:
        with Session(loaded.adapter, build_method("cls", ratio=ratio)) as session:
            loaded.model.generate(**inputs, max_new_tokens=1)
        assert session.record.visual_counts[0] == [kept * tiles]
    assert "pack_image_features" not in vars(loaded.model.model)


def test_the_layout_says_which_patch_stands_at_each_slot(model):
    """Of two images of different shapes, through the whole encoding: each slot holds its own patch's feature."""
    inputs = llava_next.batch([8], media=2)
    adapter = LlavaNext(model)
    arguments = {"pixel_values": inputs["pixel_values"], "image_sizes": inputs["image_sizes"]}
    layout = adapter.layout("get_image_features", arguments, "tile")
    projected = {}
    handle = adapter.projector.register_forward_hook(lambda _m, _a, out: projected.update(all=out.flatten(0, 1)))
    features = torch.cat(model.model.get_image_features(**arguments).pooler_output)
    handle.remove()
    assert len(layout.order) == len(features) == layout.slots
    patches = layout.order >= 0
    assert torch.equal(features[patches], projected["all"][layout.order[patches]])
    assert torch.equal(features[~patches], model.model.image_newline.expand(int((~patches).sum()), -1))


def test_scope_decides_what_is_ranked_together(model):
    inputs, adapter = llava_next.batch([8]), LlavaNext(model)
    alive = [len(patches) for patches, _ in adapter.geometry(llava_next.SIZES[0]).unpadded_patches()]
    counts = {}
    for scope in ("published", "tile", "image"):
        record = record_of(model, inputs, "divprune", keep=3, scope=scope)
        counts[scope] = record.visual_counts[0][0]
    assert counts == {"published": 3, "image": 3, "tile": sum(min(3, n) for n in alive)}
    assert DivPrune(keep=3).scope_rule == "image"
    record = record_of(model, inputs, "cls", keep=20, scope="image")  # more than one tile has
    assert record.visual_counts[0] == [20]


def test_a_tiles_own_grid_is_needed_by_some(model):
    with pytest.raises(UserError, match="scope=image"):
        prune(model, "uniform", ratio=0.5, scope="image")


def test_scm_keeps_the_base_tile_and_starts_again(model):
    """The decoder gives what it gives on a prompt that was written shorter."""
    inputs = llava_next.batch([8])
    geometry = LlavaNext(model).geometry(llava_next.SIZES[0])
    embeds = {}

    def see(_lm, _args, kwargs):
        embeds["whole"] = kwargs["inputs_embeds"]

    handle = model.model.language_model.register_forward_pre_hook(see, with_kwargs=True)
    model(**inputs)
    handle.remove()
    with prune(model, "scm") as session:
        pruned = model(**inputs).logits
    kept = session.record.kept[0]
    detail = geometry.slots - SIDE**2
    assert kept[: SIDE**2].all()
    assert int(kept.sum()) == SIDE**2 + detail // 2
    assert session.record.visual_counts == [[int(kept.sum())]] * 6
    stays = torch.ones_like(inputs["input_ids"][0], dtype=torch.bool)
    stays[inputs["input_ids"][0] == llava_next.IMAGE_TOKEN] = kept
    hidden = model.model.language_model(inputs_embeds=embeds["whole"][:, stays]).last_hidden_state
    torch.testing.assert_close(pruned, model.lm_head(hidden), rtol=1e-4, atol=1e-4)


def test_scm_without_a_restart_drops_before_its_layer(model):
    inputs = llava_next.batch([8, 9])
    with prune(model, "scm", ratio=0.75, restart=False) as session:
        model.generate(**inputs, max_new_tokens=3, do_sample=False, pad_token_id=0)
    whole, left = session.record.visual_counts[1], session.record.visual_counts[2]
    assert whole == llava_next.slots(inputs)
    assert all(few < many for few, many in zip(left, whole, strict=True))
