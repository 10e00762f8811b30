"""config.json is checked field by field: shipped architectures fit, and any value of any field does or is named."""

from __future__ import annotations

import copy
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vlmprune.config.registry import find_choices, read_choice
from vlmprune.models.checkpoint import published_config
from vlmprune.models.config_schema import Config, check_agreement
from vlmprune.typed_json import check_data

CONFIGS = {name: dict(read_choice("architecture", name)["config"]) for name in find_choices("architecture")}
SIZES = ("hidden_size", "num_hidden_layers", "num_attention_heads", "patch_size", "depth", "vocab_size", "rms_norm_eps")
VALUES = st.one_of(
    st.sampled_from([0, -1, 10**9, 1e308, 0.5, "7", None, True, [], {}, float("nan"), float("inf"), [0, 0], 2**70]),
    st.recursive(st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5), st.lists, max_leaves=3),
)


def leaves(node: Any, path: tuple[str, ...] = ()) -> list[tuple[str, ...]]:
    """Paths of all fields of a config."""
    if not isinstance(node, dict):
        return [path]
    return [path, *(leaf for name, value in node.items() for leaf in leaves(value, (*path, name)))]


FIELDS = [(name, path) for name, config in CONFIGS.items() for path in leaves(config) if path]


def with_value(name: str, path: tuple[str, ...], value: Any) -> dict[str, Any]:
    config: dict[str, Any] = copy.deepcopy(CONFIGS[name])
    node = config
    for part in path[:-1]:
        node = node[part]
    node[path[-1]] = value
    return config


@pytest.mark.parametrize("name", CONFIGS)
def test_every_published_model_fits(name):
    check_data(CONFIGS[name], Config)
    check_agreement(published_config(name))


@settings(deadline=None, derandomize=True, max_examples=60)
@given(st.sampled_from(FIELDS), VALUES)
def test_any_value_fits_or_is_named(field, value):
    name, path = field
    try:
        check_data(with_value(name, path, value), Config)
    except ValueError as error:
        assert str(error).startswith(".".join(path))


@pytest.mark.parametrize("value", [0, -1, 10**9, 1e308, "7", None, True, [], {}, float("nan")])
@pytest.mark.parametrize("field", SIZES)
def test_no_size_is_one_of_these(field, value):
    paths = [(name, path) for name, path in FIELDS if path[-1] == field and name == "llava-1.5-7b"]
    for name, path in paths or [("qwen2.5-vl-7b", ("vision_config", field))]:
        with pytest.raises(ValueError, match=rf"^{'.'.join(path)}="):
            check_data(with_value(name, path, value), Config)


@pytest.mark.parametrize(
    ("name", "part", "changes", "line"),
    [
        ("qwen2.5-vl-7b", "vision_config", {"fullatt_block_indexes": [99]}, "vision_config.fullatt_block_indexes="),
        ("qwen2.5-vl-7b", "text_config", {"num_key_value_heads": 3}, "text_config.num_key_value_heads=3: "),
        ("qwen2.5-vl-7b", "text_config", {"rope_parameters": {"mrope_section": [1, 1, 1]}}, "add up to 64"),
        ("qwen2.5-vl-7b", "vision_config", {"num_heads": 7}, "vision_config.hidden_size=1280: num_heads=7 "),
    ],
)
def test_what_does_not_divide_or_add_up_is_named(name, part, changes, line):
    config = published_config(name)
    for field, value in changes.items():
        setattr(getattr(config, part), field, value)
    with pytest.raises(ValueError, match=line):
        check_agreement(config)
