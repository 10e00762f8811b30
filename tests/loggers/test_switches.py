"""W&B's own switch-offs: where plain `wandb.init` sends nothing, vlmprune sends nothing, and says what holds."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tests.loggers.stand_in import stand_in
from tests.loggers.test_upload import KEY
from tests.loggers.test_wandb import mirror, placed
from vlmprune.errors import UserError
from vlmprune.loggers.wandb import WandbLogger
from vlmprune.loggers.wandb_account import has_api_key, resolve_mode, server_address, wandb_settings
from vlmprune.loggers.wandb_upload import Uploads

OFF = [
    # WANDB_MODE, mode in the settings beside the command, in the user's settings -> mode, what is said of it
    ("offline", None, None, "offline", "offline in WANDB_MODE"),
    ("dryrun", None, None, "offline", "dryrun in WANDB_MODE"),
    ("disabled", None, None, "disabled", "disabled in WANDB_MODE"),
    (None, "offline", None, "offline", "offline in {here}"),
    (None, "dryrun", None, "offline", "dryrun in {here}"),
    (None, "disabled", None, "disabled", "disabled in {here}"),
    (None, None, "offline", "offline", "offline in {home}"),
    (None, None, "disabled", "disabled", "disabled in {home}"),
    (None, "disabled", "online", "disabled", "disabled in {home} and {here}"),
    ("offline", "online", "online", "offline", "offline in WANDB_MODE"),
]
ON = [
    (None, None, None),
    ("online", None, None),
    ("run", None, None),
    ("shared", None, None),
    ("online", "disabled", "offline"),  # the environment goes before the files, as in W&B
    (None, "online", "disabled"),
]


@pytest.fixture(autouse=True)
def account(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in [name for name in os.environ if name.startswith("WANDB_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("WANDB_API_KEY", KEY)
    monkeypatch.setenv("WANDB_CONFIG_DIR", str(tmp_path / "home"))
    monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))
    (tmp_path / "here/wandb").mkdir(parents=True)
    (tmp_path / "home").mkdir()
    monkeypatch.chdir(tmp_path / "here")


def mirrored(outputs: Path) -> tuple[WandbLogger, Uploads]:
    """The logger after a run, and what it uploads."""
    logger = placed(WandbLogger(), outputs)
    uploads = Uploads()
    logger.set_uploads(uploads)
    mirror(logger)
    return logger, uploads


def write(file: Path, **settings: str | None) -> None:
    """A settings file as `wandb offline` and the like write it; none where nothing is set."""
    lines = [f"{name} = {value}" for name, value in settings.items() if value is not None]
    if lines:
        file.write_text("\n".join(["[default]", *lines]) + "\n")


def set_up(monkeypatch: pytest.MonkeyPatch, top: Path, mode: str | None, here: str | None, home: str | None) -> None:
    if mode is not None:
        monkeypatch.setenv("WANDB_MODE", mode)
    write(top / "here/wandb/settings", mode=here)
    write(top / "home/settings", mode=home)


@pytest.mark.parametrize(("mode", "here", "home", "expected", "said"), OFF)
def test_what_switches_it_off(mode, here, home, expected, said, tmp_path, monkeypatch):
    set_up(monkeypatch, tmp_path, mode, here, home)
    files = {"here": tmp_path / "here/wandb/settings", "home": tmp_path / "home/settings"}
    assert resolve_mode("auto") == (expected, said.format(**files))
    assert wandb_settings()._offline or wandb_settings()._noop  # what wandb.init would go by
    assert resolve_mode("online") == ("online", ""), "what is typed for the run goes first, as in wandb.init"


@pytest.mark.parametrize(("mode", "here", "home"), ON)
def test_what_leaves_it_on(mode, here, home, tmp_path, monkeypatch):
    set_up(monkeypatch, tmp_path, mode, here, home)
    assert resolve_mode("auto") == ("online", "")
    assert not wandb_settings()._offline and not wandb_settings()._noop


@pytest.mark.parametrize(
    ("value", "expected"), [("true", "disabled"), ("1", "disabled"), ("false", "online"), ("", "online")]
)
def test_the_switch_of_earlier_versions(value, expected, monkeypatch):
    monkeypatch.setenv("WANDB_DISABLED", value)
    assert resolve_mode("auto")[0] == expected


def test_the_settings_files_are_read_as_wandb_reads_them(tmp_path, monkeypatch):
    monkeypatch.delenv("WANDB_API_KEY")
    assert not has_api_key()
    write(tmp_path / "home/settings", base_url="http://own.example", api_key=KEY)
    assert server_address() == "http://own.example" and has_api_key()
    monkeypatch.setenv("WANDB_BASE_URL", "http://other.example")
    assert server_address() == "http://other.example"


@pytest.mark.parametrize(
    ("name", "value"),
    [("WANDB_MODE", "OFFLINE"), ("WANDB_MODE", "nonsense"), ("WANDB_MODE", ""), ("WANDB_BASE_URL", "x")],
)
def test_what_wandb_refuses_is_one_line_and_nothing_is_sent(name, value, tmp_path, monkeypatch, capfd):
    monkeypatch.setenv(name, value)
    with pytest.raises(UserError, match=name):
        resolve_mode("auto")
    _, uploads = mirrored(tmp_path)
    error = capfd.readouterr().err
    assert error.count("\n") == 1 and name in error and not uploads.started


def test_a_key_that_is_none_is_not_repeated(monkeypatch):
    monkeypatch.setenv("WANDB_API_KEY", "secret of mine ")
    with pytest.raises(UserError, match="W&B's own setting") as caught:
        wandb_settings()
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize("switch", ["offline", pytest.param("disabled", marks=pytest.mark.slow)])
def test_nothing_is_sent(switch, tmp_path, monkeypatch, capfd):
    """Not even a question whether there is a network; the offline run can be synced later."""
    set_up(monkeypatch, tmp_path, None, switch, None)
    with stand_in() as seen:
        monkeypatch.setenv("WANDB_BASE_URL", seen.url)
        logger, uploads = mirrored(tmp_path)
        uploads.report(10)
        assert not seen.paths
    word = "off" if switch == "disabled" else "offline"
    assert capfd.readouterr().err == f"W&B is {word}: {switch} in {tmp_path}/here/wandb/settings\n"
    assert bool(list(logger.directory.glob("wandb/offline-run-*"))) == (switch == "offline")
