"""The CLIP text tower against transformers' own CLIPModel, on a tiny random checkpoint."""

from __future__ import annotations

import copy
import json
import logging
import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor
from torch.nn.functional import cosine_similarity
from transformers import CLIPModel, CLIPVisionConfig

from tests.models.clip import CONTEXT, WORDS, ids_of, make_clip
from vlmprune.errors import UserError
from vlmprune.models.clip_text import MATCHING, TextTower, find_text_tower, load_text_tower

PATCHES, WIDTH = 36, 32
SHORT, OTHER = "is there a red star", "the blue square"
LONG = " ".join(WORDS * 3)  # 32 tokens with both ends: three segments, of which two have no end token
CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    vision = CLIPVisionConfig(
        hidden_size=WIDTH, intermediate_size=64, num_hidden_layers=3, num_attention_heads=4, image_size=48, patch_size=8
    )
    return make_clip(tmp_path_factory.mktemp("clip"), vision)


@pytest.fixture(scope="module")
def clip(folder: Path) -> CLIPModel:
    return CLIPModel.from_pretrained(folder).eval()


def load(folder: Path, clip: CLIPModel) -> TextTower:
    return load_text_tower(find_text_tower(str(folder), clip.config.vision_config), CPU)


@pytest.fixture
def tower(folder: Path, clip: CLIPModel) -> TextTower:
    return load(folder, clip)


def features(images: int = 2) -> Tensor:
    return torch.randn(images, PATCHES, WIDTH, generator=torch.Generator().manual_seed(1))


@torch.no_grad()
def expected(clip: CLIPModel, patches: Tensor, segments: list[list[int]], masks: list[list[int]]) -> Tensor:
    """[images, N] with transformers' own text features, the mean over segments of torch's own cosines."""
    text = clip.get_text_features(torch.tensor(segments), torch.tensor(masks)).pooler_output
    image = clip.visual_projection(clip.vision_model.post_layernorm(patches))
    return cosine_similarity(image.unsqueeze(2), text, dim=3).mean(dim=2)


def test_relevance_is_the_cosine_of_clip(tower: TextTower, clip: CLIPModel) -> None:
    relevance = tower.relevance(features(), [SHORT])
    assert relevance.shape == (2, PATCHES)
    assert relevance.std() > 0.05
    ids = ids_of(SHORT)  # not padded: the zeros behind a question change nothing
    torch.testing.assert_close(relevance, expected(clip, features(), [ids], [[1] * len(ids)]))


def test_a_long_question_is_the_mean_of_its_segments(tower: TextTower, clip: CLIPModel) -> None:
    ids, mask = ids_of(LONG) + [0] * 4, [1] * 32 + [0] * 4
    cut = [slice(start, start + CONTEXT) for start in (0, 12, 24)]
    assert tower.segments(LONG).tolist() == [ids[part] for part in cut]
    relevance = tower.relevance(features(), [LONG])
    torch.testing.assert_close(
        relevance, expected(clip, features(), [ids[part] for part in cut], [mask[part] for part in cut])
    )


def test_a_question_that_fills_its_segment_gets_no_other(tower: TextTower) -> None:
    assert tower.segments(" ".join(WORDS)).tolist() == [ids_of(" ".join(WORDS))]


def test_a_batch_equals_one_by_one(tower: TextTower) -> None:
    """Two images for each of three questions, which stand together."""
    images = features(6)
    together = tower.relevance(images, [SHORT, LONG, OTHER])
    for index, question in enumerate([SHORT, LONG, OTHER]):
        pair = slice(2 * index, 2 * index + 2)
        torch.testing.assert_close(together[pair], tower.relevance(images[pair], [question]))
    assert not torch.allclose(together[0], tower.relevance(images[:1], [OTHER]))


@pytest.mark.parametrize(("images", "questions"), [(3, [SHORT, OTHER]), (1, [SHORT, OTHER]), (2, [])])
def test_refuses_images_that_cannot_be_divided(tower: TextTower, images: int, questions: list[str]) -> None:
    with pytest.raises(ValueError, match=f"{images} images for {len(questions)} questions"):
        tower.relevance(features(images), questions)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_features_are_scored_in_float32(tower: TextTower, dtype: torch.dtype) -> None:
    half = features().to(dtype)
    relevance = tower.relevance(half, [SHORT])
    assert relevance.dtype == torch.float32
    assert torch.equal(relevance, tower.relevance(half.float(), [SHORT]))


def test_each_question_of_a_call_is_encoded_once(tower: TextTower) -> None:
    encoded = []
    tower.clip.text_model.register_forward_pre_hook(lambda _module, args: encoded.append(len(args[0])))
    tower.relevance(features(3), [SHORT, OTHER, SHORT])
    assert encoded == [2]
    tower.relevance(features(2), [OTHER, LONG])
    assert encoded == [2, 3]  # the three segments of LONG
    tower.relevance(features(1), [SHORT])
    assert encoded == [2, 3, 1]  # two calls ago


def test_vision_layers_are_not_loaded(folder: Path, clip: CLIPModel, caplog: pytest.LogCaptureFixture) -> None:
    logger = logging.getLogger("transformers")  # does not propagate
    logger.addHandler(caplog.handler)
    tower = load(folder, clip)
    logger.removeHandler(caplog.handler)
    assert len(tower.clip.vision_model.encoder.layers) == 0
    assert not any(parameter.requires_grad for parameter in tower.clip.parameters())
    shared = dict(clip.named_parameters())
    assert all(torch.equal(weight, shared[name]) for name, weight in tower.clip.named_parameters())
    assert caplog.records == []  # transformers reports weights that it does not expect


def test_identity_follows_the_weights(folder: Path, clip: CLIPModel, tmp_path: Path) -> None:
    other = shutil.copytree(folder, tmp_path / "other")
    vision = clip.config.vision_config
    assert find_text_tower(str(other), vision).identity == find_text_tower(str(folder), vision).identity
    weights = load_file(other / "model.safetensors")
    save_file({**weights, "logit_scale": weights["logit_scale"] + 1}, other / "model.safetensors", {"format": "pt"})
    assert find_text_tower(str(other), vision).identity != find_text_tower(str(folder), vision).identity


class TestRefusals:
    @pytest.mark.parametrize("field", MATCHING)
    def test_another_vision_encoder(self, folder: Path, clip: CLIPModel, field: str) -> None:
        vision = copy.deepcopy(clip.config.vision_config)
        size = getattr(vision, field)
        setattr(vision, field, 2 * size)
        with pytest.raises(UserError, match=f"has {field}={size} and the model's has {2 * size}"):
            find_text_tower(str(folder), vision)

    def test_an_encoder_that_is_not_clip(self, folder: Path, clip: CLIPModel) -> None:
        vision = copy.deepcopy(clip.config.vision_config)
        vision.model_type = "siglip_vision_model"
        with pytest.raises(UserError, match="the model's vision encoder is 'siglip_vision_model', not CLIP"):
            find_text_tower(str(folder), vision)

    def test_no_folder(self, clip: CLIPModel) -> None:
        with pytest.raises(UserError, match=r"method\.clip=/nowhere: no such folder"):
            find_text_tower("/nowhere", clip.config.vision_config)

    def test_not_on_the_hub(self, clip: CLIPModel) -> None:
        with pytest.raises(UserError, match=r"method\.clip=nobody/nothing: cannot be loaded"):
            find_text_tower("nobody/nothing", clip.config.vision_config)

    def test_another_kind_of_checkpoint(self, clip: CLIPModel, tmp_path: Path) -> None:
        (tmp_path / "config.json").write_text(json.dumps({"model_type": "clip_vision_model"}))
        with pytest.raises(UserError, match="'clip_vision_model' checkpoint, not a CLIP with both towers"):
            find_text_tower(str(tmp_path), clip.config.vision_config)

    def test_weights_that_are_no_safetensors(self, folder: Path, clip: CLIPModel, tmp_path: Path) -> None:
        other = shutil.copytree(folder, tmp_path / "other")
        torch.save(clip.state_dict(), other / "pytorch_model.bin")
        (other / "model.safetensors").unlink()
        with pytest.raises(UserError, match="cannot be loaded"):
            load(other, clip)

    def test_missing_weights(self, folder: Path, clip: CLIPModel, tmp_path: Path) -> None:
        other = shutil.copytree(folder, tmp_path / "other")
        weights = load_file(other / "model.safetensors")
        del weights["text_projection.weight"]
        save_file(weights, other / "model.safetensors", {"format": "pt"})
        with pytest.raises(UserError, match=r"1 weights are missing, text_projection\.weight among them"):
            load(other, clip)
