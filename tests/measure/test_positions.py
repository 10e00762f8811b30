"""Questions that are longer than the decoder has positions for are counted, told and marked."""

from __future__ import annotations

import json
import shutil
from types import SimpleNamespace

import pytest
import torch
from transformers import LlamaConfig, Qwen2_5_VLConfig

from vlmprune.cli import main
from vlmprune.engine.session import Session
from vlmprune.measure.positions import position_limit, positions_taken, summarise_positions
from vlmprune.methods.baselines import Unpruned
from vlmprune.models.base import adapt
from vlmprune.tiny import CHECKPOINT

SMALL = ("limit=6", "latency_samples=0", "logger=none", "show.samples=0", "model=path")
YARN = {"rope_theta": 1e4, "rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 64}


@pytest.mark.parametrize(
    ("named", "rope", "limit"),
    [
        (512, {"rope_type": "default"}, 512),
        (512, None, 512),
        (512, {"rope_type": "linear", "factor": 8.0}, 4096),
        (512, {"rope_type": "dynamic", "factor": 2.0}, 1024),
        (32768, {"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 32768}, 131072),
        (131072, {"rope_type": "llama3", "factor": 8.0, "original_max_position_embeddings": 8192}, 131072),
        (131072, {"rope_type": "longrope", "original_max_position_embeddings": 4096}, 131072),
        (512, {"full_attention": {"factor": 8.0}, "sliding_attention": {"rope_type": "default"}}, 512),
        (None, None, None),
    ],
)
def test_scaling_of_the_rotary_embedding_adds_positions(named, rope, limit):
    assert position_limit(SimpleNamespace(max_position_embeddings=named, rope_parameters=rope)) == limit


def test_the_limit_of_transformers_own_configs():
    assert position_limit(LlamaConfig(max_position_embeddings=256, rope_parameters=YARN)) == 256
    assert position_limit(LlamaConfig(max_position_embeddings=64, rope_parameters=YARN)) == 256
    text = Qwen2_5_VLConfig().text_config
    assert position_limit(text) == text.max_position_embeddings
    assert position_limit(SimpleNamespace()) is None


def test_positions_are_the_largest_of_mrope_and_not_its_plain_count():
    assert positions_taken(torch.tensor([[5], [9]])) == [5, 9]
    three = torch.tensor([[[5], [2]], [[7], [3]], [[6], [4]]])
    assert positions_taken(three) == [7, 4]
    assert positions_taken(torch.cat([torch.tensor([[[40], [50]]]), three])) == [7, 4]


def test_lines_of_an_earlier_version_count_their_tokens():
    rows = [{"sequence": 90, "generated": 11}, {"sequence": 80, "generated": 4, "positions": 120}]
    config = SimpleNamespace(max_position_embeddings=100)
    assert summarise_positions(rows, config) == {"limit": 100, "longest": 120, "beyond": 2}
    assert summarise_positions(rows[:1], SimpleNamespace(max_position_embeddings=101))["beyond"] == 0
    assert summarise_positions(rows, SimpleNamespace()) is None


@pytest.mark.slow
def test_a_short_decoder_is_told_and_marked_to_the_comparison(tmp_path, capsys):
    path = tmp_path / "short"
    shutil.copytree(CHECKPOINT, path)
    config = json.loads((path / "config.json").read_text())
    config["text_config"]["max_position_embeddings"] = 100  # a prompt has 144 visual tokens
    (path / "config.json").write_text(json.dumps(config))

    def ran(name: str, *overrides: str) -> tuple[dict, list[dict], str]:
        folder = tmp_path / name
        assert main(["run", *SMALL, f"model.path={path}", f"outputs={folder}", *overrides]) == 0
        (file,) = folder.rglob(f"*/short/{overrides[0].removeprefix('method=')}-*/result.json")
        rows = [json.loads(line) for line in (file.parent / "predictions.jsonl").read_text().splitlines()]
        return json.loads(file.read_text())["answers"], rows, " ".join(capsys.readouterr().out.split())

    unpruned, rows, said = ran("out", "method=none")
    longest = max(row["sequence"] + row["generated"] for row in rows)
    assert unpruned["positions"] == {"limit": 100, "longest": longest, "beyond": 6}
    assert f"BEYOND THE DECODER'S 100: 6 of 6 questions (up to {longest})" in said

    whole, alone, _ = ran("alone", "method=none", "share_prefix=false", "batch_size=4")
    by_id = {row["id"]: row for row in rows}
    assert whole == unpruned and {row["id"]: row for row in alone} == by_id

    pruned, rows, said = ran("out", "method=cls", "ratio=0.9")
    assert pruned["positions"]["beyond"] == 0
    assert all(row["positions"] == row["sequence"] + row["generated"] for row in rows)
    assert "BEYOND" not in said
    assert "which flatters: 6 unpruned prompts are longer than the decoder's positions" in said

    kept, rows, _ = ran("kept", "method=cls", "ratio=0.9", "positions=keep")  # few tokens at their old places
    assert kept["positions"] == unpruned["positions"] | {"longest": max(row["positions"] for row in rows)}
    assert kept["positions"]["beyond"] == 6 and max(row["sequence"] for row in rows) < 100
    inside, _, _ = ran("inside", "method=fastv", "ratio=0.9")  # whose first layers see every token
    assert inside["positions"]["beyond"] == 6

    assert main(["show", "model=path", f"model.path={path}", "ratio=0.9", f"file={tmp_path / 'a.png'}"]) == 0
    (line,) = (line for line in capsys.readouterr().err.splitlines() if "positions" in line)
    assert line.startswith("none: prompt and answer take 1") and line.endswith("the decoder was made for 100")

    compare = ["compare", f"outputs={tmp_path / 'out'}"]
    note = "!: questions longer than the decoder's 100 positions, up to 6 of 6 in a run"
    for style in ("table", "markdown", "latex"):
        assert main([*compare, f"format={style}"]) == 0
        shown = capsys.readouterr().out
        assert note in " ".join(shown.split()) and ("%!" in shown.replace("\\%", "%") or style == "table")
    assert main([*compare, "format=json"]) == 0
    runs = {run["method"]: run for run in json.loads(capsys.readouterr().out)["groups"][0]["runs"]}
    assert (runs["none"]["questions_beyond"], runs["cls"]["questions_beyond"]) == (6, 0)
    assert runs["cls"]["relative_to_questions_beyond"] is True and runs["cls"]["positions_limit"] == 100
    assert main([*compare, f"html={tmp_path / 'page.html'}"]) == 0
    page = (tmp_path / "page.html").read_text()
    assert " %!</td>" in page and "longer than the decoder&#x27;s 100 positions" in page


def test_results_without_positions_are_read_as_before(tmp_path, capsys):
    assert main(["run", *SMALL[:-1], "ratio=0.9", f"outputs={tmp_path}"]) == 0
    (file,) = tmp_path.rglob("result.json")
    result = json.loads(file.read_text())
    assert result["answers"].pop("positions")["beyond"] == 0
    file.write_text(json.dumps(result))
    capsys.readouterr()
    assert main(["run", *SMALL[:-1], "ratio=0.9", f"outputs={tmp_path}"]) == 0
    assert main(["compare", f"outputs={tmp_path}"]) == 0
    assert "BEYOND" not in capsys.readouterr().out


def test_positions_of_every_family_are_those_that_its_decoder_is_given(family):
    """One more than the largest position, with mrope the largest of the three; without it, the number of tokens."""
    model, inputs = family.make(), family.batch([9, 6])
    adapter = adapt(model)
    given: list[torch.Tensor] = []

    def note(_module: object, _args: tuple, kwargs: dict) -> None:
        if kwargs.get("position_ids") is not None:
            given.append(kwargs["position_ids"])

    with Session(adapter, Unpruned()) as session:
        handle = adapter.language_model.register_forward_pre_hook(note, with_kwargs=True)
        model.generate(**inputs, max_new_tokens=1, do_sample=False)
        handle.remove()
        taken = positions_taken(session.segment.next_position)
    mask = inputs["attention_mask"]
    if hasattr(model.model, "get_rope_index"):
        positions = given[0][-3:].masked_fill(mask == 0, -1)
        expected = (positions.amax(dim=(0, 2)) + 1).tolist()
        assert max(expected) < int(mask.sum(1).max())  # patches of a row and a column share positions
    else:
        expected = mask.sum(1).tolist()
    assert taken == expected
