"""Keys and tokens reach no file of a run, no W&B record and no line on the terminal."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.benchmarks.judge_server import judge_server
from tests.cli.refusal import refusal
from tests.evaluation.test_rescore import MMVET, run_directory
from tests.loggers.wandb_reader import read_closed_run
from vlmprune import cli
from vlmprune.config.secret_check import check_secrets

SECRETS = {
    "HF_TOKEN": "hf_recognisable0hub0token",
    "HUGGING_FACE_HUB_TOKEN": "hf_recognisable0older0token",
    "WANDB_API_KEY": "recognisable0wandb0key0" + 17 * "w",
    "VLMPRUNE_JUDGE_KEY": "sk-recognisable0judge0key",
    "OPENAI_API_KEY": "sk-recognisable0openai0key",
    "MY_PASSWORD": "recognisable0password",
    "GITHUB_PAT": "recognisable0pat",
    "openai_api_keys": "recognisable0lowercase",
    "DB_PASSWD": "recognisable0passwd",
    "CLOUD_CREDENTIALS": "recognisable0credentials",
}
RUN = ("run", "method=cls", "ratio=0.9", "limit=4", "latency_samples=0")


@pytest.fixture
def secrets(monkeypatch) -> Iterator[list[str]]:
    for name, value in SECRETS.items():
        monkeypatch.setenv(name, value)
    yield list(SECRETS.values())


def found_in(folder: Path, secrets: list[str]) -> list[tuple[Path, str]]:
    contents = {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    return [(path, secret) for path, data in contents.items() for secret in secrets if secret.encode() in data]


def test_a_run_and_its_wandb_files_hold_none(tmp_path, monkeypatch, capfd, secrets):
    monkeypatch.chdir(tmp_path)
    assert cli.main([*RUN, "logger=wandb"]) == 0
    (record,) = tmp_path.rglob("*.wandb")
    read_closed_run(record)
    assert b"fingerprint" in record.read_bytes()  # its text can be searched
    shown = capfd.readouterr()
    assert found_in(tmp_path, secrets) == []
    assert not [secret for secret in secrets if secret in shown.out + shown.err]


@pytest.mark.parametrize("reply", ["0.5", 401], ids=["judged", "refused"])
def test_a_judged_run_holds_none(tmp_path, capfd, secrets, reply):
    run = run_directory(tmp_path / "run", MMVET, ["red", "blue"])
    with judge_server(lambda number, body: reply) as server:
        code = cli.main(["score", str(run), f"judge.base_url={server.url}", "judge.model=m"])
    assert server.headers[0]["Authorization"] == f"Bearer {SECRETS['VLMPRUNE_JUDGE_KEY']}"  # the one place it goes to
    shown = capfd.readouterr()
    assert code == (0 if reply == "0.5" else 2), shown.err
    assert found_in(tmp_path, secrets) == []
    assert not [secret for secret in secrets if secret in shown.out + shown.err]


@pytest.mark.parametrize("value", [*SECRETS.values(), "${oc.env:HF_TOKEN}", "Bearer ${oc.env:MY_PASSWORD}"])
@pytest.mark.parametrize("key", ["benchmark.prefix", "logger.entity", "model.path", "ratio", "no.such.key"])
def test_a_setting_that_holds_one_is_refused_unseen(tmp_path, monkeypatch, secrets, key, value):
    monkeypatch.chdir(tmp_path)
    for command in (["run"], ["run", "--cfg"], ["sweep"]):
        line = refusal(*command, f"{key}='{value}'")
        assert not [secret for secret in secrets if secret in line]
    assert list(tmp_path.iterdir()) == []


def test_one_typed_as_a_name_is_refused_unseen(secrets):
    for arguments in ([secrets[0]], ["run", f"{secrets[0]}=5"], ["run", f"+{secrets[0]}=5"], ["list", secrets[0]]):
        line = refusal(*arguments)
        assert "holds the value of HF_TOKEN" in line and secrets[0] not in line


@pytest.mark.parametrize(
    "setting",
    [
        "judge.base_url=https://user:recognisable@host/v1",
        "judge.base_url=https://recognisable@host/v1",
        "judge.base_url='https://host/v1?api_key=recognisable'",
        "benchmark.path=https://user:recognisable@host/data",
        "model.path='https://host/model?token=recognisable'",
        "model.path='git+ssh://recognisable@host/model'",
        "benchmark.prefix='see a://b/c://recognisable@host'",
    ],
)
def test_an_address_with_a_user_or_a_query_is_refused_unseen(setting):
    for arguments in (["run", setting], ["run", "--cfg", setting], ["sweep", setting], ["score", "x", setting]):
        line = refusal(*arguments)
        assert "holds a user, password or query in an address" in line
        assert "recognisable" not in line and setting.partition("=")[0] in line


def test_what_is_no_secret_passes(monkeypatch):
    monkeypatch.setenv("SHORT_KEY", "cls")
    monkeypatch.setenv("EDITOR", "something-long")
    check_secrets({"a": "cls", "b": ["something-long", "hf://datasets/lmms-lab/GQA@main/x.parquet"], "c": None, "d": 5})
    addresses = ["https://h/v1", "a@b://c", "what? http://h", "://u@h", "http://h/a@b", "k" * 10**6]
    check_secrets({"name": addresses})
    check_secrets({"judge": {"base_url": "http://127.0.0.1:8000/v1"}, "prompt": "Is this right? Answer yes or no."})
