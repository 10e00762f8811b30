"""Inputs equal those of transformers' own processors, built around what needs torchvision."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from PIL import Image
from transformers import (
    InternVLProcessor,
    LlavaNextProcessor,
    LlavaOnevisionProcessor,
    Qwen2_5_VLProcessor,
    Qwen3VLProcessor,
    VideoLlavaProcessor,
)

from tests.models.hub import load_saved, save
from vlmprune.config.settings import ModelConfig

TOWER = {"num_image_tokens": 16, "vision_feature_select_strategy": "full", "vision_aspect_ratio": "anyres_max_9"}
CLIP = {"patch_size": 14, "vision_feature_select_strategy": "default", "num_additional_image_tokens": 1}
VIDEO = {"video_processor": SimpleNamespace(model_input_names=[], merge_size=2, temporal_patch_size=2)}
PROCESSORS = {
    "llava_next": (LlavaNextProcessor, CLIP),
    "internvl": (InternVLProcessor, VIDEO | {"image_seq_length": 4}),
    "qwen2_5_vl": (Qwen2_5_VLProcessor, VIDEO),
    "qwen3_vl": (Qwen3VLProcessor, VIDEO),
    "llava_onevision": (LlavaOnevisionProcessor, VIDEO | TOWER),
    "video_llava": (VideoLlavaProcessor, VIDEO | CLIP),
}
FRAMED = ("llava_onevision", "video_llava")  # whose videos are [1, frames, ...]
SIZES = [(100, 60), (35, 90), (44, 44), (120, 80)]


def of(*families: str) -> pytest.MarkDecorator:
    return pytest.mark.parametrize("loaded", families, indirect=True)


@pytest.fixture(scope="module", params=PROCESSORS)
def loaded(request, tmp_path_factory):
    folder = save(tmp_path_factory.mktemp("hub") / request.param, request.param)
    if request.param == "internvl":
        name_tokens(folder)
    return load_saved(folder)


def name_tokens(folder: Path) -> None:
    """Write the names of special tokens that InternVL's checkpoints have on the hub."""
    named = {"start_image_token": "<img>", "end_image_token": "</img>", "context_image_token": "<IMG_CONTEXT>"}
    file = folder / "tokenizer_config.json"
    settings = json.loads(file.read_text()) | {"extra_special_tokens": named | {"video_token": "<video>"}}
    file.write_text(json.dumps(settings))


def family_of(loaded) -> str:
    return loaded.model.config.model_type


def pictures(count, size=None):
    return [Image.effect_noise(size or SIZES[index % 4], 40 + index).convert("RGB") for index in range(count)]


def processor_of(loaded):
    """transformers' processor without its video half."""
    kind, settings = PROCESSORS[family_of(loaded)]

    class ForImages(kind):
        def check_argument_for_proper_class(self, argument_name, argument):
            pass

    parts = loaded.preprocessor.processors
    return ForImages(
        image_processor=parts.image_processor,
        tokenizer=parts.tokenizer,
        chat_template=parts.chat_template,
        **settings,
    )


def prompt(processor, question, kinds):
    content = [*[{"type": kind} for kind in kinds], {"type": "text", "text": question}]
    return processor.apply_chat_template([{"role": "user", "content": content}], add_generation_prompt=True)


@pytest.mark.parametrize("images", [1, 2])
def test_images_equal_the_processors_own(loaded, images):
    processor, ours = processor_of(loaded), loaded.preprocessor
    questions, shown = ["What is it?", "And what is that, there?"], [pictures(images), pictures(2 * images)[images:]]
    expected = processor(
        images=shown,
        text=[prompt(processor, question, ["image"] * images) for question in questions],
        padding=True,
        padding_side="left",
        return_tensors="pt",
    )
    given = ours.batch(questions, [ours.media(own, "image") for own in shown], loaded.device, torch.float32)
    # Video-LLaVA's processor calls them pixel_values_images, as its encoder does on transformers 5.17.
    given, theirs = (
        {name.replace("pixel_values_images", "pixel_values"): each[name] for name in each} for each in (given, expected)
    )
    assert given.keys() == theirs.keys() - {"num_patches"}
    for name in given:
        assert torch.equal(given[name], torch.as_tensor(theirs[name])), name


@of(*(family for family in PROCESSORS if family != "llava_next"))
def test_the_placeholders_of_a_video_are_the_processors(loaded):
    processor, ours = processor_of(loaded), loaded.preprocessor
    (video,) = ours.media(pictures(5, (64, 48)), "video")
    if family_of(loaded) == "internvl":
        facts = {"pixel_values_videos": video.tensors["pixel_values"].unsqueeze(0)}
    elif family_of(loaded) in FRAMED:  # [CLS] and newline have their placeholders
        facts = video.tensors
    else:
        metadata = SimpleNamespace(fps=2, frames_indices=list(range(5)))
        facts = {"video_grid_thw": video.tensors["video_grid_thw"], "video_metadata": [metadata]}
    assert video.text == processor.replace_video_token(facts, 0)
    assert video.pictures == 5


@of("qwen2_5_vl", "qwen3_vl")
def test_two_frames_are_a_temporal_step(loaded):
    """Frame by frame what the image processor makes of it; an odd last one is doubled."""
    ours, frames = loaded.preprocessor, pictures(3, (112, 64))
    (video,) = ours.media(frames, "video")
    single = ours.image(frames[0]).tensors["image_grid_thw"][0].tolist()
    assert video.tensors["video_grid_thw"].tolist() == [[2, *single[1:]]]
    patches = single[1] * single[2]
    steps = video.tensors["pixel_values_videos"].view(2, patches, 3, 2, -1)
    for index, frame in enumerate([*frames, frames[-1]]):
        alone = ours.image(frame).tensors["pixel_values"].view(patches, 3, 2, -1)[:, :, 0]
        assert torch.equal(steps[index // 2, :, :, index % 2], alone)


@of("internvl")
def test_a_frame_is_one_tile_of_internvl(loaded):
    ours, frames = loaded.preprocessor, pictures(2, (100, 50))
    (video,) = ours.media(frames, "video")
    whole = torch.cat([ours.image(frame).tensors["pixel_values"][-1:] for frame in frames])  # the thumbnails
    assert torch.equal(video.tensors["pixel_values"], whole)
    assert len(ours.image(frames[0]).tensors["pixel_values"]) == 3


@of(*FRAMED)
def test_a_video_is_its_frames(loaded):
    """Each frame is what the image processor makes of it."""
    ours, frames = loaded.preprocessor, pictures(3)
    (video,) = ours.media(frames, "video")
    pixels = video.tensors["pixel_values_videos"]
    assert (pixels.shape[:2], video.pictures) == ((1, 3), 3)
    for frame, found in zip(frames, pixels[0], strict=True):
        image = ours.image(frame).tensors
        whole = image["pixel_values"][0, 0] if "image_sizes" in image else next(iter(image.values()))[0]
        assert torch.equal(found, whole)


@of(*FRAMED)
def test_squares_are_for_images(loaded):
    """`image=pad` is LLaVA's padding of images; a video's frames are cropped or squeezed all the same."""
    parts, adapter = loaded.preprocessor.processors, loaded.adapter
    padded = type(loaded.preprocessor)(parts, adapter, ModelConfig("path", image="pad"))
    frame = pictures(1)[0]
    assert padded.squared(frame).size == (100, 100)
    plain, square = (next(iter(inputs.image(frame).tensors.values())) for inputs in (loaded.preprocessor, padded))
    assert plain.shape != square.shape or not torch.equal(plain, square)
    plain, square = (
        inputs.media([frame], "video")[0].tensors["pixel_values_videos"] for inputs in (loaded.preprocessor, padded)
    )
    assert torch.equal(plain, square)
