"""A user's own classes: every fault of the table in one process, and what must work."""

from __future__ import annotations

import json
import signal
from importlib import import_module
from pathlib import Path

import pytest
import torch

from tests.conftest import make_batch, make_llava
from tests.robustness.hostile import own_benchmarks, own_methods
from tests.robustness.hostile.own_benchmarks import BENCHMARK
from tests.robustness.hostile.own_methods import SCORE, SCORED, SELECT, SELECTED
from tests.robustness.hostile.table import Hostile
from tests.robustness.own_class import module
from tests.robustness.victims import Victims
from vlmprune import own_code, prune
from vlmprune.benchmarks.base import BadSample, Benchmark
from vlmprune.benchmarks.contract import with_checks
from vlmprune.config.registry import GROUPS, build_method, find_choices, read_choice, target_class
from vlmprune.config.typecheck import construct
from vlmprune.engine.contract import CheckedMethod
from vlmprune.errors import NotFinite, UserError
from vlmprune.evaluation.scores import summarise_scores
from vlmprune.loggers.base import InterruptMonitor, Logger, guard_logger

METHOD_CASES = [case for case in own_methods.EVERY if case.code == 2]
BENCHMARK_CASES = [case for case in own_benchmarks.EVERY if case.code == 2]


@pytest.fixture(scope="module")
def model():
    return make_llava()


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.syspath_prepend(str(tmp_path))
    return tmp_path


def build_own(folder: Path) -> Benchmark:
    config = read_choice("benchmark", "own", str(folder / "configs"))
    benchmark = construct(target_class(config["_target_"], Benchmark), {}, "benchmark.")
    return with_checks(benchmark)


def use(benchmark: Benchmark) -> list[dict]:
    """All that a run asks of a benchmark; the answers are empty."""
    benchmark.identity(), benchmark.data_name()
    rows = []
    for sample in benchmark.load(part=True):
        if benchmark.shares_media(sample):
            benchmark.check_media(sample)
        assert all(image.mode == "RGB" for image in benchmark.images(sample))
        benchmark.prompt(sample)
        score = benchmark.score("red", sample)
        rows.append({"id": sample.id, "image_id": sample.image_id, "category": sample.category, "score": score})
    json.dumps(summarise_scores(rows, benchmark), allow_nan=False)
    benchmark.submission_file(rows)
    return rows


def forward(model, method) -> None:
    with torch.no_grad(), prune(model, method):
        model(**make_batch([8, 11]))


@pytest.mark.parametrize("case", METHOD_CASES, ids=lambda case: case.id)
def test_a_method(case: Hostile, place: Path, model):
    case.prepare(place)
    with pytest.raises(UserError) as raised:
        forward(model, build_method("own", ratio=0.5, config_dir=str(place / "configs")))
    named = [name for name in case.named if not name.isdigit()]
    assert [name for name in named if name not in str(raised.value)] == []
    forward(model, build_method("cls", ratio=0.5))  # the model is as it was


LATER = [
    case
    for case in METHOD_CASES
    if case.name.endswith(("indices out of range", "negative indices", "an index twice", "select inside returns all"))
]


@pytest.mark.parametrize("case", LATER, ids=lambda case: case.id)
def test_values_of_a_later_batch_on_a_gpu(case: Hostile, place: Path, model, monkeypatch: pytest.MonkeyPatch):
    """They are marked on the device, without a host sync, and refused with the other marks."""
    monkeypatch.setattr(CheckedMethod, "_may_read_values", lambda *_: False)
    case.prepare(place)
    with pytest.raises(NotFinite, match=r"are not finite where|scores are nan before decoder layer 2"):
        forward(model, build_method("own", ratio=0.5, config_dir=str(place / "configs")))


@pytest.mark.parametrize("case", BENCHMARK_CASES, ids=lambda case: case.id)
def test_a_benchmark(case: Hostile, place: Path):
    case.prepare(place)
    with pytest.raises(UserError) as raised:
        use(build_own(place))
    assert [name for name in case.named if name not in str(raised.value)] == []


MATCH = "match(self, prediction, sample)"


@pytest.mark.parametrize(
    ("function", "value", "score"),
    [
        (MATCH, "numpy.float32(0.5)", 0.5),
        (MATCH, "torch.tensor(0.5)", 0.5),
        (MATCH, "numpy.array(1)", 1.0),
        (MATCH, "numpy.bool_(True)", 1.0),
        (MATCH, "True", 1.0),
        ("score(self, prediction, sample)", "7", 7.0),
        ("images(self, sample)", "iter([Image.new('RGBA', (8, 8))])", 1.0),
        ("images(self, sample)", "()", 1.0),
        ("images(self, sample)", "[Image.new(mode, (8, 8)) for mode in ('L', 'F', 'P')]", 1.0),
        (
            "load(self, part=False)",
            "(Sample(str(i), 'i', 'What?', 'red', 'all', extra={'k': [1, None]}) for i in range(3))",
            1.0,
        ),
        ("aggregate(self, rows)", "{'accuracy': numpy.float64(0.5), 'more': -1}", 1.0),
        ("units(self, rows)", "(numpy.ones(3), ['a', 'b', 'c'])", 1.0),
    ],
)
def test_what_a_benchmark_may_give(function: str, value: str, score: float, place: Path, request):
    name = f"fine_benchmark_{request.node.callspec.indices['value']}"
    module("benchmark", name, f"{BENCHMARK}    def {function}:\n        return {value}\n")(place)
    rows = use(build_own(place))
    assert [row["score"] for row in rows] == [score] * 3 and {type(row["score"]) for row in rows} == {float}


def test_a_picture_that_cannot_be_read_is_the_samples(place: Path):
    body = "    def images(self, sample):\n        return [Image.open(f'{sample.id}.png')]\n"
    module("benchmark", "fine_benchmark_missing", BENCHMARK + body)(place)
    benchmark = build_own(place)
    with pytest.raises(BadSample, match=r"its image cannot be read .*s0\.png"):
        benchmark.images(benchmark.load()[0])


@pytest.mark.parametrize(
    ("template", "value", "same"),
    [
        (SCORED, "self.norm(signals).double()", True),
        (SCORED, "(self.norm(signals) * 1000000).long()", True),
        (SCORED, "self.norm(signals) > 0", False),
        (SCORED, "self.norm(signals).requires_grad_()", True),
        (SCORED, "self.norm(signals).index_fill(1, torch.tensor([3]), -torch.inf)", False),
        (SCORED, "self.norm(signals)\n    needs: ClassVar = ['features']", True),
        (SELECTED, "Selection(self.first(signals, k).int())", False),
        (SELECTED, "Selection(self.first(signals, k).flip(1))", False),
        (SELECTED, "Selection(self.first(signals, k - 2), valid=self.first(signals, k - 2) > 0)", False),
    ],
)
def test_what_a_method_may_give(template: str, value: str, same: bool, place: Path, model, request, monkeypatch):
    name = f"fine_method_{request.node.callspec.indices['value']}"
    function = SCORE if template == SCORED else SELECT
    module("method", name, f"{template}    def {function}:\n        return {value}\n")(place)
    method = build_method("own", ratio=0.5, config_dir=str(place / "configs"))
    with torch.no_grad(), prune(model, method) as session:
        model(**make_batch([8]))
        kept = session.record.kept
    assert kept is not None and 0 < int(kept.sum()) <= 18
    if same:
        (place / "plain").mkdir()
        module("method", f"{name}_plain", SCORED)(place / "plain")
        monkeypatch.syspath_prepend(str(place / "plain"))
        plain = build_method("own", ratio=0.5, config_dir=str(place / "plain" / "configs"))
        with torch.no_grad(), prune(model, plain) as session:
            model(**make_batch([8]))
        assert torch.equal(session.record.kept, kept)


def test_an_exception_of_the_users_code_stays_what_it_is(place: Path, model):
    """In the library: its type, its traceback, and a note of who raised it; cut, only the user's frames are left."""
    body = "    def score(self, signals):\n        return len(signals.grid) / 0\n"
    module("method", "raising_method", SCORED + body)(place)
    with pytest.raises(ZeroDivisionError) as raised:
        forward(model, build_method("own", ratio=0.5, config_dir=str(place / "configs")))
    assert raised.value.__notes__ == ["raised by Own.select"]
    text = own_code.user_traceback(raised.value)
    assert text is not None and text.count("  File ") == 1 and "raising_method.py" in text and "/ 0" in text
    assert "vlmprune: Own.score raised ZeroDivisionError: division by zero" in text
    assert own_code.user_traceback(ZeroDivisionError("ours")) is None


@pytest.mark.slow
def test_nothing_that_was_answered_is_lost(tmp_path: Path):
    """A class that fails at the second question: the same code goes on there, a corrected one is another run."""
    body = (
        "    def match(self, prediction, sample):\n"
        "        assert sample.id == 's0' or Path('fine').exists()\n        return 1.0\n"
    )
    command = ("run", "--config-dir", "configs", "benchmark=own", "method=none", "batch_size=1", "logger=none")
    source = f"from pathlib import Path\n{BENCHMARK}{body}"
    module("benchmark", "failing_benchmark", source)(tmp_path)

    def lines() -> dict[str, int]:
        return {
            file.parent.name: len(file.read_text().splitlines())
            for file in tmp_path.glob("outputs/own/*/*/predictions.jsonl")
        }

    server = Victims()
    try:
        server.warm_up(tmp_path / "warm", "run", "keep=14", "limit=2", "logger=none", "benchmark=scenes")
        first = server.command(tmp_path, command, {}, 60)
        assert first.code == 1 and "Own.match (sample s1) raised AssertionError" in first.errors.splitlines()[-1]
        whole = server.command(tmp_path, command, {"VLMPRUNE_TRACEBACK": "1"}, 60)
        assert (
            whole.code == 1
            and "vlmprune/evaluation/predictions.py" in whole.errors
            and "answers.py" not in first.errors
        )
        assert [*lines().values()] == [1]
        (tmp_path / "fine").touch()
        assert server.command(tmp_path, command, {}, 60).code == 0
        assert [*lines().values()] == [3]
        (tmp_path / "failing_benchmark.py").write_text(source.replace("1.0\n", "0.5\n"))
        assert server.command(tmp_path, command, {}, 60).code == 0
        assert sorted(lines().values()) == [3, 3]
    finally:
        server.close()


def test_what_is_shipped_is_nobodys_own():
    targets = [read_choice(group, name).get("_target_") for group in GROUPS for name in find_choices(group)]
    modules = [target.rpartition(".") for target in targets if target]
    assert len(modules) > 20
    assert [name for module, _, name in modules if own_code.is_own(getattr(import_module(module), name))] == []


class Changing(Logger):
    def start(self, config, fingerprint, group):
        config.clear()

    def log_result(self, result, samples):
        result["answers"]["score"] = 1.0
        samples.clear()
        raise KeyboardInterrupt

    def finish(self, exit_code):
        raise AssertionError("it is called again")


def test_a_logger_changes_nothing(capsys: pytest.CaptureFixture[str]):
    logger = guard_logger(Changing, Changing)
    config, result, samples = {"seed": 0}, {"answers": {"score": 0.5}}, [{"id": "a"}]
    logger.start(config, "ab", None)
    logger.log_result(result, samples)
    logger.finish(0)
    assert (config, result, samples) == ({"seed": 0}, {"answers": {"score": 0.5}}, [{"id": "a"}])
    warned = capsys.readouterr().err.splitlines()
    assert len(warned) == 1 and "Changing.log_result raised KeyboardInterrupt" in warned[0] and logger.line is None


def test_ctrl_c_in_a_logger_stops_the_run():
    class Slow(Logger):
        def start(self, config, fingerprint, group):
            signal.raise_signal(signal.SIGINT)

    with pytest.raises(KeyboardInterrupt):
        guard_logger(Slow, Slow).start({}, "ab", None)
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler and not InterruptMonitor().seen
