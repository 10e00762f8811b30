"""Inputs of families with videos equal those of transformers' own processors, built around what needs torchvision."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
import torch
from PIL import Image
from transformers import LlavaOnevisionProcessor, VideoLlavaProcessor

from tests.models.hub import save
from vlmprune import prune
from vlmprune.config.settings import ModelConfig
from vlmprune.models.checkpoint import find_checkpoint
from vlmprune.models.loading import load

PROCESSORS = {"video_llava": VideoLlavaProcessor, "llava_onevision": LlavaOnevisionProcessor}
SIZES = [(100, 60), (35, 90), (44, 44), (120, 80)]


@pytest.fixture(scope="module", params=PROCESSORS)
def loaded(request, tmp_path_factory):
    folder = save(tmp_path_factory.mktemp("hub") / request.param, request.param)
    config = ModelConfig("path", str(folder))
    return load(find_checkpoint(config), config, torch.float32, torch.device("cpu"))


def pictures(count):
    return [Image.effect_noise(SIZES[index % 4], 40 + index).convert("RGB") for index in range(count)]


def processor_of(loaded):
    """transformers' processor without its video half."""

    class ForImages(PROCESSORS[loaded.model.config.model_type]):
        def check_argument_for_proper_class(self, argument_name, argument):
            pass

    parts = loaded.preprocessor.processors
    settings = {"num_image_tokens": 16, "vision_feature_select_strategy": "full", "vision_aspect_ratio": "anyres_max_9"}
    if loaded.model.config.model_type == "video_llava":
        settings = {"patch_size": 14, "vision_feature_select_strategy": "default", "num_additional_image_tokens": 1}
    return ForImages(
        image_processor=parts.image_processor,
        tokenizer=parts.tokenizer,
        video_processor=SimpleNamespace(model_input_names=[]),
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
    media = [ours.media(own, "image") for own in shown]
    given = ours.batch(questions, media, loaded.device, torch.float32)
    assert given.keys() <= {*expected, "pixel_values"}
    for name in given:
        theirs = expected[name] if name in expected else expected["pixel_values_images"]
        assert torch.equal(given[name], torch.as_tensor(theirs)), name


def test_a_video_is_its_frames(loaded):
    """Each frame is what the image processor makes of it, [CLS] and newline have their placeholders."""
    processor, ours = processor_of(loaded), loaded.preprocessor
    frames = pictures(3)
    (video,) = ours.media(frames, "video")
    pixels = video.tensors["pixel_values_videos"]
    assert video.text == processor.replace_video_token({"pixel_values_videos": pixels}, 0)
    assert (pixels.shape[:2], video.pictures) == ((1, 3), 3)
    for frame, found in zip(frames, pixels[0], strict=True):
        image = ours.image(frame).tensors
        whole = image["pixel_values"][0, 0] if "image_sizes" in image else next(iter(image.values()))[0]
        assert torch.equal(found, whole)


@pytest.mark.parametrize("method", ["cls", "fastv", "divprune"])
def test_images_and_videos_in_one_batch(loaded, method):
    ours = loaded.preprocessor
    media = [ours.media(pictures(1), "image"), ours.media(pictures(3), "video"), ours.media(pictures(2), "image")]
    questions = ["What?", "What happens?", "Does <image 2> follow <image 1>?"]
    given = ours.batch(questions, media, loaded.device, torch.float32)
    greedy = {"max_new_tokens": 4, "do_sample": False}
    with prune(loaded.model, method, ratio=0.6):
        together = loaded.model.generate(**given, **greedy)[:, -4:]
        for row in range(3):
            alone = ours.batch([questions[row]], [media[row]], loaded.device, torch.float32)
            assert torch.equal(loaded.model.generate(**alone, **greedy)[0, -4:], together[row])


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
