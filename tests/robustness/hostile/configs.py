"""A folder of someone else's YAML files, given with --config-dir."""

from __future__ import annotations

import os
import socket
from collections.abc import Callable
from functools import partial
from pathlib import Path

from tests.robustness.hostile.table import Hostile

case = partial(Hostile, "config files")

CHOSEN = {  # the command that reads own/GROUP/mine.yaml
    "model": ("run", "model=mine", "method=none"),
    "method": ("run", "method=mine", "ratio=0.5"),
    "benchmark": ("run", "benchmark=mine", "method=none"),
    "logger": ("run", "logger=mine", "method=none", "limit=2"),
    "launcher": ("sweep", "launcher=mine", "method=none"),
    "experiment": ("sweep", "experiment=mine"),
}
CLASS = "_target_: vlmprune.methods.cls.ClsAttention\n"
BILLION = "a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n" + "".join(
    f"a{n + 1}: &a{n + 1} [{', '.join([f'*a{n}'] * 10)}]\n" for n in range(9)
)
MERGED = "a0: &a0 {x: 1}\n" + "".join(
    f"a{n + 1}: &a{n + 1} {{{', '.join(f'k{k}: *a{n}' for k in range(10))}}}\n" for n in range(9)
)
CONTENTS: dict[str, str | bytes] = {
    "nested anchors": BILLION,
    "nested anchors of mappings": MERGED,
    "an alias of itself": "a: &a [*a]\n",
    "a mapping in itself": "&a {b: *a}\n",
    "100,000 brackets": "a: " + "[" * 100_000,
    "100,000 braces": "a: " + "{a: " * 100_000,
    "50,000 dashes": "- " * 50_000,
    "not UTF-8": b"a: \xff\xfe\n",
    "UTF-16": "a: 1\n".encode("utf-16"),
    "a NUL": "a: \0\n",
    "a tab": "a:\n\t- 1\n",
    "keys given twice": "a: 1\na: 2\n",
    "an unclosed bracket": "a: [1\n",
    "a Python object": "a: !!python/object/apply:os.system ['touch hacked']\n",
    "a tag of its own": "a: !mine 3\n",
    "a set": "a: !!set {x, y}\n",
    "binary data": "a: !!binary aGFsbG8=\n",
    "a list": "- a\n- b\n",
    "a number": "3\n",
    "a text": "method\n",
    "two documents": "a: 1\n---\nb: 2\n",
    "an unknown alias": "a: *nothing\n",
    "a key that is null": "null: 1\n",
    "a key that is a number": "1: 2\n",
    "a key that is true": "true: 2\n",
    "a key that is a list": "? [a, b]\n: 1\n",
    "a key of brackets": "{a: 1}: 2\n",
    "an unclosed interpolation": "a: ${seed\n",
    "a number of 5,000 digits": "a: " + "9" * 5000 + "\n",
    "a percent sign": "%YAML 9.9\n---\na: 1\n",
}


Content = str | bytes | Callable[[Path], object]  # a function makes the file


def put(file: Path, content: Content) -> None:
    """Make a file, and the folder that it is in."""
    file.parent.mkdir(parents=True, exist_ok=True)
    if callable(content):
        content(file)
    else:
        file.write_bytes(content.encode() if isinstance(content, str) else content)


def written(group: str, content: Content) -> Callable[[Path], None]:
    """own/GROUP/mine.yaml with this content."""
    return lambda folder: put(folder / "own" / group / "mine.yaml", content)


def _device(file: Path) -> None:
    file.symlink_to("/dev/zero")


def _sparse(file: Path) -> None:
    with open(file, "wb") as handle:
        handle.truncate(2**30)


def _socket(file: Path) -> None:
    before = Path.cwd()
    os.chdir(file.parent)  # its path may be longer than an address
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(file.name)
    os.chdir(before)


FILES: dict[str, Callable[[Path], object]] = {
    "a pipe": os.mkfifo,
    "a folder": Path.mkdir,
    "a device": _device,
    "a sparse file of 1 GB": _sparse,
    "17 MB": lambda file: file.write_text("a: 1 # a comment\n" * 1_000_000),
    "a broken link": lambda file: file.symlink_to("nothing"),
    "a link to itself": lambda file: file.symlink_to(file.name),
    "a socket": _socket,
}


def with_own(*words: str) -> tuple[str, ...]:
    """A command that reads the folder."""
    return (words[0], "--config-dir", "own", *words[1:])


def _chosen(group: str, name: str, content: Content, said: str = "mine", quick: bool = False) -> Hostile:
    return case(f"{group}: {name}", with_own(*CHOSEN[group]), (said,), written(group, content), quick=quick)


INFOS = {
    "model": ("3", "[a]", "text", "{family: [a]}", "{lacks: 3}", "{lacks: [1, 2]}", "{has_cls: maybe}", "{title: {}}"),
    "method": ("3", "[a]", "text", "{needs: 3}", "{needs: [1]}", "{stage: 3}", "{merges: 7}", "{title: [a]}"),
    "benchmark": ("3", "[a]", "{size: []}", "{needs_judge: 3}", "{title: {a: 1}}", "{hub: [3]}"),
    "experiment": ("3", "{title: [3]}"),
    "logger": ("[a]", "{title: [a]}"),
    "launcher": ("3", "{extra: {a: 3}}"),
}
OVERRIDES = {
    "null": "null",
    "a number": "3",
    "a text": "method=cls",
    "a mapping": "{method: cls}",
    "numbers": "[1, 2]",
    "lists": "[[method=cls]]",
    "mappings": "[{method: cls}]",
    "itself": "['experiment=mine']",
    "a launcher": "['launcher=slurm']",
    "100,000 characters": f"['ratio={'9' * 100_000}']",
    "10,000 of them": f"[{', '.join(['ratio=0.5'] * 10_000)}]",
    "an option": "['--config-dir=/']",
    "no setting": "['method']",
    "nan": "[.nan]",
}
TARGETS = {
    "null": "null",
    "a number": "3",
    "a list": "[os.system]",
    "nothing": "''",
    "a dot": "'.'",
    "dots": "'..a.B'",
    "no module": "ClsAttention",
    "an unknown module": "no.such.module.Class",
    "spaces": "'os . system'",
    "brackets": "'os.system[red]'",
    "a path": "../../etc/passwd.X",
    "200,000 characters": "a." * 100_000 + "B",
    "control characters": '"os\\0.system"',
}
DEFAULTS = {
    "a number": "3",
    "a text": "cls",
    "itself": "[mine]",
    "itself, from the top": "[/method/mine]",
    "an unknown one": "[nothing]",
    "numbers": "[1, 2]",
    "null": "[null]",
    "lists": "[[cls]]",
    "two keys": "[{a: b, c: d}]",
    "a folder above": "[../../../etc/passwd]",
    "Hydra's own": "[{override /hydra/launcher: joblib}]",
    "another group": "[{override /method: fastv}]",
    "a package": "['cls@_global_']",
    "an interpolation": "[{/method: '${oc.env:HOME}'}]",
}
PACKAGES = {
    "at the top": "# @package _global_\n",
    "in Hydra": "# @package hydra\n",
    "in another group": "# @package benchmark\n",
    "nowhere": "# @package ..\n",
    "of brackets": "# @package [a]{b}\n",
}


def _two(method: str, extra: str, content: Content) -> Callable[[Path], None]:
    """own/method/mine.yaml, and a second file that it names."""

    def prepare(folder: Path) -> None:
        written("method", method)(folder)
        put(folder / "own" / extra, content)

    return prepare


def _link_folder(group: str, target: str) -> Callable[[Path], None]:
    def prepare(folder: Path) -> None:
        (folder / "own").mkdir()
        (folder / "own" / group).symlink_to(target)

    return prepare


BROKEN = "a: [1\n"
CASES = [
    *(
        _chosen(group, name, content, quick=group == "method" and name in ("nested anchors", "100,000 brackets"))
        for name, content in CONTENTS.items()
        for group in (CHOSEN if name in ("nested anchors", "a list", "not UTF-8") else ("method", "experiment"))
    ),
    *(
        _chosen(group, name, make, quick=name == "a pipe" and group == "benchmark")
        for name, make in FILES.items()
        for group in ("benchmark", "experiment")
    ),
    *(
        case(f"list {group}s: {name}", with_own("list", f"{group}s"), ("mine.yaml",), written(group, content), code=0)
        for group in CHOSEN
        for name, content in (
            ("nested anchors", BILLION),
            ("an unclosed bracket", BROKEN),
            ("a pipe", os.mkfifo),
            ("a list", "[a]"),
            ("no permission, or a folder", Path.mkdir),
        )
    ),
    *(
        case(
            f"complete {group}: {name}",
            with_own("complete", "vlmprune run --config-dir own", *words),
            (),
            written(group, content),
            code=0,
        )
        for group, words in (("method", ("method=mine", "method.")), ("benchmark", ("benchmark=mine", "benchmark.")))
        for name, content in (
            ("nested anchors", MERGED),
            ("100,000 brackets", CONTENTS["100,000 brackets"]),
            ("a pipe", os.mkfifo),
            ("a device", _device),
            ("a sparse file", _sparse),
        )
    ),
    *(
        case(
            f"another choice beside {name}",
            with_own("run", "method=cls", "ratio=0.5", "--cfg"),
            ("ratio: 0.5",),
            prepare,
            code=0,
        )
        for name, prepare in (
            ("a pipe", written("method", os.mkfifo)),
            ("nested anchors", written("method", BILLION)),
            ("a broken file", written("benchmark", BROKEN)),
            ("a group that is a pipe", lambda folder: ((folder / "own").mkdir(), os.mkfifo(folder / "own" / "method"))),
            ("a group that is a circle", _link_folder("method", "method")),
            ("names that differ in case", _two(CLASS, "method/Mine.yaml", CLASS)),
            ("a name with a line end", _two(CLASS, "method/a\nb.yaml", CLASS)),
        )
    ),
    *(
        case(
            f"list {group}s: info: {info}",
            with_own("list", f"{group}s"),
            ("mine.yaml", "info"),
            written(group, f"_target_: a.B\noverrides: []\ninfo: {info}\n"),
            code=0,
        )
        for group, infos in INFOS.items()
        for info in infos
    ),
    *(_chosen(group, f"info: {infos[0]}", f"{CLASS}info: {infos[0]}\n", "info") for group, infos in INFOS.items()),
    *(_chosen("model", f"info: {info}", f"name: mine\ninfo: {info}\n", "info") for info in INFOS["model"][1:]),
    *(
        _chosen("experiment", f"overrides: {name}", f"info: {{title: a}}\noverrides: {value}\n", "", name == "numbers")
        for name, value in OVERRIDES.items()
    ),
    _chosen("experiment", "without overrides", "info: {title: a}\n", "overrides"),
    *(_chosen("method", f"_target_: {name}", f"_target_: {value}\n", "_target_") for name, value in TARGETS.items()),
    *(
        _chosen("launcher", f"_target_: {name}", f"_target_: {TARGETS[name]}\n", "_target_")
        for name in list(TARGETS)[:6]
    ),
    *(_chosen("method", f"defaults: {name}", f"{CLASS}defaults: {value}\n", "") for name, value in DEFAULTS.items()),
    *(_chosen("method", f"package {name}", f"{line}{CLASS}", "") for name, line in PACKAGES.items()),
    *(
        case(
            f"defaults that name {name}",
            with_own(*CHOSEN["method"]),
            ("extra",),
            _two(f"defaults: [/extra/bad]\n{CLASS}", "extra/bad.yaml", content),
        )
        for name, content in (
            ("nested anchors", BILLION),
            ("a pipe", os.mkfifo),
            ("a device", _device),
            ("a sparse file", _sparse),
            ("brackets", CONTENTS["100,000 brackets"]),
            ("a list", "[a]"),
            ("what is not UTF-8", CONTENTS["not UTF-8"]),
        )
    ),
    *(
        _chosen("method", name, CLASS + lines, said)
        for name, lines, said in (
            ("a setting that is nan", "keep_order: .nan\n", "keep_order"),
            ("a setting that is a date", "keep_order: 2020-01-01\n", "keep_order"),
            ("a setting of its own", "nothing: 1\n", "nothing"),
            ("hydra", "hydra: {run: {dir: /tmp}}\n", "hydra"),
            ("an interpolation of itself", "keep_order: ${method.keep_order}\n", "keep_order"),
            ("doubling interpolations", "".join(f"a{n}: ${{.a{n + 1}}}${{.a{n + 1}}}\n" for n in range(60)), ""),
            ("a created dictionary", "keep_order: ${oc.create:{a: 1}}\n", "keep_order"),
            ("a missing value", "keep_order: ???\n", "keep_order"),
            ("a decoded call", "keep_order: ${oc.decode:'${oc.env:HOME}'}\n", "keep_order"),
            ("a partial object", "_partial_: true\n", "_partial_"),
            ("arguments", "_args_: [1]\n", "_args_"),
        )
    ),
    case(
        "own run.yaml with Hydra's keys",
        with_own(*CHOSEN["method"]),
        (),
        _two("defaults: [/run]\n" + CLASS, "run.yaml", "hydra: {run: {dir: /tmp}}\n"),
    ),
]
