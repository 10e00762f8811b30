"""`vlmprune show`: one question about a picture or a video, and what each method keeps of it, as a PNG."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from vlmprune.config import RunConfig, compose_run
from vlmprune.errors import UserError
from vlmprune.overrides import expand_sweep

if TYPE_CHECKING:
    from PIL.Image import Image

    from vlmprune.models.loading import Loaded
    from vlmprune.report.shown import Shown

SETTING = re.compile(r"[+~]*[\w.@/]+=")  # else an argument is a file or the question
FILE = "shown.png"
DEFAULT = ("method=cls", "ratio=0.9")  # where neither a method nor an amount is given
SCENE = 6  # of the embedded test split, shown where no picture is given
WORDS = 64  # tokens of an answer, at most


@dataclass(frozen=True)
class Question:
    """What is asked, about which pictures: images, or the frames of one video. names: of the files."""

    text: str
    pictures: list[Image]
    kind: Literal["image", "video"]
    names: list[str]


def show(arguments: list[str], config_dir: str | None) -> int:
    """Answer, draw, print; returns the exit code. Raises UserError for what cannot work, before a model is loaded."""
    from vlmprune.plan import choose_parts

    settings = [argument for argument in arguments if SETTING.match(argument)]
    words = [argument for argument in arguments if not SETTING.match(argument)]
    file = output_file([setting for setting in settings if setting.startswith("file=")])
    settings = [setting for setting in settings if not setting.startswith("file=")]
    if not any(setting.startswith(("method=", "ratio=", "keep=")) for setting in settings):
        settings += DEFAULT
    jobs = [compose_run(overrides, config_dir) for overrides in with_unpruned(expand_sweep(settings))]
    models = {repr(job.model): job for job in jobs}
    if len(models) > 1:
        raise UserError(f"model={','.join(job.names['model'] for job in models.values())}: show takes one model")
    question = read_question(words)
    parts = [choose_parts(job) for job in jobs]  # impossible pairs are refused here
    loaded = load_model(jobs[0])
    shown = [ask(question, job, loaded, method, tower) for job, (method, _, tower) in zip(jobs, parts, strict=True)]
    draw(question, jobs[0], loaded, shown, file)
    print_answers(question, shown, file)
    return 0


def with_unpruned(jobs: list[list[str]]) -> list[list[str]]:
    """The unpruned model first, then each of the others once."""
    amounts = ("method=", "method.", "ratio=", "keep=", "budget=", "scope=", "positions=", "seed=")
    bare = ["method=none", *(override for override in jobs[0] if not override.startswith(amounts))]
    chosen = [job for job in jobs if "method=none" not in job]
    return [bare, *(list(job) for job in dict.fromkeys(map(tuple, chosen)))]


def output_file(given: list[str]) -> Path:
    """Where the PNG goes. Raises UserError for another ending and for a folder that is not there."""
    path = Path(given[-1].partition("=")[2] if given else FILE).expanduser()
    if path.suffix.lower() != ".png":
        raise UserError(f"file={path}: the picture is a PNG; give a name that ends in .png")
    if not path.parent.is_dir():
        raise UserError(f"file={path}: no such folder as {path.parent}")
    return path


def read_question(words: list[str]) -> Question:
    """Files and the question as typed; without a file a scene of the embedded benchmark, with its own question."""
    from vlmprune.benchmarks.base import BadSample
    from vlmprune.benchmarks.frames import VIDEO_SUFFIXES, decode_frames
    from vlmprune.benchmarks.media import decode_image

    files = [word for word in words if is_file(word)]
    texts = [word for word in words if not is_file(word)]
    if len(texts) > 1:
        raise UserError(f"'{texts[0]}' and '{texts[1]}': one question at a time, in quotes; files must exist")
    if not files:
        return scene(texts[0] if texts else None)
    if not texts:
        raise UserError(f'no question about {files[0]}: vlmprune show {files[0]} "What is in the picture?"')
    videos = [file for file in files if Path(file).suffix.lower() in VIDEO_SUFFIXES]
    if videos and len(files) > 1:
        raise UserError(f"{videos[0]}: a video is shown alone, without other files")
    try:
        pictures = decode_frames(Path(videos[0]), 8) if videos else [decode_image(file) for file in files]
    except BadSample as error:
        raise UserError(f"{files[0]}: {error}".replace("its ", "the ", 1)) from error
    return Question(texts[0], pictures, "video" if videos else "image", [Path(file).name for file in files])


def is_file(word: str) -> bool:
    """Whether an argument names a file: it is there, or it looks like one. Raises UserError where that is missing."""
    path = Path(word).expanduser()
    looks = re.fullmatch(r"\S+\.\w{2,5}", word) is not None
    if looks and not path.is_file():
        raise UserError(f"{word}: no such file")
    return looks or path.is_file()


def scene(text: str | None) -> Question:
    """A drawn scene that the embedded model can answer about."""
    from vlmprune.benchmarks.scenes import Scenes

    benchmark = Scenes(max_new_tokens=1)
    first = {sample.image_id: sample for sample in reversed(benchmark.load())}
    sample = sorted(first.values(), key=lambda each: each.id)[SCENE]
    return Question(text or sample.question, benchmark.images(sample), "image", [f"scene {sample.image_id}"])


def load_model(config: RunConfig) -> Loaded:
    """The model and its preprocessing, on the device asked for."""
    from vlmprune.models import loading

    checkpoint = loading.find_checkpoint(config.model)
    device = loading.resolve_device(config.device)
    dtype = loading.resolve_dtype(config.model.dtype, checkpoint, device)
    loading.check_hardware(config.model, checkpoint, dtype, device)
    return loading.load(checkpoint, config.model, dtype, device)


def ask(question: Question, config: RunConfig, loaded: Loaded, method: Any, clip: Any) -> Shown:
    """The method's answer, and what it kept for it."""
    from vlmprune.generation import greedy
    from vlmprune.models.clip_text import load_text_tower
    from vlmprune.report.shown import Shown, title_of
    from vlmprune.report.trace import Trace

    prepare = loaded.preprocessor
    media = prepare.media(question.pictures, question.kind)
    inputs = prepare.batch([question.text], [media], loaded.device, loaded.model.dtype)
    trace = Trace(int(loaded.adapter.visual_mask(inputs["input_ids"]).sum()))
    tower = None if clip is None else load_text_tower(clip, loaded.device)
    with trace.session(loaded.adapter, method, tower) as session:
        session.ask([question.text])
        output = greedy(loaded, inputs, WORDS)
        trace.finish()
    assert session.record is not None
    (answer,) = prepare.decode(output[:, inputs["input_ids"].shape[1] :])
    options = [override for override in config.overrides if override.startswith("method.")]
    return Shown.of(title_of(config.names["method"], method, options), answer, session.record, trace)


def draw(question: Question, config: RunConfig, loaded: Loaded, shown: list[Shown], file: Path) -> None:
    """Write the PNG. Raises UserError where that cannot be done."""
    from vlmprune.plan import model_name
    from vlmprune.report.shown import answer_page

    prepare = loaded.preprocessor
    media = prepare.media(question.pictures, question.kind)
    views, _ = prepare.prompt_views(question.text, media, [picture.size for picture in question.pictures])
    heading = f"{model_name(config)} · {', '.join(question.names)}"
    sheet = answer_page(question.text, heading, question.pictures, views, shown)
    try:
        sheet.save(file)
    except OSError as error:
        raise UserError(f"file={file} cannot be written: {error}") from error


def print_answers(question: Question, shown: list[Shown], file: Path) -> None:
    """A table of answers and tokens, and the file's path."""
    from rich.table import Table
    from rich.text import Text  # an answer may hold what rich would take for its own markup

    from vlmprune.progress import results_console

    table = Table(box=None, header_style="bold", pad_edge=False)
    for column in ("method", "tokens", "layer avg", "answer"):
        table.add_column(column, justify="right" if column in ("tokens", "layer avg") else "left")
    for each in shown:
        table.add_row(Text(each.title), f"{each.left}/{each.slots}", f"{each.average:.1f}", Text(each.answer))
    console = results_console()
    console.print(f"\n{', '.join(question.names)}: {question.text}\n", markup=False)
    console.print(table)
    console.print(f"\nfile  {file}", soft_wrap=True)
