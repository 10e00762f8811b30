"""Video-LLaVA: which patches of which frame stay, and that no [CLS] does."""

from __future__ import annotations

import torch

from tests.families import video_llava
from tests.toy_models import record_of
from vlmprune.models.base import adapt

PATCHES, FRAMES = video_llava.PATCHES, video_llava.FRAMES


def test_published_counts():
    """FasterVLM's branch `video`: 8 x 256 -> 8 x 13 at 95 %, each frame by itself."""
    model = video_llava.make(image_size=32, patch_size=2)
    ids = torch.tensor([[5, 6, *[video_llava.VIDEO] * (8 * 257), 7]])
    pixels = torch.rand(1, 8, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    record = record_of(model, {"input_ids": ids, "pixel_values_videos": pixels}, "cls", ratio=0.95)
    kept = record.kept.view(8, 257)
    assert kept.sum(1).tolist() == [13] * 8
    assert not kept[:, 0].any()  # the frames' [CLS]
    assert record.prompt_lengths == [3 + 8 * 13]


def test_each_tower_ranks_its_own_patches():
    """Kept slots are those with the most [CLS] attention in the tower that encodes them."""
    model = video_llava.make("eager")
    inputs = video_llava.prompts([4], ["iv"], 0)
    layer = adapt(model).tower.feature_layer
    record = record_of(model, inputs, "cls", ratio=0.75)

    def best(tower, pixels):
        attention = tower(pixels, output_attentions=True).attentions[layer]
        return attention[:, :, 0, 1:].mean(1).topk(9).indices.sort().values

    image = best(model.model.image_tower, inputs[video_llava.PIXELS])
    frames = best(model.model.video_tower, inputs["pixel_values_videos"][0])
    expected = [*image[0].tolist()]
    expected += [PATCHES + frame * (PATCHES + 1) + 1 + int(patch) for frame in range(FRAMES) for patch in frames[frame]]
    assert record.kept[0].nonzero().flatten().tolist() == expected


def test_scope_image_ranks_a_whole_video():
    model, inputs = video_llava.make(), video_llava.video_batch([4, 4])
    whole = record_of(model, inputs, "cls", ratio=0.75, scope="image").kept.view(2, FRAMES, PATCHES + 1)
    assert whole.sum((1, 2)).tolist() == [27, 27]
    assert not whole[:, :, 0].any()
    assert whole.sum(2).unique().numel() > 1  # frames no longer share alike
    each = record_of(model, inputs, "cls", ratio=0.75).kept.view(2, FRAMES, PATCHES + 1)
    assert each.sum(2).unique().tolist() == [9]


def test_frames_merge_inside_their_encoder():
    model, inputs = video_llava.make(), video_llava.prompts([4], ["iv"], 0)
    record = record_of(model, inputs, "tome", ratio=0.5)
    assert record.visual_counts[0] == [18 * (1 + FRAMES)]
    assert not record.kept[0, PATCHES:].view(FRAMES, PATCHES + 1)[:, 0].any()
