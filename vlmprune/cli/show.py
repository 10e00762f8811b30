"""`vlmprune show`: draws, as a PNG, what each method keeps of a picture or a video for one question."""

from __future__ import annotations

import itertools
import os
import re
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from vlmprune.config.arguments import ConfigDir, Endings, OfRun, Words, parse
from vlmprune.config.overrides import INEFFECTIVE_UNPRUNED, drop_ineffective, expand_sweep, first_key
from vlmprune.config.settings import Orientation, RunConfig, compose_run
from vlmprune.errors import UserError
from vlmprune.files import check_writable

if TYPE_CHECKING:
    from PIL.Image import Image

    from vlmprune.models.loading import LoadedModel
    from vlmprune.pictures.pages import MethodAnswer

HELP = """\
vlmprune show [FILE ...] ["QUESTION"] [key=value ...]: draw what each method keeps of a picture, and print the answers.

  vlmprune show method=cls,fastv ratio=0.9                       a drawn scene, with the embedded model
  vlmprune show photo.jpg "What is on the table?" model=llava-1.5-7b method=cls,fastv,visionzip ratio=0.9 device=cuda
  vlmprune show left.png right.png "What differs?" model=path model.path=/checkpoints/my-llava method=divprune keep=64
  vlmprune show clip.mp4 "What happens?" model=video-llava-7b method=cls ratio=0.5,0.95 file=clip.png

The PNG has the unpruned answer first, then a block per method and amount: kept patches in colour with a blue outline,
merged tokens in orange at their slots, all others faded, and a heat map where the method ranks by a score. Tiles and
frames are side by side.

{settings}
"""
OF_RUN = OfRun(["model", "method", "ratio", "keep", "positions", "scope", "budget", "seed", "device", "orientation"])
DEFAULT = ("method=cls", "ratio=0.9")  # if neither a method nor an amount is given
SCENE = 6  # index of the scene of the embedded test split that is shown if no picture is given
MAX_NEW_TOKENS = 64  # tokens of an answer, at most


@dataclass(frozen=True)
class Settings:
    """Arguments of `vlmprune show`. words: files and a question."""

    words: Annotated[tuple[str, ...], Words(questions=True)] = ()
    overrides: Annotated[tuple[str, ...], OF_RUN, "as in `vlmprune run`, and model.NAME, method.NAME"] = ()
    file: Annotated[Path, Endings((".png",)), "the picture; beside an earlier one NAME-2.png"] = Path("shown.png")
    config_dir: ConfigDir = None


@dataclass(frozen=True)
class Question:
    """A question about pictures: images, or the frames of one video. names: of the files."""

    text: str
    pictures: list[Image]
    kind: Literal["image", "video"]
    names: list[str]


def show(arguments: list[str]) -> int:
    """Answer, draw and print; return the exit code. Raise UserError for bad input, before a model is loaded."""
    settings = parse("show", Settings, arguments)
    overrides, config_dir, file = list(settings.overrides), settings.config_dir, settings.file
    if not any(override.startswith(("method=", "ratio=", "keep=")) for override in overrides):
        overrides += DEFAULT
    from vlmprune.evaluation.generation import read_rules
    from vlmprune.evaluation.idle_settings import IdleSettings
    from vlmprune.evaluation.plan import choose_parts
    from vlmprune.terminal import say

    asked = expand_sweep(overrides, config_dir)
    if all("method=none" in each for each in asked):  # none with an amount is refused, as by `run`
        for each in asked:
            choose_parts(compose_run(each, config_dir))
    jobs = [compose_run(each, config_dir) for each in add_unpruned(asked)]
    models = {repr(job.model): job for job in jobs}
    if len(models) > 1:
        raise UserError(f"model={','.join(job.names['model'] for job in models.values())}: show takes one model")
    question = read_question(list(settings.words), jobs[0].orientation)
    left_out = IdleSettings()
    pairs = [left_out.find_runnable(job, choose_parts) for job in jobs]  # impossible pairs are refused here
    jobs, parts = [job for job, _ in pairs], [part for _, part in pairs]
    left_out.print_removed(jobs)
    rules = read_rules(parts[0][1], jobs[0].model.generation)
    check_writable("file", file)
    file = find_free_name(file)
    if line := rules.summary_line(MAX_NEW_TOKENS):
        say(line)
    loaded = load_model(jobs[0])
    answers = [
        answer_question(question, job, loaded, method, tower)
        for job, (method, _, tower) in zip(jobs, parts, strict=True)
    ]
    write_picture(question, jobs[0], loaded, answers, file)
    print_answers(question, answers, file)
    return 0


def find_free_name(file: Path) -> Path:
    """Return `file`, or if it exists the first of NAME-2.png, NAME-3.png, ... that does not."""
    names = (file.with_name(f"{file.stem}-{number}{file.suffix}") for number in itertools.count(2))
    return next(name for name in itertools.chain([file], names) if not os.path.lexists(name))


def add_unpruned(jobs: list[list[str]]) -> list[list[str]]:
    """Return the job of the unpruned model first, then each of the others once."""
    same = [override for override in jobs[0] if first_key(override) not in ("method", "seed")]
    bare = drop_ineffective(["method=none", *same])
    chosen = [job for job in jobs if "method=none" not in job]
    return [bare, *(list(job) for job in dict.fromkeys(map(tuple, chosen)))]


def read_question(words: list[str], orientation: Orientation = "upright") -> Question:
    """Return the typed question about the typed files; without a file, a scene of the embedded benchmark."""
    from vlmprune.benchmarks.base import BadSample
    from vlmprune.benchmarks.frames import decode_frames, is_video
    from vlmprune.benchmarks.media import decode_image, sample_budget

    named = {word: find_file(word) for word in words}
    files = [file for file in map(named.get, words) if file is not None]
    texts = [word for word in words if named[word] is None]
    if len(texts) > 1:
        raise UserError(f"'{texts[0]}' and '{texts[1]}': one question at a time, in quotes; files must exist")
    if not files:
        return scene_question(texts[0] if texts else None)
    if not texts:
        raise UserError(f'no question about {files[0]}: vlmprune show {files[0]} "What is in the picture?"')
    videos = [file for file in files if is_video(file)]
    if videos and len(files) > 1:
        raise UserError(f"{videos[0]}: a video is shown alone, without other files")
    try:
        with sample_budget():
            if videos:
                pictures = decode_frames(videos[0], 8, spacing="linspace", orientation=orientation)
            else:
                pictures = [decode_image(str(file), orientation=orientation) for file in files]
    except BadSample as error:
        raise UserError(str(error).replace("its ", "the ", 1)) from error
    return Question(texts[0], pictures, "video" if videos else "image", [file.name for file in files])


def find_file(word: str) -> Path | None:
    """Return the file that an argument names; None for a question. Raise UserError for a file's name without a file.

    A question may begin with ~ and be longer than the name of a file can be.
    """
    path = os.path.expanduser(word)
    if os.path.isfile(path):
        return Path(path)
    if re.fullmatch(r"\S+\.\w{2,5}", word):
        raise UserError(f"{word}: no such file")
    return None


def scene_question(text: str | None) -> Question:
    """Return a question about a drawn scene for the embedded model; with `text` None, the scene's own question."""
    from vlmprune.benchmarks.scenes import Scenes

    benchmark = Scenes(max_new_tokens=1)
    first = {sample.image_id: sample for sample in reversed(benchmark.load())}
    sample = sorted(first.values(), key=lambda each: each.id)[SCENE]
    return Question(text or sample.question, benchmark.images(sample), "image", [f"scene {sample.image_id}"])


def load_model(config: RunConfig) -> LoadedModel:
    """Load the model and its preprocessing on the device of the settings."""
    from vlmprune.models import loading
    from vlmprune.models.checkpoint import find_checkpoint

    checkpoint = find_checkpoint(config.model)
    device = loading.resolve_device(config.device)
    dtype = loading.resolve_dtype(config.model.dtype, checkpoint, device)
    loading.check_hardware(config.model, checkpoint, dtype, device)
    return loading.load(checkpoint, config.model, dtype, device)


def answer_question(question: Question, config: RunConfig, loaded: LoadedModel, method: Any, clip: Any) -> MethodAnswer:
    """Return the method's answer with its kept tokens. Raise UserError if the pictures cannot be used."""
    from vlmprune.benchmarks.base import BadSample
    from vlmprune.engine.session import Session
    from vlmprune.evaluation.generation import greedy
    from vlmprune.measure.positions import position_limit, positions_taken
    from vlmprune.models.clip_text import load_text_tower
    from vlmprune.pictures.pages import MethodAnswer, title_of
    from vlmprune.pictures.selection_trace import Trace
    from vlmprune.terminal import say

    prepare = loaded.preprocessor
    try:
        media = prepare.media(question.pictures, question.kind)
        inputs = prepare.batch([question.text], [media], loaded.device, loaded.model.dtype)
    except BadSample as error:
        raise UserError(f"{', '.join(question.names)}: {error}") from error
    trace = Trace(int(loaded.adapter.visual_mask(inputs["input_ids"]).sum()))
    tower = None if clip is None else load_text_tower(clip, loaded.device)
    with Session(loaded.adapter, method, text_tower=tower, observer=trace) as session:
        session.ask([question.text])
        output = greedy(loaded, inputs, MAX_NEW_TOKENS)
        assert session.segment is not None
        (taken,) = positions_taken(session.segment.next_position)
    assert session.record is not None
    (answer,) = prepare.decode(output[:, inputs["input_ids"].shape[1] :])
    taken += output.shape[1] - inputs["input_ids"].shape[1]
    limit = position_limit(loaded.adapter.config.text_config)
    if limit is not None and taken > limit:
        say(f"{config.names['method']}: prompt and answer take {taken:,} positions, the decoder was made for {limit:,}")
    named = (*INEFFECTIVE_UNPRUNED, "seed")
    options = [each for each in config.overrides if each.startswith("method.") or first_key(each) in named]
    return MethodAnswer.of(title_of(config.names["method"], method, options), answer, session.record, trace)


def write_picture(
    question: Question, config: RunConfig, loaded: LoadedModel, answers: list[MethodAnswer], file: Path
) -> None:
    """Draw the page and write the PNG. Raise UserError if it cannot be written."""
    from vlmprune.evaluation.plan import model_name
    from vlmprune.pictures.pages import answer_page

    prepare = loaded.preprocessor
    media = prepare.media(question.pictures, question.kind)
    views, _ = prepare.prompt_views(question.text, media, [picture.size for picture in question.pictures])
    limits = prepare.limits_text("video" if question.kind == "video" and prepare.takes_video else "image")
    heading = " · ".join(filter(None, [model_name(config), ", ".join(question.names), limits]))
    sheet = answer_page(question.text, heading, question.pictures, views, answers)
    try:
        sheet.save(file)
    except OSError as error:
        raise UserError(f"file={file} cannot be written: {error}") from error


def print_answers(question: Question, answers: list[MethodAnswer], file: Path) -> None:
    """Print a table of answers and tokens, and the path of the PNG."""
    from vlmprune.results.tables import Column, Table
    from vlmprune.terminal import print_result

    columns: list[Column[MethodAnswer]] = [
        Column("method", lambda each: each.title, left=True),
        Column("tokens", lambda each: f"{each.left}/{each.slots}"),
        Column("layer avg", lambda each: f"{each.average:.1f}"),
        Column("answer", lambda each: each.answer, left=True),
    ]
    Table(f"{', '.join(question.names)}: {question.text}", columns, answers).print_terminal()
    print_result(f"\nfile  {file}")
