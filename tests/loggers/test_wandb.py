"""The W&B mirror: what an offline run holds on the disk, and that no trouble of W&B's reaches the run."""

from __future__ import annotations

import json
import logging
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from tests.loggers.wandb_reader import OfflineRun, read_closed_run, read_offline_run
from tests.results.synthetic import make_run, picture
from vlmprune.config.registry import DESCRIPTION, find_choices, read_choice, target_class
from vlmprune.config.typecheck import construct
from vlmprune.errors import UserError
from vlmprune.files import write_atomically
from vlmprune.loggers.base import Logger
from vlmprune.loggers.wandb import ARTIFACT_FILES, WandbLogger, sample_evenly, summarise_result
from vlmprune.loggers.wandb_account import has_api_key, outputs_identity, run_identity
from vlmprune.loggers.wandb_upload import SERVICE

CONFIG = {
    "model": {"name": "tiny", "info": {"title": "t"}},
    "method": {"_target_": "a.B", "k": 2, "name": "fastv"},
    "benchmark": {"name": "folder"},
    "logger": {"mode": "auto"},
    "ratio": 0.9,
    "keep": None,
    "environment": {"device_name": "NVIDIA H100", "dtype": "bfloat16", "git": "abc", "versions": {"torch": "2.13"}},
}
FINGERPRINT = "ab" * 32
NAMES = ("WANDB_PROJECT", "WANDB_ENTITY", "WANDB_TAGS")


@pytest.fixture(autouse=True)
def no_account(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in ("WANDB_API_KEY", "WANDB_BASE_URL", "WANDB_MODE", "WANDB_DATA_DIR", "WANDB_CACHE_DIR", *NAMES):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))


def placed(logger: WandbLogger, outputs: Path) -> WandbLogger:
    """The logger in the directory of a made-up run."""
    make_run(outputs, "none")
    logger.place(make_run(outputs, "fastv", 0.9), outputs)
    return logger


def result_of(logger: WandbLogger) -> dict[str, Any]:
    return json.loads((logger.directory / "result.json").read_text())


def mirror(logger: WandbLogger, fingerprint: str = FINGERPRINT, group: str | None = None, code: int = 0) -> None:
    """All that a run tells a logger which is in its directory."""
    lines = (logger.directory / "predictions.jsonl").read_text().splitlines()
    logger.start(CONFIG, fingerprint, group)
    logger.log_result(result_of(logger), [json.loads(line) for line in lines])
    logger.finish(code)


def read_all(directory: Path) -> list[OfflineRun]:
    """All offline runs, once W&B's service process has closed their files."""
    return [read_closed_run(file) for file in sorted(directory.glob("wandb/offline-run-*/*.wandb"))]


def test_offline_run_mirrors_the_run_directory(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    logger = placed(WandbLogger(project="mine", samples=5), tmp_path)
    mirror(logger, group="sweep-1")
    assert capfd.readouterr() == ("", "")  # W&B says nothing of its own

    (run,) = read_all(logger.directory)
    assert run.run_id == run_identity(FINGERPRINT, outputs_identity(tmp_path))
    assert (run.group, run.project, run.exit_code) == ("sweep-1", "mine", 0)
    assert run.job_type == "fastv" and run.config.pop("_wandb") == {}
    assert run.config == {  # nested, as W&B folds and filters it; no description, and nothing of the logger
        "model": {"name": "tiny"},
        "method": {"_target_": "a.B", "k": 2, "name": "fastv"},
        "benchmark": {"name": "scenes"},  # by which a report filters, as the result names it
        "ratio": 0.9,
        "keep": None,
        "environment": CONFIG["environment"],
        "fingerprint": FINGERPRINT,
    }
    answers = result_of(logger)["answers"]
    assert run.summary["score"] == answers["score"] and run.summary["questions"] == answers["samples"]
    unpruned = json.loads(next(tmp_path.glob("scenes/tiny/none-*/result.json")).read_text())
    assert run.summary["relative_score"] == pytest.approx(answers["score"] / unpruned["answers"]["score"])
    assert run.summary["tokens/layer_averaged"] == answers["tokens"]["layer_averaged"]
    assert run.summary["flops/total"] == answers["flops"]["total"]
    assert run.summary["latency/unpruned/prefill_ms"] == pytest.approx(9.2)
    medians = [run.summary[f"latency/{side}/end_to_end_ms"] for side in ("pruned", "unpruned")]
    assert run.summary["latency/relative/end_to_end_percent"] == pytest.approx(100 * medians[0] / medians[1])
    assert run.summary["memory/peak_mb"] == 900.0
    (row,) = run.history  # an automatic workspace charts what was logged, and not what is in the summary alone
    numbers = summarise_result(result_of(logger), logger.directory)
    assert len(numbers) > 25 and {key: row[key] for key in numbers} == pytest.approx(numbers)

    (table,) = logger.directory.glob("wandb/offline-run-*/files/media/table/*.json")
    shown = json.loads(table.read_text())
    assert shown["columns"] == ["id", "category", "question", "answer", "prediction", "score", "kept tokens"]
    assert len(shown["data"]) == 5 and shown["data"][0][0] == "q0"
    assert logger.line is not None and str(logger.directory) in logger.line and "wandb sync" in logger.line


def test_a_slash_in_a_name_is_no_section_of_charts(tmp_path: Path) -> None:
    directory = make_run(tmp_path, "cls", 0.5)
    result = json.loads((directory / "result.json").read_text())
    result["answers"]["by_category"] = {"text/numbers": {"score": 0.5, "samples": 4}}
    result["answers"]["metrics"] = {"a/b": 0.25}
    summary = summarise_result(result, directory)
    assert summary["score/text%2Fnumbers"] == 0.5 and summary["metrics/a%2Fb"] == 0.25


def test_the_files_are_one_artifact_as_they_were(tmp_path: Path) -> None:
    """`vlmprune score` before the sync replaces files of the run; the artifact keeps those that its hashes are of."""
    logger = placed(WandbLogger(), tmp_path)
    (logger.directory / "kept.jsonl").write_text('{"id": "q0"}\n')
    before = {name: (logger.directory / name).read_bytes() for name in ARTIFACT_FILES}
    mirror(logger)
    write_atomically(logger.directory / "result.json", "{}")
    (run,) = read_all(logger.directory)
    assert {name: file.read_bytes() for name, file in run.artifacts["run"].items()} == before
    assert sorted(os.listdir(logger.directory / "wandb")) == sorted(
        ["debug-internal.log", "debug.log", "latest-run", run.folder.name]
    )


@pytest.mark.parametrize(
    ("settings", "line"), [({"artifacts": False}, ""), ({"artifacts_mb": 0}, "logger.artifacts_mb=")]
)
def test_large_or_unwanted_files_are_no_artifact(tmp_path, settings, line, capfd):
    logger = placed(WandbLogger(**settings), tmp_path)
    mirror(logger)
    (run,) = read_all(logger.directory)
    assert "run" not in run.artifacts and run.summary["score"] > 0
    error = capfd.readouterr().err
    assert line in error and error.count("\n") == bool(line)


@pytest.mark.parametrize(
    ("variables", "settings", "project", "tags"),
    [
        ({}, {}, "vlmprune", []),
        ({"WANDB_PROJECT": "theirs", "WANDB_TAGS": "x,y"}, {}, "theirs", ["x", "y"]),
        ({"WANDB_PROJECT": "theirs", "WANDB_TAGS": "x"}, {"project": "mine", "tags": ["a", "b"]}, "mine", ["a", "b"]),
    ],
)
def test_project_and_tags_as_wandb_users_give_them(tmp_path, monkeypatch, variables, settings, project, tags):
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    logger = placed(WandbLogger(**settings), tmp_path)
    mirror(logger)
    (run,) = read_all(logger.directory)
    assert (run.project, run.tags) == (project, tags)


def test_a_tag_that_wandb_would_refuse_is_refused_before_the_run() -> None:
    with pytest.raises(UserError, match="logger: tags=a"):
        construct(WandbLogger, {"tags": ["a" * 65]}, "logger.")


def test_a_run_under_way_is_charted_over_its_questions(tmp_path: Path) -> None:
    logger = placed(WandbLogger(), tmp_path)
    logger.start(CONFIG, FINGERPRINT, None)
    for questions, rate in ((32, 9.0), (64, 4.0)):
        logger.log_progress({"questions": questions, "questions_per_s": rate, "score": 0.5})
    logger.finish(1)  # such as by Ctrl-C: what was logged stays
    (run,) = read_all(logger.directory)
    assert [(row["running/questions"], row["running/score"]) for row in run.history] == [(32, 0.5), (64, 0.5)]
    assert run.axes["running/questions_per_s"] == "running/questions" == run.axes["running/*"]
    assert run.summary["running/questions_per_s"] == {"max": 9, "last": 4} and run.summary["running/score"] == 0.5


def test_pictures_of_different_sizes_are_logged_as_one_size(
    tmp_path: Path, capfd: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    """W&B would else warn that its pages cannot show them, on the terminal of a run that has no fault."""
    logger = placed(WandbLogger(mode="offline", samples=5), tmp_path)
    folder = logger.directory / "pictures"
    folder.mkdir()
    for name, size in (("q0", (300, 150)), ("q1", (150, 300))):
        Image.new("RGB", size, "blue").save(folder / f"{name}.png")
    (folder / "index.json").write_text(json.dumps([picture(name, f"{name}.png") for name in ("q0", "q1")]))
    mirror(logger)
    assert capfd.readouterr() == ("", "")
    assert not [record for record in caplog.records if record.levelno >= logging.WARNING]
    logged = [
        Image.open(file) for file in sorted(logger.directory.glob("wandb/offline-run-*/files/media/images/*.png"))
    ]
    assert len(logged) == 2 and {picture.size for picture in logged} == {(300, 300)}
    assert {picture.convert("RGB").getpixel((299, 299)) for picture in logged} == {(255, 255, 255)}


def test_a_file_that_is_still_being_written_reads_up_to_there(tmp_path: Path) -> None:
    logger = placed(WandbLogger(), tmp_path)
    mirror(logger)
    (run,) = read_all(logger.directory)
    (file,) = logger.directory.glob("wandb/offline-run-*/*.wandb")
    for size in range(0, file.stat().st_size, 97):
        half = tmp_path / "half.wandb"
        half.write_bytes(file.read_bytes()[:size])
        read = read_offline_run(half)
        assert read.exit_code is None and read.config.keys() <= run.config.keys()
        assert read.config.get("ratio", 0.9) == 0.9 and read.config.get("method", {"k": 2})["k"] == 2


def test_a_parent_that_uses_wandb_itself_changes_nothing(tmp_path: Path) -> None:
    """Such as a notebook: its children inherit the name of its service, which has another working folder."""
    mirror(placed(WandbLogger(), tmp_path / "parent"))
    directory = make_run(tmp_path / "outputs", "fastv", 0.9)
    code = (
        "from pathlib import Path; from tests.loggers.test_wandb import WandbLogger, mirror\n"
        f"logger = WandbLogger(); logger.place(Path({str(directory.relative_to(tmp_path))!r}), Path('outputs'))\n"
        "mirror(logger); print(logger.line)"
    )
    assert SERVICE in os.environ
    root = str(Path(__file__).parents[2])
    child = subprocess.run(
        [sys.executable, "-c", code],
        cwd=tmp_path,
        env=os.environ | {"PYTHONPATH": root},
        capture_output=True,
        text=True,
    )
    (run,) = read_all(directory)
    assert run.exit_code == 0 and all(file.is_absolute() for file in run.artifacts["run"].values())
    assert f"wandb sync {run.folder.relative_to(tmp_path)}" in child.stdout, child.stderr


def test_two_runs_of_one_process_are_two(tmp_path: Path) -> None:
    """wandb.init would else hand the second job of a sweep the first one's run; a failed job is marked so."""
    logger = placed(WandbLogger(), tmp_path)
    for fingerprint, code in (("11" * 32, 1), ("22" * 32, 0)):
        mirror(logger, fingerprint, code=code)
    runs = {run.run_id: run.exit_code for run in read_all(logger.directory)}
    folder = outputs_identity(tmp_path)
    assert runs == {run_identity("11" * 32, folder): 1, run_identity("22" * 32, folder): 0}


@pytest.mark.parametrize("call", ["setup", "init", "Table"])
def test_trouble_costs_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str], call: str
) -> None:
    import wandb

    def broken(*_: Any, **__: Any) -> None:
        raise RuntimeError("no luck\ntoday")

    logger = placed(WandbLogger(mode="offline"), tmp_path)
    monkeypatch.setattr(wandb, call, broken)
    mirror(logger)
    out, err = capfd.readouterr()
    assert out == "" and err.count("\n") == 1 and "no luck today" in err and str(logger.directory) in err
    assert logger.line is None


def test_unwritable_outputs_do_not_fail_the_run(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    logger = placed(WandbLogger(), tmp_path)
    (tmp_path / "file").write_text("not a folder")
    logger.place(logger.directory, tmp_path / "file" / "outputs")
    mirror(logger, code=1)
    assert "W&B could not start" in capfd.readouterr().err


def test_disabled_writes_nothing(tmp_path: Path) -> None:
    logger = placed(WandbLogger(mode="disabled"), tmp_path)
    mirror(logger)
    assert logger.line is None and not (logger.directory / "wandb").exists() and not (tmp_path / ".id").exists()


def test_online_is_asked_only_with_a_key(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert not has_api_key()
    netrc = tmp_path / "netrc"
    netrc.write_text("machine example.org login a password b\n")
    netrc.chmod(0o600)
    assert not has_api_key()
    netrc.write_text("machine api.wandb.ai login user password b\n")
    assert has_api_key()
    netrc.unlink()
    monkeypatch.setenv("WANDB_API_KEY", "k")
    assert has_api_key()


def test_outputs_folder_keeps_its_id(tmp_path: Path) -> None:
    first = outputs_identity(tmp_path / "a")
    assert len(first) == 32 and outputs_identity(tmp_path / "a") == first
    assert outputs_identity(tmp_path / "b") != first
    assert [file.name for file in (tmp_path / "a").iterdir()] == [".id"]


def test_summary_of_a_run_without_latency_or_comparable_baseline(tmp_path: Path) -> None:
    directory = make_run(tmp_path, "cls", 0.5)
    make_run(tmp_path, "none", comparable={"subset": "limit=10,seed=0"})
    result = json.loads((directory / "result.json").read_text())
    result["timings"] |= {"latency": None, "kv_cache_bytes": None, "samples_per_s": None}
    summary = summarise_result(result, directory)
    assert "relative_score" not in summary and not [name for name in summary if name.startswith("latency")]
    assert summary["tokens/kept"] == 72 and summary["ratio"] == 0.5


def test_one_tag_is_a_list_too() -> None:
    with pytest.raises(UserError, match=r"logger.tags=a: expected a list, such as \[a,b\]; write logger.tags=\[a\]$"):
        construct(WandbLogger, {"tags": "a"}, "logger.")
    with pytest.raises(UserError, match=r"such as \[a,b\]$"):
        construct(WandbLogger, {"tags": 1}, "logger.")


def test_spread_takes_from_all_over() -> None:
    rows = [{"id": i} for i in range(10)]
    assert [row["id"] for row in sample_evenly(rows, 4)] == [0, 2, 5, 7]
    assert sample_evenly(rows, 20) == rows and sample_evenly([], 3) == [] and sample_evenly(rows, 0) == []


def test_every_choice_is_a_logger_with_its_fields() -> None:
    for name in find_choices("logger"):
        config = read_choice("logger", name)
        cls = target_class(config["_target_"], Logger)
        settings = {key: value for key, value in config.items() if key not in DESCRIPTION}
        assert construct(cls, settings, "logger.") == cls()  # the YAML's values are the class's defaults


def test_imports_are_light() -> None:
    code = (
        "import sys, vlmprune.loggers.wandb, vlmprune.cli.compare\n"
        "print([m for m in ('torch', 'transformers', 'wandb', 'numpy', 'matplotlib', 'rich') if m in sys.modules])"
    )
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout.strip() == "[]"
