"""Inputs of InternVL and Qwen equal those of transformers' own processors, built around what needs torchvision."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from PIL import Image
from transformers import InternVLProcessor, Qwen2_5_VLProcessor, Qwen3VLProcessor

from tests.models.hub import save
from vlmprune import prune
from vlmprune.config.settings import ModelConfig
from vlmprune.models.checkpoint import find_checkpoint
from vlmprune.models.loading import load

PROCESSORS = {"internvl": InternVLProcessor, "qwen2_5_vl": Qwen2_5_VLProcessor, "qwen3_vl": Qwen3VLProcessor}
SIZES = [(100, 60), (35, 90), (44, 44), (120, 80)]


@pytest.fixture(scope="module", params=PROCESSORS)
def loaded(request, tmp_path_factory):
    folder = save(tmp_path_factory.mktemp("hub") / request.param, request.param)
    add_to(folder, request.param)
    config = ModelConfig("path", str(folder))
    return load(find_checkpoint(config), config, torch.float32, torch.device("cpu"))


def add_to(folder: Path, family: str) -> None:
    """Write what else such a checkpoint has on the hub: names of special tokens; limits for videos of their own."""
    if family == "internvl":
        named = {"start_image_token": "<img>", "end_image_token": "</img>", "context_image_token": "<IMG_CONTEXT>"}
        file = folder / "tokenizer_config.json"
        settings = json.loads(file.read_text()) | {"extra_special_tokens": named | {"video_token": "<video>"}}
        file.write_text(json.dumps(settings))
    elif family == "qwen3_vl":
        limits = {"size": {"longest_edge": 6 * 96 * 64, "shortest_edge": 4096}}  # pixels of all frames
        (folder / "video_preprocessor_config.json").write_text(json.dumps(limits))


def family_of(loaded) -> str:
    return loaded.model.config.model_type


def pictures(count, size=None):
    return [Image.effect_noise(size or SIZES[index % 4], 40 + index).convert("RGB") for index in range(count)]


def processor_of(loaded):
    """transformers' processor without its video half."""

    class ForImages(PROCESSORS[family_of(loaded)]):
        def check_argument_for_proper_class(self, argument_name, argument):
            pass

    parts = loaded.preprocessor.processors
    videos = SimpleNamespace(model_input_names=[], merge_size=2, temporal_patch_size=2)
    settings = {"image_seq_length": 4} if family_of(loaded) == "internvl" else {}
    return ForImages(parts.image_processor, parts.tokenizer, videos, chat_template=parts.chat_template, **settings)


def prompt(processor, question, kinds):
    content = [*[{"type": kind} for kind in kinds], {"type": "text", "text": question}]
    return processor.apply_chat_template([{"role": "user", "content": content}], add_generation_prompt=True)


@pytest.mark.parametrize("images", [1, 2])
def test_images_equal_the_processors_own(loaded, images):
    processor, ours = processor_of(loaded), loaded.preprocessor
    questions, shown = ["What is it?", "And what is that, there?"], [pictures(images), pictures(2 * images)[images:]]
    expected = processor(
        images=shown if images > 1 else [own[0] for own in shown],
        text=[prompt(processor, question, ["image"] * images) for question in questions],
        padding=True,
        padding_side="left",
        return_tensors="pt",
    )
    given = ours.batch(questions, [ours.media(own, "image") for own in shown], loaded.device, torch.float32)
    assert given.keys() == expected.keys() - {"num_patches"}
    for name in given:
        assert torch.equal(given[name], torch.as_tensor(expected[name])), name


def test_the_placeholders_of_a_video_are_the_processors(loaded):
    processor, ours = processor_of(loaded), loaded.preprocessor
    (video,) = ours.media(pictures(5, (64, 48)), "video")
    if family_of(loaded) == "internvl":
        facts = {"pixel_values_videos": video.tensors["pixel_values"].unsqueeze(0)}
    else:
        metadata = SimpleNamespace(fps=2, frames_indices=list(range(5)))
        facts = {"video_grid_thw": video.tensors["video_grid_thw"], "video_metadata": [metadata]}
    assert video.text == processor.replace_video_token(facts, 0)
    assert video.pictures == 5


def test_two_frames_are_a_temporal_step(loaded):
    """Frame by frame what the image processor makes of it; an odd last one is doubled."""
    if family_of(loaded) == "internvl":
        pytest.skip("a frame is a tile")
    ours, frames = loaded.preprocessor, pictures(3, (112, 64))
    (video,) = ours.media(frames, "video")
    single = ours.image(frames[0]).tensors["image_grid_thw"][0].tolist()
    assert video.tensors["video_grid_thw"].tolist() == [[2, *single[1:]]]
    patches = single[1] * single[2]
    steps = video.tensors["pixel_values_videos"].view(2, patches, 3, 2, -1)
    for index, frame in enumerate([*frames, frames[-1]]):
        alone = ours.image(frame).tensors["pixel_values"].view(patches, 3, 2, -1)[:, :, 0]
        assert torch.equal(steps[index // 2, :, :, index % 2], alone)


def test_a_frame_is_one_tile_of_internvl(loaded):
    if family_of(loaded) != "internvl":
        pytest.skip("InternVL")
    ours, frames = loaded.preprocessor, pictures(2, (100, 50))
    (video,) = ours.media(frames, "video")
    whole = torch.cat([ours.image(frame).tensors["pixel_values"][-1:] for frame in frames])  # the thumbnails
    assert torch.equal(video.tensors["pixel_values"], whole)
    assert len(ours.image(frames[0]).tensors["pixel_values"]) == 3


def test_a_long_video_of_qwen3_stays_within_its_own_limits(loaded):
    """As transformers' video processor chooses: limits are of all frames together, not the picture's of one."""
    if family_of(loaded) != "qwen3_vl":
        pytest.skip("Qwen3-VL")
    (short,), (long,) = (loaded.preprocessor.media(pictures(count, (96, 64)), "video") for count in (6, 12))
    assert short.tensors["video_grid_thw"].tolist() == [[3, 4, 6]]
    assert long.tensors["video_grid_thw"].tolist() == [[6, 2, 4]]  # 12 frames of 32 x 64: 24,576 of at most 36,864


@pytest.mark.parametrize("method", ["cls", "fastv", "divprune"])
def test_images_and_videos_in_one_batch(loaded, method):
    ours = loaded.preprocessor
    media = [
        ours.media(pictures(1), "image"),
        ours.media(pictures(3, (48, 40)), "video"),
        ours.media(pictures(2), "image"),
    ]
    questions = ["What?", "What happens?", "Does <image 2> follow <image 1>?"]
    given = ours.batch(questions, media, loaded.device, torch.float32)
    greedy = {"max_new_tokens": 4, "do_sample": False}
    with prune(loaded.model, method, ratio=0.6):
        together = loaded.model.generate(**given, **greedy)[:, -4:]
        for row in range(3):
            alone = ours.batch([questions[row]], [media[row]], loaded.device, torch.float32)
            assert torch.equal(loaded.model.generate(**alone, **greedy)[0, -4:], together[row])
