"""The Python API: `prune` with a method object, `evaluate` on a loaded model, `results` as rows."""

from __future__ import annotations

import csv
import doctest
import inspect
import pickle
import pydoc
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import pytest
import torch
from transformers import AutoProcessor, LlavaForConditionalGeneration

import vlmprune
from tests.conftest import make_batch
from tests.runs import run
from tests.toy_models import record_of
from vlmprune.cli.compare import compare
from vlmprune.config.settings import compose_run
from vlmprune.errors import UserError
from vlmprune.evaluation.loaded import checksum, setting_lines
from vlmprune.evaluation.plan import make_plan
from vlmprune.methods.base import ScoreMethod
from vlmprune.methods.baselines import Unpruned
from vlmprune.methods.cls import ClsAttention
from vlmprune.tiny import CHECKPOINT

QUICK = {"limit": 20, "logger": "none", "latency_samples": 0, "show": {"samples": 0}}
TYPED = ["limit=20", "logger=none", "latency_samples=0", "show.samples=0", "device=cpu"]


@dataclass
class FeatureNorm(ScoreMethod):
    """README's method."""

    needs: ClassVar = ("features",)

    def score(self, signals):
        return signals.features.norm(dim=-1)


@pytest.fixture
def tiny() -> LlavaForConditionalGeneration:
    return LlavaForConditionalGeneration.from_pretrained(CHECKPOINT, dtype="float32")


@pytest.fixture(scope="module")
def processor():
    return AutoProcessor.from_pretrained(CHECKPOINT)


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def directories() -> list[str]:
    return sorted(path.parent.name for path in Path("outputs").rglob("result.json"))


def test_a_method_object_takes_the_amount_and_settings_of_the_call(sdpa_model):
    method = FeatureNorm()
    with vlmprune.prune(sdpa_model, method, ratio=0.5, positions="keep") as session:
        sdpa_model(**make_batch([8]))
    assert session.record.visual_counts[0] == [18]
    assert (session.method.ratio, session.method.positions) == (0.5, "keep")
    assert (method.ratio, method.positions) == (None, "published")


@pytest.mark.parametrize(
    ("method", "settings", "message"),
    [
        (FeatureNorm(keep=9), {"ratio": 0.5}, "ratio=0.5 and keep=9: give one of them, not both"),
        (FeatureNorm(), {"rato": 0.5}, "rato: unknown setting (did you mean 'ratio'?)"),
        (FeatureNorm(), {"ratio": "much"}, "ratio=much: expected a number"),
        (FeatureNorm(), {}, "give ratio= or keep="),
        (Unpruned(), {"ratio": 0.9}, "Unpruned() keeps every token: drop ratio or choose a method"),
        (FeatureNorm, {"ratio": 0.5}, "expected a name of `vlmprune list methods`, or a Method object"),
    ],
)
def test_what_a_method_object_cannot_take_is_said_in_a_line(sdpa_model, method, settings, message):
    with pytest.raises(UserError) as error:
        vlmprune.prune(sdpa_model, method, **settings)
    assert message in str(error.value)


def test_an_object_prunes_as_its_name(sdpa_model):
    batch = make_batch([8, 5])
    by_name = record_of(sdpa_model, batch, "cls", ratio=0.7).kept
    with vlmprune.prune(sdpa_model, ClsAttention(), ratio=0.7) as session:
        sdpa_model(**batch)
    assert torch.equal(session.record.kept, by_name)


def test_evaluate_is_the_run_of_the_command_line(tiny, processor, capsys):
    result = vlmprune.evaluate(tiny, processor, {"name": "fastv", "k": 3}, "scenes", ratio=0.9, **QUICK)
    assert "fastv at 90.0 % reduction · tiny on scenes" in capsys.readouterr().out
    config = compose_run(["method=fastv", "method.k=3", "ratio=0.9", *TYPED])
    assert directories() == [make_plan(config).directory.path.name]
    assert run(config)["finished"] == result["finished"]  # the command line prints it again
    own = run(compose_run(["method=fastv", "method.k=3", "ratio=0.9", "outputs=typed", *TYPED]))
    assert own["answers"] == result["answers"]
    assert vlmprune.evaluate(tiny, processor, {"name": "fastv", "k": 3}, "scenes", ratio=0.9, **QUICK) == result


def test_evaluate_leaves_the_model_as_it_was(tiny, processor):
    before = {name: checksum(tensor) for name, tensor in tiny.state_dict().items()}
    vlmprune.evaluate(tiny, processor, "cls", "scenes", keep=9, **QUICK)
    assert {name: checksum(tensor) for name, tensor in tiny.state_dict().items()} == before
    hooks = [hook for m in tiny.modules() for hook in [*m._forward_hooks.values(), *m._forward_pre_hooks.values()]]
    assert {hook.__module__ for hook in hooks} <= {"transformers.utils.output_capturing"}


def test_changed_weights_are_another_run(tiny, processor):
    first = vlmprune.evaluate(tiny, processor, "none", "scenes", **QUICK)
    with torch.no_grad():
        tiny.lm_head.weight[5, 7] += 1  # one number
    second = vlmprune.evaluate(tiny, processor, "none", "scenes", **QUICK)
    assert first["fingerprint"] != second["fingerprint"] and len(directories()) == 2
    assert first["comparable"]["model"] != second["comparable"]["model"]
    with torch.no_grad():
        tiny.lm_head.weight.zero_()
    broken = vlmprune.evaluate(tiny, processor, "none", "scenes", **QUICK)
    assert broken["answers"]["score"] < first["answers"]["score"]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda model: model.train(), "the model is in training mode"),
        (lambda model: setattr(model, "name_or_path", ""), "the model was not loaded from a checkpoint"),
        (lambda model: setattr(model.config, "vision_feature_layer", -3), "model.config.vision_feature_layer=-3"),
        (lambda model: setattr(model.generation_config, "repetition_penalty", 2.0), "repetition_penalty=2.0"),
    ],
)
def test_a_model_that_is_no_longer_its_checkpoint_is_refused(tiny, processor, change, message):
    change(tiny)
    with pytest.raises(UserError) as error:
        vlmprune.evaluate(tiny, processor, "cls", "scenes", ratio=0.9, **QUICK)
    assert message in str(error.value)
    assert directories() == []


@pytest.mark.parametrize("part", ["chat template", "image processor's size", "tokenizer"])
def test_a_processor_of_another_checkpoint_is_refused(tiny, part):
    other = AutoProcessor.from_pretrained(CHECKPOINT)
    if part == "chat template":
        other.chat_template += " "
    elif part == "tokenizer":
        other.tokenizer.add_tokens(["another"])
    else:
        other.image_processor.size = {"shortest_edge": 99}
    with pytest.raises(UserError, match=f"processor: its {part} is not that of"):
        vlmprune.evaluate(tiny, other, "cls", "scenes", ratio=0.9, **QUICK)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"method": "clss"}, "did you mean 'cls'?"),
        ({"method": ClsAttention()}, "expected a name of `vlmprune list methods`, or {'name': name"),
        ({"benchmark": "scene"}, "did you mean 'scenes'?"),
        ({"rati": 0.9}, "'rati' is not a setting (did you mean 'ratio'?)"),
        ({"device": "cpu"}, "device=cpu: the loaded model is where it is"),
        ({"devices": 2}, "devices=2: the loaded model is where it is"),
        ({"model_options": {"dtype": "float16"}}, "model_options dtype=float16: is that of the loaded model"),
        ({"model_options": {"newline": "keep"}}, "newline"),
        ({"limit": object}, "limit=<class 'object'>: expected a text, a number"),
    ],
)
def test_what_evaluate_cannot_take_is_said_in_a_line(tiny, processor, given, message):
    given = {"method": "cls", "benchmark": "scenes", "ratio": 0.9} | QUICK | given
    with pytest.raises(UserError) as error:
        vlmprune.evaluate(tiny, processor, **given)
    assert message in str(error.value)


@pytest.mark.parametrize("text", ["a", "0.9", "null", "it's", "back\\slash\\'s", "${seed}", "a, b=[c] {d}", "é (1)"])
def test_a_text_arrives_as_it_was_given(text):
    config = compose_run(setting_lines("features", {"folder": text}))
    assert config.resolved["features"]["folder"] == text


def test_results_are_the_rows_of_compare(tiny, processor, capsys):
    for method, ratio in (("none", None), ("cls", 0.9), ("random", 0.9)):
        vlmprune.evaluate(tiny, processor, method, "scenes", ratio=ratio, **QUICK)
    capsys.readouterr()
    rows = vlmprune.results("outputs")
    assert [(row["method"], row["ratio"], row["samples"]) for row in rows] == [
        ("none", None, 20),
        ("cls", 0.9, 20),
        ("random", 0.9, 20),
    ]
    assert rows[1]["relative_score"] == rows[1]["score"] / rows[0]["score"]
    assert rows[1]["versus_random_p"] is not None
    compare(["format=csv"])
    printed = list(csv.DictReader(capsys.readouterr().out.splitlines()))
    assert printed == [{name: "" if value is None else str(value) for name, value in row.items()} for row in rows]
    assert vlmprune.results() == rows
    (alone,) = vlmprune.results(rows[1]["path"])
    compared = ("relative_score", "versus_random", "versus_random_p")  # with the runs beside it
    assert [alone[name] for name in compared] == [rows[1][name] for name in compared]


def test_results_of_a_folder_that_is_not_there_or_has_no_run(folder):
    with pytest.raises(UserError, match="'elsewhere': no such folder"):
        vlmprune.results("elsewhere")
    assert vlmprune.results(folder) == []


def test_results_is_a_package_and_a_function(folder):
    """Its modules can be imported before or after, and it can be reloaded, sent to other processes, and looked up."""
    from importlib import reload

    import vlmprune.results.schema

    assert pickle.loads(pickle.dumps(vlmprune.results)) is vlmprune.results is reload(vlmprune.results)
    assert vlmprune.results(folder) == [] and vlmprune.results.schema.__name__ == "vlmprune.results.schema"
    assert list(inspect.signature(vlmprune.results).parameters) == ["folders"]
    told = pydoc.render_doc(vlmprune.results, renderer=pydoc.plaintext)
    assert "Return a row for every finished run under `folders` (default: outputs)" in told


def test_the_package_imports_nothing_heavy_and_results_no_torch(folder):
    code = (
        "import sys, vlmprune; heavy = {'torch', 'transformers', 'numpy', 'hydra', 'omegaconf', 'pydantic'}\n"
        "print(heavy & sys.modules.keys()); vlmprune.results('.'); print({'torch', 'omegaconf'} & sys.modules.keys())"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["set()", "set()"]


def test_the_examples_of_the_docstrings():
    options = doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE
    found = doctest.testmod(vlmprune, optionflags=options)
    assert found.failed == 0 and found.attempted >= 7
