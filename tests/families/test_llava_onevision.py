"""LLaVA-OneVision: stitched grids, pooled frames, newlines, and scores on the tokens that patches become."""

from __future__ import annotations

import pytest
import torch
from torch.nn.functional import interpolate, pad
from transformers.image_processing_utils import select_best_resolution

from tests.families import llava_onevision
from tests.families.llava_onevision import FRAMES, PINPOINTS, SIDE, SIZES, TILE
from tests.toy_models import record_of
from vlmprune import prune
from vlmprune.errors import UserError
from vlmprune.models.base import adapt
from vlmprune.models.families.llava_onevision import LlavaOnevision

BASE = SIDE**2
GRIDS = [(5, 5), (10, 6), (4, 11), (5, 8)]  # of SIZES after stitching, unpadding and shrinking


def encodings(inputs):
    """(encoder, its arguments) of a batch, by name whichever transformers it is."""
    if "pixel_values" in inputs:
        names = ("pixel_values", "image_sizes", "batch_num_images")
        yield "get_image_features", {name: inputs[name] for name in names}
    if "pixel_values_videos" in inputs:
        yield "get_video_features", {llava_onevision.VIDEO_PIXELS: inputs["pixel_values_videos"]}


def places(inputs, tiles):
    """Picture, row and column of every patch, [tiles, P, 3]; of tiles in the stitched picture that they are part of."""
    patches = torch.cartesian_prod(torch.arange(SIDE), torch.arange(SIDE)).float()
    if "pixel_values_videos" in inputs:
        return torch.stack([torch.cat([torch.full((BASE, 1), tile), patches], 1) for tile in range(tiles)])
    found = []
    cut = [number == 1 for number in inputs["batch_num_images"].tolist() for _ in range(number)]
    for picture, (size, many) in enumerate(zip(inputs["image_sizes"].tolist(), cut, strict=True)):
        rows, columns = (side // TILE for side in select_best_resolution(size, PINPOINTS))
        found.append(torch.cat([torch.full((BASE, 1), picture), patches], 1))
        for tile in range(rows * columns * many):
            corner = torch.tensor([tile // columns * SIDE, tile % columns * SIDE])
            found.append(torch.cat([torch.full((BASE, 1), picture + 0.5), patches + corner], 1))
    return torch.stack(found)


@pytest.mark.parametrize("media", [["i"] * 4, ["ii", "i"], ["v", "v"]], ids="+".join)
def test_ids_written_into_features_stand_where_the_layout_says(media):
    """Patches carry their place in the picture: scores must reach the same tokens, and a unit show them in order."""
    model = llava_onevision.make()
    adapter, inputs = LlavaOnevision(model), llava_onevision.prompts([4] * len(media), media, 0)
    ((encoder, arguments),) = encodings(inputs)
    layout = adapter.layout(encoder, arguments, "tile")
    ids = places(inputs, len(layout.pixels))

    def write(_projector, _args, output):
        return pad(ids, (0, output.shape[-1] - 3))

    handle = model.model.multi_modal_projector.register_forward_hook(write)
    features = getattr(model.model, encoder)(**arguments).pooler_output
    handle.remove()
    rows = torch.cat(list(features))[:, :3]  # what the bare model makes of the ids
    tokens = torch.cat([group.index.flatten() for group in layout.groups])
    scores = adapter.per_token([ids.transpose(1, 2)]).T  # what the adapter makes of scores that are the ids
    torch.testing.assert_close(scores[tokens], rows[tokens], rtol=0, atol=1e-4)
    assert len(tokens.unique()) == len(tokens)
    assert layout.slots == sum(llava_onevision.slots(inputs))
    for group in layout.groups:
        for unit, tile in zip(group.index, group.tiles, strict=True):
            picture, down, right = rows[unit].view(*group.grid, 3).unbind(-1)
            assert (picture - ids[tile, 0, 0]).abs().max() < 1e-4
            assert (down[1:] - down[:-1]).min() > 0.9
            assert (right[:, 1:] - right[:, :-1]).min() > 0.9
            assert (down - down[:, :1]).abs().max() < 1e-4
            assert (right - right[:1]).abs().max() < 1e-4


def test_units_of_images():
    """The base tile and the stitched grid of a single image; of several images the base tile alone."""
    adapter = LlavaOnevision(llava_onevision.make())
    for media, grids in ((["i"] * 4, GRIDS), (["ii", "ii"], [])):
        ((encoder, arguments),) = encodings(llava_onevision.prompts([4] * len(media), media, 0))
        layout = adapter.layout(encoder, arguments, "tile")
        found = [group.grid for group in layout.groups for _ in group.tiles]
        assert sorted(found) == sorted([(5, 5)] * 4 + grids)


def test_kept_counts_of_a_single_image():
    """The ratio is of each unit's own tokens; newlines are dropped, or stay and are no part of it."""
    model, inputs = llava_onevision.make(), llava_onevision.batch([4] * 4)
    expected = [13 + round(rows * columns * 0.5 + 1e-6) for rows, columns in GRIDS]
    record = record_of(model, inputs, "cls", ratio=0.5)
    assert record.visual_counts[0] == expected
    record = record_of(model, inputs, "cls", ratio=0.5, model_options={"newline": "keep"})
    assert record.visual_counts[0] == [count + rows for count, (rows, _) in zip(expected, GRIDS, strict=True)]
    for kept, (rows, columns) in zip(record.kept, GRIDS, strict=True):
        stitched = kept[BASE : BASE + rows * (columns + 1)].view(rows, columns + 1)
        assert stitched[:, -1].all()
        assert not stitched[:, :-1].all()


def test_keep_is_a_number_of_each_units_tokens():
    """25 are all of a base tile, yet not all of a stitched grid."""
    model, inputs = llava_onevision.make(), llava_onevision.batch([4] * 4)
    record = record_of(model, inputs, "cls", keep=BASE)
    assert record.visual_counts[0] == [BASE + min(BASE, rows * columns) for rows, columns in GRIDS]


@pytest.mark.parametrize(("newline", "last"), [("drop", 0), ("keep", 1)])
def test_frames_and_the_newline_after_them(newline, last):
    model, inputs = llava_onevision.make(), llava_onevision.video_batch([4, 4])
    record = record_of(model, inputs, "divprune", ratio=0.5, scope="tile", model_options={"newline": newline})
    assert record.visual_counts[0] == [FRAMES * 5 + last] * 2
    assert record.kept[:, -1].tolist() == [bool(last)] * 2
    record = record_of(model, inputs, "divprune", ratio=0.5, model_options={"newline": newline})
    assert record.visual_counts[0] == [14 + last] * 2  # 27 tokens of a whole video


def test_scope_image_ranks_base_and_tiles_together():
    model, inputs = llava_onevision.make(), llava_onevision.batch([4] * 4)
    record = record_of(model, inputs, "cls", ratio=0.8, scope="image")
    assert record.visual_counts[0] == [round((BASE + h * w) * 0.2 + 1e-6) for h, w in GRIDS]


def test_tiles_below_the_largest_image_are_not_read():
    """A batch is padded to the tiles of its largest image: what stands there must not matter."""
    model, inputs = llava_onevision.make(), llava_onevision.batch([4] * 4)
    with prune(model, "random", ratio=0.5):
        before = model(**inputs).logits
        for image, count in enumerate(LlavaOnevision(model).tiles(SIZES)[1]):
            inputs["pixel_values"][image, count:] = torch.nan
        assert torch.equal(model(**inputs).logits, before)


def test_what_cannot_work_is_refused():
    model = llava_onevision.make()
    with pytest.raises(UserError, match=r"model_options\.newline=both: expected drop or keep"):
        prune(model, "cls", ratio=0.5, model_options={"newline": "both"})
    with pytest.raises(UserError, match="allowed: tile"):
        prune(model, "pool", ratio=0.5, scope="image")
    model.config.vision_feature_select_strategy = "default"
    with pytest.raises(UserError, match="only siglip_vision_model with 'full'"):
        adapt(model)


def test_frames_keep_the_tokens_whose_patches_receive_most_attention():
    """Against the tower's own attention maps, pooled like the features."""
    model, inputs = llava_onevision.make("eager"), llava_onevision.video_batch([4])
    frames = inputs["pixel_values_videos"][0]
    maps = model.model.vision_tower(frames, output_attentions=True).attentions[adapt(model).tower.feature_layer]
    received = maps.mean((1, 2)).view(FRAMES, 1, SIDE, SIDE)
    best = interpolate(received, (3, 3), mode="bilinear").flatten(1).topk(4).indices.sort().values
    record = record_of(model, inputs, "cls", ratio=0.6)
    kept = record.kept[0, :-1].view(FRAMES, 9)
    assert torch.equal(kept.nonzero()[:, 1].view(FRAMES, 4), best)
