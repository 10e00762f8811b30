"""The headers of weights are compared with the config before memory is taken."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from safetensors.numpy import save_file

from vlmprune.errors import UserError
from vlmprune.models import weights
from vlmprune.models.loading import first_unused_weight
from vlmprune.models.processor import Checkpoint
from vlmprune.models.weights import check_files, check_memory, check_sizes


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    save_file({"a": np.zeros((4, 5), np.float32)}, tmp_path / "model.safetensors")
    return tmp_path


def linear(*sizes: int) -> torch.nn.Module:
    with torch.device("meta"):
        return torch.nn.Linear(*sizes, bias=False)


def test_a_model_far_larger_than_its_files_is_refused(folder):
    found = Checkpoint(str(folder), SimpleNamespace(), "", folder=True)
    check_sizes(found, linear(4, 5))
    check_sizes(found, linear(40, 50))  # so few are named one by one when it is loaded
    with pytest.raises(UserError, match=r"make a model of 1,000,000,000 numbers, and its \.safetensors files hold 20;"):
        check_sizes(found, linear(10**5, 10**4))
    packed = Checkpoint(str(folder), SimpleNamespace(quantization_config={}), "", folder=True)
    check_sizes(packed, linear(10**5, 10**4))


@pytest.mark.parametrize("name", ["../model.safetensors", "/etc/passwd", "a/../../b"])
def test_an_index_names_files_of_its_folder_alone(folder, name):
    (folder / weights.INDEX).write_text(json.dumps({"weight_map": {"a": name}}))
    with pytest.raises(UserError, match="is outside of its folder"):
        check_files(folder, "here")


def test_more_memory_than_there_is_is_not_asked_for():
    check_memory("here", linear(10, 10), torch.float32, torch.device("cpu"))
    with pytest.raises(UserError, match=r"in bfloat16 take 1,862\.6 GiB of memory, and cpu has"):
        check_memory("here", linear(10**6, 10**6), torch.bfloat16, torch.device("cpu"))


def test_layers_and_biases_that_the_config_leaves_out_are_told_from_buffers():
    model = torch.nn.Sequential(torch.nn.Sequential(torch.nn.Linear(1, 1, bias=False)))
    assert first_unused_weight({"0.0.bias"}, model) == "0.0.bias"
    assert first_unused_weight({"0.0.inv_freq", "position_ids"}, model) == ""
    stack = torch.nn.ModuleDict({"layers": torch.nn.ModuleList([torch.nn.Linear(1, 1)])})
    assert first_unused_weight({"layers.2.weight", "layers.1.weight", "layers.0.inv_freq"}, stack) == "layers.1.weight"
