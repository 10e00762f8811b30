"""The TAB key: what is offered, that nothing heavy is asked for it, and the real bash."""

from __future__ import annotations

import os
import pty
import select
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.cli.refusal import refusal
from vlmprune import cli
from vlmprune.cli import COMMANDS
from vlmprune.cli.completion import SCRIPTS, candidates
from vlmprune.config.arguments import read_fields
from vlmprune.config.registry import find_choices

BASH = shutil.which("bash")
FOLDER = Path(sys.executable).parent  # of the vlmprune command

OFFERED = {
    "vlmprune r": ["run"],
    "vlmprune": [*COMMANDS, "--help", "--version"],
    "vlmprune run met": ["method=", "method."],
    "vlmprune run method=py": ["method=pyramiddrop"],
    "vlmprune run method=": [f"method={name}" for name in find_choices("method")],
    "vlmprune run model=llava-1.5": ["model=llava-1.5-13b", "model=llava-1.5-7b"],
    "vlmprune run benchmark=pop": ["benchmark=pope"],
    "vlmprune sweep method=cls,fa": ["method=cls,fastv"],
    "vlmprune sweep experiment=vtc": ["experiment=vtc_cls"],
    "vlmprune sweep launcher=gpu": ["launcher=gpus"],
    "vlmprune sweep launcher=slurm launcher.part": ["launcher.partition="],
    "vlmprune sweep fail_fast=t": ["fail_fast=true"],
    "vlmprune run method=fastv method.": ["method.k="],
    "vlmprune run method.": ["method.keep_order="],  # of the default choice
    "vlmprune sweep method=fastv,cls method.k": ["method.k=", "method.keep_order="],
    "vlmprune run share_prefix=": ["share_prefix=true", "share_prefix=false"],
    "vlmprune run budget=": ["budget=published", "budget=average"],
    "vlmprune run model.dtype=f": ["model.dtype=float32", "model.dtype=float16"],
    "vlmprune run model=llava-next-vicuna-7b model.packing=": ["model.packing=checkpoint", "model.packing=fastervlm"],
    "vlmprune run model=path model.newline=": ["model.newline=drop", "model.newline=keep"],
    "vlmprune run flops.": ["flops.convention="],
    "vlmprune run flops.convention=f": ["flops.convention=fastervlm"],
    "vlmprune run features.": ["features.memory_mb=", "features.folder="],
    "vlmprune run logger.mode=o": ["logger.mode=online", "logger.mode=offline"],
    "vlmprune run logger.project=": [],  # any text
    "vlmprune run logger.nonsense=": [],
    "vlmprune run method.keep_order=": ["method.keep_order=spatial", "method.keep_order=score"],  # of a base class
    "vlmprune run method=compose method.before=p": [
        *("method.before=pitome", "method.before=pool"),
        *("method.before=prumerge", "method.before=prumerge_plus"),
    ],
    "vlmprune run method=compose method.inside=s": [
        *("method.inside=scm", "method.inside=sparsevlm", "method.inside=sparsevlm_plus"),
    ],
    "vlmprune run benchmark=gqa benchmark.streaming=": ["benchmark.streaming=true", "benchmark.streaming=false"],
    "vlmprune sweep launcher=slurm launcher.cluster=": ["launcher.cluster=slurm", "launcher.cluster=local"],
    "vlmprune run --": ["--cfg", "--dry-run", "--multirun", "--config-dir", "--help"],
    "vlmprune run --config-dir ": [],  # bash then offers folders
    "vlmprune run --config-dir /da": [],
    "vlmprune run --dry": ["--dry-run"],
    "vlmprune compare --pub": ["--published"],
    "vlmprune compare format=l": ["format=latex"],
    "vlmprune list mo": ["models"],
    "vlmprune list models methods fas": ["fastv"],
    "vlmprune list experiments vt": ["vtc_cls"],
    "vlmprune speed speed.new": ["speed.new_tokens="],
    "vlmprune score x ju": ["judge."],
    "vlmprune score x judge.m": ["judge.model="],
    "vlmprune speed chart=": ["chart=none"],
    "vlmprune speed spee": ["speed."],
    "vlmprune show fi": ["file="],
    "vlmprune show devi": ["device="],
    "vlmprune show orientation=": ["orientation=upright", "orientation=stored"],
    "vlmprune wandb-report proj": ["project="],
    "vlmprune completion f": ["fish"],
    "vlmprune nonsense x": [],
    "vlmprune run benchmark.path=/data/": [],  # bash then offers files
    "vlmprune run method=nonsense": [],
    "": [*COMMANDS, "--help", "--version"],
}


@pytest.mark.parametrize("line", OFFERED)
def test_what_is_offered(line):
    assert candidates(line) == OFFERED[line]


def test_commands_are_offered():
    allowed = refusal("nonsense").rpartition("allowed: ")[2].split(", ")
    assert allowed == sorted(candidates("vlmprune "))


@pytest.mark.parametrize("command", COMMANDS)
def test_options_are_those_that_the_command_takes(command):
    allowed = refusal(command, "--nonsense").rpartition("allowed: ")[2].split(", ")
    assert sorted(allowed) == sorted(candidates(f"vlmprune {command} -"))


@pytest.mark.parametrize("command", sorted(COMMANDS.keys() - {"run", "sweep", "completion"}))
def test_settings_are_those_that_the_command_takes(command):
    allowed = refusal(command, "nonsense=1").rpartition("allowed: ")[2].split(", ")
    lines = (f"vlmprune {command} ", *(f"vlmprune {command} {key}" for key in allowed if "." in key))
    offered = {word for line in lines for word in candidates(line) if word.endswith("=")}
    assert offered == {f"{key}=" for key in allowed}


def test_a_users_own_choices(tmp_path):
    (tmp_path / "method").mkdir()
    (tmp_path / "method/mine.yaml").write_text("_target_: never.Imported\ninfo: {title: x}\nsharpness: 2\n")
    for given in (f"--config-dir {tmp_path}", f"--config-dir={tmp_path}"):
        assert candidates(f"vlmprune run {given} method=mi") == ["method=mine"]
        assert candidates(f"vlmprune run {given} method=mine method.") == ["method.sharpness="]
    for target in ("never.Imported", "Imported", "vlmprune.methods.never.Imported"):
        (tmp_path / "method/mine.yaml").write_text(f"_target_: {target}\nsharpness: 2\n")
        assert candidates(f"vlmprune run --config-dir {tmp_path} method=mine method.sharpness=") == []
    (tmp_path / "method/broken.yaml").write_text("{")
    assert candidates(f"vlmprune run --config-dir {tmp_path} method=broken method.") == []
    (tmp_path / "method/cls.yaml").write_text("x: 1")  # which `run` would refuse
    assert candidates(f"vlmprune run --config-dir {tmp_path} method=c") == []


def test_neither_help_nor_completion_imports_anything_heavy():
    asked = [["--help"], *([command, "--help"] for command in COMMANDS), ["--version"], ["completion", "zsh"]]
    asked += [["complete", line] for line in OFFERED]
    code = f"""
import sys
from vlmprune.cli import main
assert all(main(arguments) == 0 for arguments in {asked!r})
heavy = {{"torch", "transformers", "hydra", "omegaconf", "numpy", "rich", "wandb", "datasets", "PIL", "matplotlib"}}
sys.exit(str(heavy & sys.modules.keys()) if heavy & sys.modules.keys() else 0)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_explains_itself_with_examples(command, capsys):
    assert cli.main([command, "--help"]) == 0
    shown = capsys.readouterr().out
    assert shown.startswith(f"vlmprune {command}") and max(map(len, shown.splitlines())) <= 120
    examples = [line for line in shown.splitlines() if f"vlmprune {command}" in line and line.startswith("  ")]
    assert examples, "no example"
    typed = [key for each in read_fields(COMMANDS[command].module.Settings) for key in [*each.keys, each.option]]
    assert [key for key in typed if key not in shown] == []


class TestScripts:
    @pytest.mark.parametrize("shell", SCRIPTS)
    def test_printed(self, shell, capsys):
        assert cli.main(["completion", shell]) == 0
        script = capsys.readouterr().out
        assert script == SCRIPTS[shell] and "complete" in script and "2>/dev/null" in script

    @pytest.mark.parametrize("shell", ["zsh", "fish"])
    def test_the_shell_takes_it(self, shell):
        if shutil.which(shell) is None:
            pytest.skip(f"{shell} is not installed")
        check = "autoload -U compinit; compinit -D; source /dev/stdin" if shell == "zsh" else "source /dev/stdin"
        subprocess.run([shell, "-c", check], input=SCRIPTS[shell], text=True, check=True)


@pytest.mark.skipif(BASH is None, reason="bash is not installed")
class TestBash:
    """An interactive bash on a terminal, keys pressed."""

    def press(self, folder: Path, keys: str) -> str:
        """The command line after `keys`, then made the argument of echo and printed."""
        environment = os.environ | {"PATH": f"{FOLDER}:{os.environ['PATH']}", "TERM": "dumb", "PS1": "> "}
        process, terminal = pty.fork()
        if process == 0:
            os.chdir(folder)
            os.execve(str(BASH), ["bash", "--noprofile", "--norc", "-i"], environment)
        try:
            setup = 'bind "set enable-bracketed-paste off"; stty cols 200; source <(vlmprune completion bash)'
            self.send(terminal, f'{setup}; echo re""ady\n', "ready\r\n")
            shown = self.send(terminal, keys + "\x01echo '[\x05]'; echo do\"\"ne\n", "done\r\n")
        finally:
            os.close(terminal)
            os.waitpid(process, 0)
        return shown.rsplit("[", 1)[1].partition("]")[0]

    def send(self, terminal: int, keys: str, until: str) -> str:
        os.write(terminal, keys.encode())
        shown, deadline = "", time.monotonic() + 60
        while until not in shown:
            assert time.monotonic() < deadline, shown
            if select.select([terminal], [], [], 1)[0]:
                shown += os.read(terminal, 65536).decode(errors="replace")
        return shown

    @pytest.mark.parametrize(
        ("keys", "becomes"),
        [
            ("vlmprune ru\tmeth\t", "vlmprune run method"),  # method= or method.
            ("vlmprune run method=py\tratio=0.5", "vlmprune run method=pyramiddrop ratio=0.5"),
            ("vlmprune sweep method=cls,fa\trat\t0.9", "vlmprune sweep method=cls,fastv ratio=0.9"),
            ("vlmprune run benchmark.path=my-im\t", "vlmprune run benchmark.path=my-images/"),
        ],
    )
    def test_keys(self, tmp_path, keys, becomes):
        (tmp_path / "my-images").mkdir()
        assert self.press(tmp_path, keys) == becomes
