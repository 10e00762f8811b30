"""Identity of a run: a setting counts where it can change an answer, and there alone."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from transformers import CLIPVisionConfig

from tests.models.clip import make_clip
from tests.models.hub import save
from vlmprune.config.settings import compose_run
from vlmprune.evaluation.plan import make_plan
from vlmprune.tiny import CHECKPOINT


def path_of(*overrides: str) -> Path:
    return make_plan(compose_run(["limit=8", "device=cpu", *overrides])).directory.path


@pytest.fixture(scope="module")
def llava_next(tmp_path_factory) -> str:
    return f"model.path={save(tmp_path_factory.mktemp('hub') / 'next', 'llava_next')}"


@pytest.mark.parametrize(
    ("method", "counts"), [("method=none", False), ("method=fastv ratio=0.5", False), ("method=cls ratio=0.5", True)]
)
def test_newline_tokens_count_where_tokens_are_dropped_before_the_language_model(llava_next, method, counts):
    settings = ["model=path", llava_next, *method.split()]
    assert (path_of(*settings, "model.newline=keep") != path_of(*settings, "model.newline=drop")) is counts


@pytest.mark.parametrize(("method", "counts"), [("fastv", False), ("cls", True)])
def test_shared_prefixes_count_in_half_precision_where_there_are_any(method, counts):
    settings = ["model.dtype=bfloat16", f"method={method}", "ratio=0.5"]
    assert (path_of(*settings) != path_of(*settings, "share_prefix=false")) is counts


def test_the_spelling_of_the_folder_of_a_clip_does_not_count(tmp_path):
    from transformers import AutoConfig

    vision = AutoConfig.from_pretrained(CHECKPOINT).vision_config
    assert isinstance(vision, CLIPVisionConfig)
    folder = make_clip(tmp_path / "clip", vision)
    first = path_of("method=cdpruner", "ratio=0.5", f"method.clip={folder}")
    assert first == path_of("method=cdpruner", "ratio=0.5", f"method.clip={os.path.relpath(folder)}")
    assert first != path_of("method=cdpruner", "ratio=0.6", f"method.clip={folder}")
