"""Qwen2.5-VL and Qwen3-VL beyond the guarantees of every family: token order, mrope, DeepStack, videos, refusals."""

from __future__ import annotations

from dataclasses import replace
from importlib import import_module
from types import ModuleType

import pytest
import torch

from tests.families.test_guarantees import GREEDY, generate, masked_generate, seen_by_layer
from tests.toy_models import record_of
from vlmprune import prune
from vlmprune.config.registry import build_method
from vlmprune.engine.hooks import AttentionProbe
from vlmprune.engine.session import Session
from vlmprune.errors import UserError
from vlmprune.methods.base import ScoreMethod
from vlmprune.methods.cls import ClsAttention
from vlmprune.methods.compose import Compose
from vlmprune.methods.divprune import DivPrune
from vlmprune.methods.fastv import FastV
from vlmprune.models.base import adapt


@pytest.fixture(params=["qwen2_5_vl", "qwen3_vl"])
def family(request: pytest.FixtureRequest) -> ModuleType:
    return import_module(f"tests.families.{request.param}")


@pytest.mark.parametrize("media", ["image", "video"])
def test_tokens_are_numbered_as_they_reach_the_prompt(family, media):
    """Ids written into the patches must come back, one per 2 x 2 group, in the order of the tower's result."""
    model = family.make()
    adapter = adapt(model)
    inputs = family.batch([6, 6, 6]) if media == "image" else family.video_batch([10, 10])
    pixels, grid = ("pixel_values", "image_grid_thw") if media == "image" else ("pixel_values_videos", "video_grid_thw")
    encoder = f"get_{media}_features"
    layout = adapter.layout(encoder, {pixels: inputs[pixels], grid: inputs[grid]}, "tile")
    parts: list[torch.Tensor] = []

    def write_ids(_embed, _args, output):
        return torch.arange(len(output), dtype=torch.float32).unsqueeze(1).expand_as(output)

    def read_ids(_layer, args, kwargs):
        ids = (args[0] if args else kwargs["hidden_states"])[:, 0]
        parts.extend(part.view(1, 1, -1) for part in ids.split(kwargs["cu_seqlens"].diff().tolist()))

    blocks = model.model.visual.blocks
    handles = [model.model.visual.patch_embed.register_forward_hook(write_ids)]
    handles += [block.register_forward_hook(lambda _block, args, _output: args[0]) for block in blocks]
    handles.append(blocks[3].register_forward_pre_hook(read_ids, with_kwargs=True))
    if hasattr(model.model.visual, "pos_embed"):
        torch.nn.init.zeros_(model.model.visual.pos_embed.weight)
    try:
        getattr(model.model, encoder)(inputs[pixels], inputs[grid])
    finally:
        for handle in handles:
            handle.remove()
    tokens = adapter.per_token(parts)[0]
    assert torch.equal(tokens, torch.arange(len(inputs[pixels])).view(-1, 4).float().mean(1))
    assert layout.slots == len(tokens)
    assert [len(tile) for tile in layout.pixels] == [h * w for t, h, w in inputs[grid].tolist() for _ in range(t)]
    for group in layout.groups:
        for tile, index in zip(group.tiles, group.index, strict=True):
            assert index[0] * 4 == sum(len(pixels) for pixels in layout.pixels[:tile])
            assert torch.equal(index, index[0] + torch.arange(group.grid[0] * group.grid[1]))


@pytest.mark.parametrize("layer", [2, 3])
def test_attention_received_is_a_mean_over_the_whole_picture(family, layer):
    """Also in layer 2, where Qwen2.5-VL attends in windows of unequal size: every picture's patches share 1."""
    seen = []

    class Spy(ScoreMethod):
        needs = ("cls_attention",)

        def layers(self, tower):
            return (layer,)

        def score(self, signals):
            seen.append((signals.grid, signals.cls_attention))
            return signals.cls_attention[0].mean(1)

    with prune(family.make(), Spy(ratio=0.5)) as session:
        session.adapter.model(**family.batch([6, 6, 6]))
    assert {grid for grid, _ in seen} == {(5, 6), (6, 4), (3, 5)}
    for (rows, columns), received in seen:
        assert received.shape == (1, 1, 4, rows * columns)
        assert torch.allclose(received.sum(3) * 4, torch.ones(1, 1, 4), atol=1e-5)


@pytest.mark.parametrize("rule", ["published", "keep"])
@pytest.mark.parametrize("media", ["image", "video"])
def test_dropped_before_the_decoder_equals_masked(family, media, rule):
    """Kept tokens keep their three positions and DeepStack's features; the text after them loses nothing."""
    model = family.make()
    inputs = family.batch([8, 11], 2) if media == "image" else family.video_batch([11, 13])
    with prune(model, ClsAttention(ratio=0.7, positions=rule)) as session:
        pruned, tokens = model(**inputs).logits, generate(model, inputs)
    assert session.record.visual_counts[0] == ([16, 12] if media == "image" else [21, 21])
    seen = seen_by_layer(session.adapter, inputs, session.record).long()
    grids = {name: inputs[name] for name in inputs if not name.startswith("pixel")}
    positions, _ = model.model.get_rope_index(**grids)
    del inputs["mm_token_type_ids"], inputs["attention_mask"]
    for step in range(len(tokens[0])):  # the whole masked prompt anew for every token
        logits = model(**inputs, attention_mask=seen, position_ids=positions).logits
        assert step or torch.allclose(pruned[:, -1], logits[:, -1], atol=2e-4)
        new = logits[:, -1].argmax(-1, keepdim=True)
        assert torch.equal(new[:, 0], tokens[:, step])
        inputs["input_ids"] = torch.cat([inputs["input_ids"], new], 1)
        seen = torch.cat([seen, torch.ones_like(new)], 1)
        positions = torch.cat([positions, positions[..., -1:] + 1], 2)


@pytest.mark.parametrize(("scope", "counts"), [("tile", [6, 6, 6]), ("image", None)])
def test_a_video_is_ranked_per_temporal_step_or_as_a_whole(family, scope, counts):
    model, inputs = family.make(), family.video_batch([12])
    record = record_of(model, inputs, "divprune", ratio=0.75, scope=scope)
    kept = record.kept[0].view(3, 24).sum(1)
    assert kept.sum() == 18
    assert counts is None or kept.tolist() == counts


@pytest.mark.parametrize("name", ["uniform", "fastv", "divprune"])
def test_a_picture_and_a_video_in_one_prompt(family, name):
    model, inputs = family.make(), family.mixed_batch()
    with prune(model, name, ratio=0.5) as session:
        generate(model, inputs)
    assert session.record.visual_counts[-1] == [15 + 36]


def test_stages_between_the_levels_of_deepstack():
    """Layers 1, 2 and 3 drop, and levels 1 and 2 of three are added to what is left."""
    family = import_module("tests.families.qwen3_vl")
    model, inputs = family.make(), family.batch([8, 9, 7], 2)
    for k in (1, 2, 3):
        with prune(model, FastV(ratio=0.7, k=k)) as session:
            tokens = model.generate(**inputs, **GREEDY)[:, -5:]
        seen = seen_by_layer(session.adapter, inputs, session.record)
        assert torch.equal(masked_generate(model, session.adapter, inputs, seen, 5, first=k), tokens)
    method = Compose(ratio=0.6, before=build_method("uniform"), inside=FastV(k=1))
    with prune(model, method) as session:
        together = generate(model, inputs)
        for row in range(3):
            assert torch.equal(generate(model, family.one_of(inputs, row))[0], together[row])


def test_pixels_are_seen_by_the_probe_only_inside_one_picture(family):
    """With flash attention the tower passes all pictures at once; a probed layer still takes them one by one."""
    model, inputs = family.make(), family.batch([6, 6, 6])
    lengths = []
    probe = AttentionProbe(adapt(model).vision_attentions(3)[0], lambda query, *_: lengths.append(query.shape[2]))
    model(**inputs)
    probe.remove()
    assert lengths == [120, 96, 60]


class TestAmounts:
    """Counts are of each picture's own grid, not of the typical one."""

    def test_keep_is_of_every_picture(self, family):
        model, inputs = family.make(), family.batch([8, 8], 2)
        record = record_of(model, inputs, "cls", keep=10)
        assert record.visual_counts[0] == [20, 20]

    def test_keep_beyond_the_typical_grid_still_prunes_larger_pictures(self, family):
        model, inputs = family.make(), family.batch([8])
        adapter = adapt(model)
        adapter.tower = replace(adapter.tower, grid=(2, 2))
        with Session(adapter, ClsAttention(keep=10)) as session:
            model(**inputs)
        assert session.record.visual_counts[0] == [10]

    def test_compose_splits_keep_by_the_pictures_own_grid(self, family):
        model, inputs = family.make(), family.batch([8])
        (n,) = family.slots(inputs)
        record = record_of(model, inputs, Compose(keep=5))
        assert record.visual_counts[0] == [round((n * 5) ** 0.5)]
        assert record.visual_counts[-1] == [5]


class TestRefusals:
    @pytest.mark.parametrize(
        "method",
        [DivPrune(ratio=0.5, positions="renumber"), Compose(0.5, inside=FastV(positions="renumber"))],
    )
    def test_renumbered_positions(self, family, method):
        with pytest.raises(UserError, match="positions=renumber"):
            prune(family.make(), method)

    def test_an_order_of_their_own(self, family):
        with pytest.raises(UserError, match="keep_order=score"):
            prune(family.make(), "cls", ratio=0.5, keep_order="score")

    @pytest.mark.parametrize("name", ["fastv", "compose"])
    def test_sliding_windows_in_the_decoder(self, name):
        family = import_module("tests.families.qwen2_5_vl")
        model = family.make(use_sliding_window=True, sliding_window=8, max_window_layers=3)
        with pytest.raises(UserError, match="sliding-window"):
            prune(model, name, ratio=0.5)
