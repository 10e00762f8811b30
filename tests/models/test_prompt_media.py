"""Prompts with any number of pictures, a video among them or none: each is answered as if it were asked alone.

Through the runner's own classes, over every family, with the feature store and shared beginnings on and off.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from tests.families.test_guarantees import method_of
from tests.models.hub import load_saved
from tests.runs import run
from vlmprune.benchmarks.base import Benchmark, Sample
from vlmprune.config.settings import compose_run
from vlmprune.engine.encoding_cache import EncodingStore
from vlmprune.engine.session import Session
from vlmprune.evaluation.estimate import estimate_cost
from vlmprune.evaluation.evaluate import Evaluation, EvaluationSettings
from vlmprune.evaluation.generation import greedy
from vlmprune.evaluation.media_loader import name_tiles
from vlmprune.evaluation.run_directory import RunDirectory, kept_key
from vlmprune.models.base import EncoderInput
from vlmprune.models.loading import LoadedModel
from vlmprune.models.preprocessing import place_media
from vlmprune.pictures.pages import save_pictures

CPU = torch.device("cpu")
SIZES = [(100, 60), (35, 90), (64, 64), (120, 80), (90, 60)]
QUESTIONS = ["What color is the star?", "How many blue"]
FRAMES = 2
NEW = 3
METHODS = ["none", "divprune", "fastv"]
# Pictures of a prompt, and whether a video follows them.
SHOWN = {"none": (0, False), "one": (1, False), "two": (2, False), "five": (5, False), "video": (1, True)}


def picture(number: int, size: tuple[int, int] | None = None) -> Image.Image:
    width, height = size or SIZES[number % len(SIZES)]
    # Image.effect_noise draws from the process's own generator: other pictures in every selection of tests.
    noise = np.random.default_rng(number).normal(128, 40 + 9 * number, (height, width))
    return Image.fromarray(noise.clip(0, 255).astype(np.uint8)).convert("RGB")


PICTURES = {
    name: [picture(n) for n in range(count)] + [picture(n, (80, 70)) for n in range(FRAMES * video)]
    for name, (count, video) in SHOWN.items()
}


@dataclass
class Several(Benchmark):
    """Questions about the pictures that the sample's image_id names."""

    def images(self, sample: Sample) -> list[Image.Image]:
        return PICTURES[sample.image_id]

    def match(self, prediction: str, sample: Sample) -> float:
        return 1.0


def sample(name: str, number: int, question: str = "", shown: str = "") -> Sample:
    return Sample(f"{name}-{number}", shown or name, question or QUESTIONS[number], "yes", "all", extra={"shown": name})


def ask(
    loaded: LoadedModel, samples: list[Sample], folder: Path, method: str, share: bool, store: bool
) -> dict[str, str]:
    """The answers of an evaluation in one batch, by sample."""
    features = EncodingStore(2**28) if store and loaded.adapter.encodes_tiles_apart else None
    session = Session(loaded.adapter, method_of(method), features=features)
    directory = RunDirectory(folder, "x")
    folder.mkdir(parents=True)
    Evaluation(
        Several(max_new_tokens=NEW),
        loaded,
        session,
        directory,
        lambda _: None,
        EvaluationSettings(batch_size=16, share_prefix=share),
    ).run(samples)
    return {row["id"]: row["prediction"] for row in directory.predictions()}


@pytest.fixture(scope="module")
def family(folder) -> LoadedModel:
    """The family with weights large enough for distinct answers, none of which ends early."""
    loaded = load_saved(folder, prompt="chat_template")
    loaded.model.generation_config.eos_token_id = None
    with torch.no_grad():
        for parameter in loaded.model.parameters():
            parameter.mul_(3)
    return loaded


@pytest.fixture
def loaded(family, monkeypatch) -> LoadedModel:
    """The family; an answer is its token ids; where a video is shown, the first picture is a picture of its own."""
    prepare = family.preprocessor
    media = prepare.media

    def mixed(pictures, kind):
        if pictures is not PICTURES["video"]:
            return media(pictures, kind)
        return [*media(pictures[:-FRAMES], "image"), *media(pictures[-FRAMES:], "video")]

    monkeypatch.setattr(prepare, "media", mixed)
    monkeypatch.setattr(prepare, "decode", lambda ids: [" ".join(map(str, map(int, row))) for row in ids])
    return family


def samples_of(loaded: LoadedModel) -> list[Sample]:
    """Two questions about each of SHOWN; of families without videos, no video."""
    shown = [name for name, (_, video) in SHOWN.items() if loaded.preprocessor.takes_video or not video]
    return [sample(name, number) for name in shown for number in range(len(QUESTIONS))]


@pytest.mark.parametrize("method", METHODS)
def test_a_batch_of_all_kinds_gives_what_plain_generate_gives_one_by_one(loaded, method, tmp_path):
    prepare, samples = loaded.preprocessor, samples_of(loaded)
    expected = {}
    for each in samples:
        inputs = prepare.batch([each.question], [prepare.media(PICTURES[each.image_id], "image")], CPU, torch.float32)
        if method == "none":
            output = loaded.model.generate(**inputs, max_new_tokens=NEW, do_sample=False)
        else:
            with Session(loaded.adapter, method_of(method)):
                output = greedy(loaded, inputs, NEW)
        (expected[each.id],) = prepare.decode(output[:, inputs["input_ids"].shape[1] :])
    assert len(set(expected.values())) > len(samples) / 2  # so that a picture in another's place would show
    for share, store in ((True, True), (False, False), (True, False), (False, True)):
        found = ask(loaded, samples, tmp_path / f"{share}{store}", method, share, store)
        assert found == expected, (share, store)


@pytest.mark.slow
@pytest.mark.parametrize("name", SHOWN)
def test_one_kind_alone(loaded, name, tmp_path):
    """A window in which every prompt is of one kind, text alone among them."""
    samples = [each for each in samples_of(loaded) if each.image_id == name]
    if not samples:
        pytest.skip("the family takes no video")
    for method in METHODS:
        plain = ask(loaded, samples, tmp_path / method / "plain", method, share=False, store=False)
        assert ask(loaded, samples, tmp_path / method / "all", method, share=True, store=True) == plain
        assert len(plain) == len(samples)


def test_tiles_have_one_name_each_and_never_that_of_another_encoding(loaded):
    if not loaded.adapter.encodes_tiles_apart:
        pytest.skip("all pictures are one sequence: nothing is named")
    prepare = loaded.preprocessor
    for name, pictures in PICTURES.items():
        if name == "video" and not prepare.takes_video:
            continue
        media = prepare.media(pictures, "image")
        tiles = [tile for medium in media for tile in name_tiles(medium).tiles]
        assert len(tiles) == len(EncoderInput.from_tensors(loaded.adapter, prepare.collate([media])).tiles), name
    first = PICTURES["five"][2:3]  # a square, of which padding changes nothing
    (alone,) = prepare.media(first, "image")
    beside = prepare.media([*first, picture(7)], "image")[0]
    same = alone.tensors.keys() == beside.tensors.keys() and all(
        torch.equal(alone.tensors[key], beside.tensors[key]) for key in alone.tensors
    )
    shared = set(name_tiles(alone).tiles) & set(name_tiles(beside).tiles)
    assert bool(shared) is same is (loaded.model.config.model_type != "llava_onevision")


def test_pictures_in_another_order_share_no_beginning(loaded, tmp_path):
    """Their placeholders are the same ids; nor do they share a line of kept tokens."""
    ordered = sample("two", 0, "What color is <image 1> <image 2> the star?")
    swapped = sample("swapped", 1, "What color is <image 2> <image 1> the star?", shown="two")
    for method in ("none", "divprune"):
        expected = {}
        for each in (ordered, swapped):
            expected |= ask(loaded, [each], tmp_path / method / each.id, method, share=False, store=False)
        both = tmp_path / method / "both"
        again = [sample("again", 0, ordered.question, shown="two"), sample("too", 1, swapped.question, shown="two")]
        found = ask(loaded, [ordered, swapped, *again], both, method, share=True, store=True)
        assert {name: found[name] for name in expected} == expected
        assert (found["again-0"], found["too-1"]) == (found[ordered.id], found[swapped.id])
        order = [place_media(each.question, ["image"] * 2)[0] for each in (ordered, swapped)]
        kept = [kept_key(row) for row in RunDirectory(both, "x").kept()]
        inline = loaded.preprocessor.prompts.text(swapped.question, ["image"] * 2)[1] == [1, 0]
        assert order == [[0, 1], [1, 0]] and inline
        assert kept == ([] if method == "none" else [("image_id", "two"), ("id", "swapped-1"), ("id", "too-1")])


def test_pictures_of_a_run_are_drawn_for_every_kind(loaded, tmp_path):
    samples = [each for each in samples_of(loaded) if each.image_id != "video" and each.id.endswith("0")]
    ask(loaded, samples, tmp_path / "run", "divprune", share=True, store=True)
    directory = RunDirectory(tmp_path / "run", "x")
    save_pictures(samples, Several(max_new_tokens=NEW), loaded, directory, "divprune", len(samples))
    for number, each in enumerate(samples, start=1):
        with Image.open(tmp_path / "run" / "pictures" / f"{number}-{each.id}.png") as drawn:
            assert drawn.width > 100 and drawn.height > 50


@pytest.mark.parametrize(
    ("question", "kinds", "order", "pieces"),
    [
        ("Why?", ["image", "video"], [0, 1], ["Why?"]),
        ("Is <image 1> in it?", ["video", "image"], [0, 1], ["Is ", None, " in it?"]),
        ("<image 2> or <image 1>?", ["image", "video", "image"], [1, 2, 0], [None, " or ", None, "?"]),
        ("<image>\nWhy?", ["video"], [0], [None, "\nWhy?"]),
        ("<image 1>?", [], [], ["image 1", "?"]),
    ],
)
def test_markers_number_images_not_videos(question, kinds, order, pieces):
    assert place_media(question, kinds) == (order, pieces)


@pytest.fixture
def questions(tmp_path) -> list[str]:
    """MMMU's columns: rows with one, two, five pictures and, the last, with none."""
    folder = tmp_path / "data"
    folder.mkdir()
    rows = []
    for number, count in enumerate((1, 2, 5, 0)):
        names = [f"{number}-{index}.png" for index in range(count)]
        for index, name in enumerate(names):
            picture(number + index).save(folder / name)
        images = dict.fromkeys(f"image_{index}" for index in range(1, 8)) | {
            f"image_{index}": name for index, name in enumerate(names, start=1)
        }
        row = {"id": f"validation_Art_{number}", "question": "What is it?", "options": "['red', 'blue']", "answer": "B"}
        rows.append(row | images)
    (folder / "data.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return ["benchmark=mmmu", f"benchmark.path={folder / 'data.jsonl'}", "benchmark.max_new_tokens=2"]


def test_nominal_costs_of_a_benchmark_with_several_pictures(folder, questions):
    where = ["model=path", f"model.path={folder}", "model.prompt=chat_template", "method=divprune", "ratio=0.5"]
    cost = estimate_cost(compose_run([*questions, *where]))
    assert 0 < cost.kept < cost.total
    blind = estimate_cost(compose_run([*questions, *where, "benchmark.columns.image=null"]))
    assert blind.total == 0 and blind.flops < cost.flops


def test_a_run_over_rows_with_any_number_of_pictures(folder, questions, tmp_path):
    """The row that should have a picture and has none is left out in a line; without pictures all are asked."""
    where = ["model=path", f"model.path={folder}", "model.prompt=chat_template", f"outputs={tmp_path}/out"]
    quick = ["method=cls", "ratio=0.5", "logger=none", "latency_samples=1", "show.samples=2"]
    result = run(compose_run([*questions, *where, *quick, "on_bad_sample=skip"]))
    assert result["answers"]["samples"] == 3
    assert result["bad_samples"] == {"count": 1, "ids": ["validation_Art_3"]}
    blind = run(compose_run([*questions, *where, *quick, "benchmark.columns.image=null"]))
    assert blind["answers"]["samples"] == 4 and blind["answers"]["tokens"]["total"] == 0
