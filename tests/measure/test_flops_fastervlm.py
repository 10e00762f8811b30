"""flops.convention=fastervlm gives FasterVLM's published figures, and is told apart from ours wherever it is shown."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from tests.conftest import make_llava
from tests.measure.test_flops import PICTURE
from vlmprune.cli import main
from vlmprune.measure.flops import fastervlm_flops
from vlmprune.methods.decoder_method import average_tokens
from vlmprune.methods.fastv import FastV
from vlmprune.methods.pyramiddrop import PyramidDrop
from vlmprune.models.base import EncoderInput, adapt
from vlmprune.models.checkpoint import published_config, random_model
from vlmprune.results.published import read_published

# Of LLaVA-NeXT-7B at 2880 visual tokens; tokens left -> TFLOPs, as printed.
CLS = {2880: "43.58", 2160: "32.35", 1440: "21.66", 720: "11.51", 290: "5.71", 145: "3.80"}
FASTV = {2160: "33.05", 1440: "23.04", 720: "13.53", 290: "8.10", 145: "6.30"}
QUICK = ("limit=8", "latency_samples=0", "logger=none")


@pytest.fixture(scope="module")
def next_7b():
    config = published_config("llava-next-vicuna-7b")
    return adapt(random_model(config, "sdpa", torch.float16, torch.device("meta")), {"packing": "fastervlm"})


def tera(adapter, visual: list[int]) -> str:
    """TFLOPs of a square picture, as printed."""
    pixels = torch.empty(1, 5, 3, 336, 336, device="meta")
    encoded = EncoderInput.from_tensors(adapter, {"pixel_values": pixels, "image_sizes": torch.tensor([[672, 672]])})
    return f"{fastervlm_flops(adapter, encoded, visual).total / 1e12:.2f}"


@pytest.mark.parametrize("tokens", CLS)
def test_before_the_language_model(next_7b, tokens):
    assert tera(next_7b, [tokens] * 32) == CLS[tokens]


@pytest.mark.parametrize("tokens", FASTV)
def test_fastv(next_7b, tokens):
    (stage,) = FastV(keep=tokens, k=2).schedule(32, 2880)
    assert tera(next_7b, [2880] * stage.layer + [stage.left] * (32 - stage.layer)) == FASTV[tokens]


def test_published_csv_has_the_same_figures():
    rows = [
        row for row in read_published() if row.metric == "flops_tera" and row.source.startswith("FasterVLM 8494094")
    ]
    found = {(row.our_method, row.tokens): row.value for row in rows}
    expected = {("none" if tokens == 2880 else "cls", tokens): float(value) for tokens, value in CLS.items()}
    assert found == expected | {("fastv", tokens): float(value) for tokens, value in FASTV.items()}


def test_layer_averaged_tokens_as_published():
    """PyramidDrop's and FastV's own figures for 576 visual tokens on 32 layers."""
    assert average_tokens(PyramidDrop().schedule(32, 576), 32, 576) == 270
    assert [average_tokens(FastV(keep=k, k=2).schedule(32, 576), 32, 576) for k in (288, 144, 72)] == [306, 171, 103.5]
    assert [FastV(ratio=ratio, k=2).schedule(32, 576)[0].left for ratio in (0.5, 0.75, 0.875)] == [288, 144, 72]


def test_what_the_convention_leaves_out():
    flops = fastervlm_flops(adapt(make_llava()), PICTURE, [36, 36, 9, 9, 9, 9])
    # 5 encoder layers on 37 positions; one 32 x 32 product; a decoder whose keys are half as wide as its queries
    assert flops.vision == 5 * (2 * 37 * (4 * 32 * 32 + 2 * 32 * 64) + 4 * 37 * 37 * 32)
    assert flops.projector == 2 * 36 * 32 * 32
    layer = 2 * (2 * 32 * 32 + 2 * 32 * 16 + 3 * 32 * 64)
    assert flops.prefill == sum(n * layer + 4 * n * n * 32 for n in (36, 36, 9, 9, 9, 9))
    assert flops.selection == flops.decode == 0


def test_no_visual_token_left():
    adapter = adapt(make_llava())
    flops = fastervlm_flops(adapter, PICTURE, [0] * 6)
    assert flops.total == flops.vision == fastervlm_flops(adapter, PICTURE, [36] * 6).vision


def result(outputs: Path) -> dict:
    (file,) = outputs.rglob("cls-*/result.json")
    return json.loads(file.read_text())


def test_a_run_is_counted_by_either_and_never_asked_again(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    asked = ["run", "method=cls", "ratio=0.9", *QUICK]
    assert main([*asked, "flops.convention=fastervlm", "outputs=published"]) == 0
    published = result(tmp_path / "published")
    assert main([*asked, "outputs=ours"]) == 0
    ours = result(tmp_path / "ours")
    assert [each["answers"]["flops"]["convention"] for each in (published, ours)] == ["fastervlm", "vlmprune"]
    assert published["fingerprint"] == ours["fingerprint"]
    assert published["comparable"] == ours["comparable"] | {"flops": "fastervlm"}

    shown = capsys.readouterr().out
    assert shown.count("by FasterVLM's convention") == 1
    assert main(["compare", "published", "ours"]) == 0
    shown = capsys.readouterr().out
    assert "flops (tiny on scenes): " in shown and "FLOPs by FasterVLM's convention" in shown

    # A finished run is counted anew, both ways, with what a run would have counted.
    monkeypatch.setattr("vlmprune.models.loading.load", None)
    assert main([*asked, "flops.convention=fastervlm", "outputs=ours"]) == 0
    recounted = result(tmp_path / "ours")
    assert recounted["answers"] == published["answers"] and recounted["comparable"] == published["comparable"]
    assert main([*asked, "outputs=ours"]) == 0
    assert result(tmp_path / "ours") == ours
    assert capsys.readouterr().err.count("FLOPs counted again by flops.convention=") == 2
