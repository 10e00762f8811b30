"""Greedy answers are the same for every way of running them, whatever a checkpoint's generation_config says."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path

import pytest
import torch
from transformers import GenerationConfig

from tests.runs import run
from vlmprune.cli import main
from vlmprune.config.settings import compose_run
from vlmprune.engine.session import Session
from vlmprune.errors import UserError
from vlmprune.evaluation.evaluate import load_models, read_prompt
from vlmprune.evaluation.generation import CARRIED as CARRIED_FIELDS
from vlmprune.evaluation.generation import REFUSED, Rules, greedy
from vlmprune.evaluation.media_loader import MediaCache
from vlmprune.evaluation.plan import Resources, make_plan
from vlmprune.tiny import CHECKPOINT

SMALL = ("limit=6", "latency_samples=0", "logger=none", "show.samples=0", "model=path")
METHODS = {"none": [], "cls": ["ratio=0.8"], "fastv": ["ratio=0.8"]}
WAYS = [("true", 4), ("true", 1), ("false", 4), ("false", 1)]
LONG = {"min_new_tokens": 5}  # the embedded model answers with a word or two
# Settings that are part of a greedy answer.
CARRIED = {
    "penalties": LONG | {"repetition_penalty": 1.5, "encoder_repetition_penalty": 1.3},
    "order": {
        "min_length": 170,
        "no_repeat_ngram_size": 1,
        "encoder_no_repeat_ngram_size": 2,
        "repetition_penalty": 1.1,
    },
    "words": LONG
    | {
        "sequence_bias": [[[20], 4.0], [[25, 26], 9.0]],
        "bad_words_ids": [[21], [22, 23]],
        "suppress_tokens": [24, 27],
        "begin_suppress_tokens": list(range(28, 60)),
        "remove_invalid_values": True,
    },
    "ends": {
        "exponential_decay_length_penalty": [1, 1.2],
        "eos_token_id": [2, 40, 41],
        "forced_eos_token_id": 40,
        "pad_token_id": 60,  # an ordinary word
    },
    "texts": LONG | {"stop_strings": ["e", "3"], "pad_token_id": -1},
    "no end": {"eos_token_id": None, "pad_token_id": None, "min_length": 170},
}
IGNORED = {
    "use_cache": False,
    "num_beams": 4,
    "num_return_sequences": 2,
    "do_sample": True,
    "temperature": 2.0,
    "top_k": 4,
    "penalty_alpha": 0.6,
    "cache_implementation": "static",
    "return_dict_in_generate": True,
    "output_scores": True,
    "output_hidden_states": True,
    "dola_layers": "high",
    "prompt_lookup_num_tokens": 3,
    "watermarking_config": {"greenlist_ratio": 0.25, "bias": 10.0},
    "max_length": 3,
    "max_new_tokens": 2,
    "max_time": 0.0,
    "prefill_chunk_size": 4,
    "renormalize_logits": True,
    "length_penalty": 2.0,
    "of_a_later_version": [1, 2],
}


def copied(folder: Path, settings: dict | str, config: dict | None = None) -> Path:
    """The embedded checkpoint with `settings` in its generation_config.json, and `config` in its config.json."""
    shutil.copytree(CHECKPOINT, folder)
    for name, changed in (("generation_config.json", settings), ("config.json", config or {})):
        file = folder / name
        text = changed if isinstance(changed, str) else json.dumps(json.loads(file.read_text()) | changed)
        file.write_text(text)
    return folder


def answers(outputs: Path, path: Path, *overrides: str) -> tuple[dict, dict]:
    """A run's result, and its answers with the number of their tokens."""
    result = run(compose_run([*SMALL, f"model.path={path}", f"outputs={outputs}", *overrides]))
    (file,) = (each for each in outputs.rglob("predictions.jsonl"))
    rows = [json.loads(line) for line in file.read_text().splitlines()]
    return result, {row["id"]: (row["prediction"], row["generated"]) for row in rows}


def reference(path: Path, settings: dict, *overrides: str) -> dict:
    """The same, one question at a time, by transformers' own generate() with the settings spelled out."""
    plan = make_plan(compose_run([*SMALL, f"model.path={path}", *overrides]))
    loaded, _ = load_models(plan, Resources())
    found = {}
    images = MediaCache(plan.benchmark, loaded)
    for prompt in (read_prompt(sample, plan.benchmark, loaded, images) for sample in plan.samples):
        inputs = loaded.preprocessor.pad_batch([prompt.ids], [prompt.media], loaded.device, loaded.model.dtype)
        options = settings | {"max_new_tokens": 8, "tokenizer": loaded.preprocessor.tokenizer}
        with Session(loaded.adapter, plan.method), torch.inference_mode():
            new = loaded.model.generate(**inputs, **options)[0, len(prompt.ids) :]
        found[prompt.sample.id] = (loaded.preprocessor.decode(new[None])[0], len(new))
    return found


@pytest.mark.slow
@pytest.mark.parametrize("group", CARRIED)
def test_settings_of_greedy_answers_give_the_same_however_they_are_run(group, tmp_path):
    path = copied(tmp_path / "copy", CARRIED[group])
    for method, amount in METHODS.items():
        expected = reference(path, CARRIED[group], f"method={method}", *amount)
        for share, batch in WAYS if method == "cls" else WAYS[::3]:
            way = [f"method={method}", *amount, f"share_prefix={share}", f"batch_size={batch}"]
            result, found = answers(tmp_path / f"{method}-{share}-{batch}", path, *way)
            assert found == expected, way
    about_ends = {"eos_token_id", "pad_token_id"}
    if group == "no end":
        about_ends |= {"min_length"}
    assert set(result["environment"]["generation"]["used"]) == set(CARRIED[group]) - about_ends


@pytest.mark.slow
@pytest.mark.parametrize("group", ["order", "texts"])
def test_compiled_steps_follow_the_same_settings(group, tmp_path, monkeypatch):
    monkeypatch.setattr("vlmprune.evaluation.evaluate.BACKEND", "eager")
    path = copied(tmp_path / "copy", CARRIED[group])
    cls = ["method=cls", *METHODS["cls"]]
    _, found = answers(tmp_path / "compiled", path, *cls, "compile=true", "batch_size=4")
    assert found == reference(path, CARRIED[group], *cls)


@pytest.mark.slow
def test_what_is_no_part_of_a_greedy_answer_is_told_once_and_changes_nothing(tmp_path, capsys):
    path = copied(tmp_path / "copy", IGNORED)
    for method, amount in METHODS.items():
        way = [f"method={method}", *amount]
        _, expected = answers(tmp_path / f"{method}-plain", CHECKPOINT, *way)
        capsys.readouterr()
        for share, batch in WAYS[::3]:
            ways = [*way, f"share_prefix={share}", f"batch_size={batch}", "latency_samples=2"]
            result, found = answers(tmp_path / f"{method}-{share}", path, *ways)
            assert found == expected
            (line,) = (line for line in capsys.readouterr().err.splitlines() if "generation_config" in line)
            assert "answers are greedy, of at most 8 tokens" in line
            assert all(f"{name}=" in line for name in IGNORED), line
    assert set(result["environment"]["generation"]["ignored"]) == set(IGNORED)


PENALTY = {"repetition_penalty": 1.05, "do_sample": True, "temperature": 1e-06, "eos_token_id": [2, 40]}  # Qwen2.5-VL's


def test_the_checkpoints_rules_stay_on_and_are_told(tmp_path, capsys):
    path = copied(tmp_path / "copy", PENALTY)
    result, _ = answers(tmp_path / "out", path, "method=none")
    (line,) = (line for line in capsys.readouterr().err.splitlines() if "generation_config" in line)
    assert "used, which changes answers: repetition_penalty=1.05 (model.generation=greedy uses no rule)" in line
    assert "not used: do_sample=true, temperature=1e-06" in line
    decoding = result["environment"]["decoding"]
    assert decoding["repetition_penalty"] == 1.05 and decoding["do_sample"] is False
    assert decoding["eos_token_id"] == [2, 40] and decoding["pad_token_id"] == 0
    assert result["environment"]["model"]["generation"] == "checkpoint" and "generation" not in result["comparable"]


@pytest.mark.slow
def test_greedy_goes_without_the_checkpoints_rules(tmp_path, capsys):
    rules = CARRIED["words"] | {"repetition_penalty": 5.0, "guidance_scale": 1.5}
    path = copied(tmp_path / "copy", rules)
    for method, amount in METHODS.items():
        way = [f"method={method}", *amount]
        _, expected = answers(tmp_path / f"{method}-plain", CHECKPOINT, *way)
        capsys.readouterr()
        result, found = answers(tmp_path / method, path, *way, "model.generation=greedy")
        assert found == expected
        said = capsys.readouterr().err
        assert all(f"{name}=" in said for name in rules) and "which changes answers" not in said
    environment = result["environment"]
    assert environment["generation"]["used"] == {} and set(rules) <= set(environment["generation"]["ignored"])
    assert environment["decoding"]["repetition_penalty"] == 1.0 and result["comparable"]["generation"] == "greedy"


def test_the_rules_and_the_choice_of_them_are_part_of_the_identity(tmp_path):
    first, second = (copied(tmp_path / str(penalty), {"repetition_penalty": penalty}) for penalty in (1.1, 1.2))
    ways = ([f"model.path={first}"], [f"model.path={second}"], [f"model.path={first}", "model.generation=greedy"])
    plans = [make_plan(compose_run([*SMALL, "ratio=0.8", *way])) for way in ways]
    assert len({plan.directory.fingerprint for plan in plans}) == 3
    assert plans[0].comparable["model"] != plans[1].comparable["model"] and plans[0].comparable != plans[2].comparable
    with pytest.raises(UserError, match=r"model\.generation=sampled: expected checkpoint or greedy"):
        compose_run(["model.generation=sampled"])


def test_a_filler_that_the_model_does_not_have_is_another(tmp_path):
    """An id beyond the embedding would end a batch in an IndexError, where one answer is shorter than another."""
    path = copied(tmp_path / "copy", {"pad_token_id": 9999})
    assert make_plan(compose_run([*SMALL, f"model.path={path}", "ratio=0.8"])).rules.filler == 2
    assert (
        answers(tmp_path / "out", path, "method=none")[1] == answers(tmp_path / "plain", CHECKPOINT, "method=none")[1]
    )


def test_as_many_tokens_as_asked_for_are_nothing_to_tell(tmp_path, capsys):
    result, _ = answers(tmp_path, CHECKPOINT, "ratio=0.8")
    assert result["environment"]["generation"] == {"used": {}, "ignored": {"max_new_tokens": 8}}
    assert "generation_config" not in capsys.readouterr().err


@pytest.mark.parametrize(
    ("settings", "line"),
    [
        ({"guidance_scale": 1.5}, "guidance_scale=1.5 in the model's generation_config.json"),
        ({"token_healing": True}, "token_healing=true in the model's"),
        ({"force_words_ids": [[5]]}, r"force_words_ids=\[\[5\]\] in the model's"),
        ({"repetition_penalty": 3}, "repetition_penalty=3 in the model's.*strictly positive float.*; correct"),
        ({"suppress_tokens": "no"}, 'suppress_tokens="no" in the model\'s'),
        ({"bad_words_ids": [[9999]]}, r"bad_words_ids=\[\[9999\]\] in the model's"),
        ({"eos_token_id": "2"}, 'eos_token_id="2" in the model\'s'),
        ({"stop_strings": [5]}, r"stop_strings=\[5\] in the model's"),
        ({"max_new_tokens": "8"}, "its generation_config.json cannot be used"),
        ({"compile_config": {"fullgraph": True}}, "its generation_config.json cannot be used"),
        ("{", "its generation_config.json cannot be used"),
        ("[1]", "its generation_config.json cannot be used"),
    ],
)
def test_what_cannot_be_followed_is_refused_in_a_line(settings, line, tmp_path, capsys):
    path = copied(tmp_path / "copy", settings)
    assert main(["run", *SMALL, f"model.path={path}", "ratio=0.8", f"outputs={tmp_path / 'out'}"]) == 2
    error = capsys.readouterr().err.splitlines()
    assert len(error) == 1 and re.search(line, error[0]), error
    assert not list(tmp_path.rglob("predictions.jsonl"))


def test_show_and_speed_refuse_and_tell_the_same(tmp_path, capsys):
    path = copied(tmp_path / "copy", {"guidance_scale": 1.5})
    for command in (["show", f"file={tmp_path / 'a.png'}"], ["speed", f"outputs={tmp_path}"]):
        assert main([*command, "model=path", f"model.path={path}", "ratio=0.8"]) == 2
        assert "guidance_scale=1.5 in the model's" in capsys.readouterr().err
    path = copied(tmp_path / "other", {"num_beams": 4, "return_dict_in_generate": True, "use_cache": False})
    assert (
        main(["show", f"file={tmp_path / 'a.png'}", "model=path", f"model.path={path}", "method=fastv", "ratio=0.8"])
        == 0
    )
    said = capsys.readouterr()
    assert "num_beams=4" in said.err and "fastv" in said.out


def test_without_the_file_config_json_is_gone_by_as_loading_does(tmp_path):
    path = copied(tmp_path / "copy", {}, {"num_beams": 4, "repetition_penalty": 2.0})
    (path / "generation_config.json").unlink()
    plan = make_plan(compose_run([*SMALL, f"model.path={path}", "ratio=0.8"]))
    assert plan.rules.settings == {"repetition_penalty": 2.0} and "num_beams=4" in plan.rules.summary_line(8)
    assert plan.rules == Rules.of(load_models(plan, Resources())[0].model.generation_config)


def test_every_field_of_generation_config_is_carried_or_told_or_refused():
    """A field that a later transformers brings, too: nothing that is set is kept in silence."""
    fields = set(vars(GenerationConfig()))
    known = {"do_sample": True, "use_cache": False}
    for name in fields - {"transformers_version"} - set(CARRIED_FIELDS):
        if name.startswith("_"):
            continue
        config = GenerationConfig()
        setattr(config, name, known.get(name, 3))
        if name in REFUSED:
            with pytest.raises(UserError, match=name):
                Rules.of(config)
        else:
            assert f"{name}=" in Rules.of(config).summary_line(8)
    assert Rules.of(GenerationConfig()).summary_line(8) == ""


def test_the_model_keeps_its_own_configuration():
    loaded, _ = load_models(make_plan(compose_run([*SMALL[:-1], "ratio=0.8"])), Resources())
    own = loaded.model.generation_config
    inputs = loaded.preprocessor.batch(["What?"], [[]], loaded.device, loaded.model.dtype)
    before = own.to_dict()
    greedy(loaded, inputs, 2)
    assert loaded.model.generation_config is own and own.to_dict() == before
    with pytest.raises(ValueError, match="no_such"):
        greedy(loaded, inputs | {"no_such": torch.zeros(1)}, 2)
    assert loaded.model.generation_config is own
