"""Registry of models, methods, benchmarks and loggers: the config groups, with one YAML per choice.

Reads configs/ as data, without Hydra or torch, so that `list` and error messages are quick. A choice whose YAML has a
`_target_` is built from that class, which must be a subclass of the group's base class.
"""

from __future__ import annotations

import dataclasses
import importlib
import re
import traceback
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from vlmprune.config.moved import current_target, explain_import
from vlmprune.config.typecheck import check_amount, check_type, construct, hints_of
from vlmprune.config.yaml_files import read_yaml
from vlmprune.errors import IdleSetting, UserError, check_choice, error_text

if TYPE_CHECKING:
    from vlmprune.methods.base import Method


GROUPS = ("model", "method", "benchmark", "logger")
# Keys of a choice's YAML that describe it, and are not arguments of its class.
DESCRIPTION = frozenset({"_target_", "info", "name"})
LONGEST = 500  # characters of a class's name with its package
NAMED = re.compile(r"[^\W\d]\w*(\.[^\W\d]\w*)+")


def find_choices(group: str, config_dir: str | None = None) -> dict[str, Path]:
    """Return the YAML file of each choice of a group by name, from configs/ and a user's own config folder."""
    shipped = {path.stem: path for path in sorted((Path(str(files("vlmprune.configs"))) / group).glob("*.yaml"))}
    if config_dir is None:
        return shipped
    own = {path.stem: path for path in sorted((Path(config_dir) / group).glob("*.yaml"))}
    for name in own.keys() & shipped.keys():
        raise UserError(f"{own[name]}: {group}={name} is vlmprune's own choice; give yours another name")
    return shipped | own


def read_choice(group: str, name: str, config_dir: str | None = None) -> dict[str, Any]:
    """Return one choice's YAML as plain data, with unresolved interpolations. Raise UserError for an unknown name."""
    from vlmprune.config.choice_schema import Choice, Experiment
    from vlmprune.typed_json import check_data

    file = find_choices(group, config_dir)[check_name(group, name, config_dir)]
    data = read_yaml(file)
    try:
        check_data(data, Experiment if group == "experiment" else Choice)
    except ValueError as error:
        raise UserError(f"{file}: {error}") from error
    return data


def check_name(group: str, name: str, config_dir: str | None = None) -> str:
    """Return `name` if it is a choice of a group.

    Raise UserError with the choices whose title or paper it names, or else the one of nearest spelling.
    """
    found = find_choices(group, config_dir)
    if name not in found and (meant := _find_by_title(group, name, config_dir)):
        hint = " or ".join(f"'{each}'" for each in meant)
        raise UserError(f"{group} '{name}' does not exist (did you mean {hint}?); allowed: {', '.join(sorted(found))}")
    return check_choice(name, found, group)


def _find_by_title(group: str, name: str, config_dir: str | None) -> list[str]:
    """Return the choices whose name, first word of the title, or paper is `name` but for case and punctuation.

    FasterVLM and 2412.01818 name cls. A title that is a part of `name` counts, as in LLaVA-PruMerge.
    """
    wanted = _letters(name)
    if len(wanted) < 3:
        return []
    parts = {}
    for choice, data in read_choices(group, config_dir)[0].items():
        info = data.get("info") or {}
        title, paper = str(info.get("title", "")), str(info.get("paper", ""))
        parts[choice] = [_letters(choice), _letters(re.split(r"[, ]", title)[0]), _letters(paper), paper[6:]]
    if spelled := [choice for choice, texts in parts.items() if texts[0] == wanted]:
        return spelled
    same = [choice for choice, texts in parts.items() if wanted in texts or name in texts[3:]]
    inside = [choice for choice, (_, title, *_) in parts.items() if len(title) > 4 and title in wanted]
    return same or (inside if len(inside) == 1 else [])


def _letters(text: str) -> str:
    """Return a text in lower case without punctuation but +, so that MM-Vet and mmvet are the same."""
    return "".join(letter for letter in text.lower() if letter.isalnum() or letter == "+")


def read_choices(group: str, config_dir: str | None = None) -> tuple[dict[str, dict[str, Any]], list[UserError]]:
    """Return the YAML of every choice by name, and the errors of those of a user's folder that cannot be read."""
    readable: dict[str, dict[str, Any]] = {}
    broken: list[UserError] = []
    for name in sorted(find_choices(group, config_dir)):
        try:
            readable[name] = read_choice(group, name, config_dir)
        except UserError as error:
            broken.append(error)
    return readable, broken


def target_class(target: str, base: type) -> type:
    """Import `package.module.Class` and return the class. Raise UserError unless it is a subclass of `base`.

    Importing runs the top level of the user's own module, as `import` does; nothing in it is called before the check.
    """
    if len(target) > LONGEST or not NAMED.fullmatch(target):
        raise UserError(f"_target_ '{target}' is no name of a class; expected package.module.Class")
    module_name, _, class_name = current_target(target).rpartition(".")
    try:
        found = getattr(importlib.import_module(module_name), class_name)
    except (ImportError, AttributeError, ValueError, SyntaxError, SystemExit) as error:
        reason = "it calls sys.exit()" if isinstance(error, SystemExit) else explain_import(error) or error
        raise UserError(f"_target_ '{target}' cannot be imported: {reason}") from error
    except Exception as error:  # the top level of a user's module
        last = traceback.extract_tb(error.__traceback__)[-1]
        where = f"{last.filename} line {last.lineno}: {type(error).__name__}: {error_text(error)}"
        raise UserError(f"_target_ '{target}' cannot be imported: {where}") from error
    if not (isinstance(found, type) and issubclass(found, base)):
        raise UserError(f"_target_ '{target}' is not a subclass of {base.__module__}.{base.__qualname__}")
    if found is base:
        raise UserError(f"_target_ '{target}' is the base class itself: name a subclass of it")
    if lacking := sorted(getattr(found, "__abstractmethods__", ())):
        raise UserError(f"_target_ '{target}' lacks {', '.join(f'{name}()' for name in lacking)}")
    return found


def check_recorded_target(target: str, group: str, config_dir: str | None) -> str:
    """Return `target`, as recorded in a run directory, if a choice of `group` names it too.

    Raises UserError for any other, so that a recorded name alone never imports a module.
    """
    choices, _ = read_choices(group, config_dir)
    targets = (choice.get("_target_") for choice in choices.values())
    current = current_target(target)
    if current not in {current_target(known) for known in targets if isinstance(known, str)}:
        raise UserError(f"_target_ '{target}' is of no {group} here: --config-dir DIR names a folder with yours")
    return current


def target_of(config: dict[str, Any], choice: str) -> str:
    """Return the `_target_` of a choice. Raise UserError if it has none."""
    target = config.get("_target_")
    if not isinstance(target, str):
        raise UserError(f"{choice}: its YAML has no _target_ (package.module.Class)")
    return target


def build_method(
    name: str,
    *,
    ratio: float | None = None,
    keep: int | None = None,
    positions: str = "published",
    scope: str = "published",
    budget: str = "published",
    config: dict[str, Any] | None = None,
    config_dir: str | None = None,
    run_seed: int = 0,
    where: str = "method.",
    **settings: Any,
) -> Method:
    """Return the method `name` of the config group, with the settings of its YAML or `config`, and then `settings`.

    budget is a setting of methods inside the language model, scope of those before it; elsewhere both are refused. A
    value of positions or scope that equals the published one counts as `published`, so that it names the same run.
    run_seed: value of ${seed} in a YAML. where: prefix of settings in messages.
    """
    from vlmprune.methods.base import Method

    if config is None:
        config = _resolve(read_choice("method", name, config_dir), run_seed)
    check_type("ratio", ratio, float | None)
    check_type("keep", keep, int | None)
    check_amount(ratio, keep)
    method_class = target_class(target_of(config, f"method={name}"), Method)
    own = {key: value for key, value in config.items() if key not in DESCRIPTION}
    if getattr(method_class, "stage", None) == "none":
        if ratio or keep is not None:
            amount = f"keep={keep}" if ratio is None else f"ratio={ratio}"
            raise UserError(f"method=none keeps every token: drop {amount} or choose a method")
        ratio = None  # ratio=0 changes nothing here, and must not give another run directory
    hints = hints_of(method_class)
    check_type("positions", positions, Literal["published", "renumber", "keep"])
    check_type("budget", budget, Literal["published", "average"])
    check_type("scope", scope, Literal["published", "tile", "image"])
    given = own | settings | {"ratio": ratio, "keep": keep}
    of_runs = {"positions": positions, "scope": scope, "budget": budget}
    for field in sorted(own.keys() & {"ratio", "keep", *of_runs}):
        raise UserError(f"{where}{field}={own[field]}: is a setting of the run; give {field}={own[field]} instead")
    for field, value in of_runs.items():
        if value not in ("published", getattr(method_class, f"published_{field}", None)):
            if why := _why_idle(field, name, method_class, hints):
                raise IdleSetting(field if where == "method." else where + field, value, why)
            given[field] = value
    for field in [field for field in given if hints.get(field) is Method]:  # a part of a composed method
        given[field] = _build_part(where + field, given[field], config_dir, run_seed)
    return construct(method_class, given, where)


def _resolve(method: dict[str, Any], run_seed: int) -> dict[str, Any]:
    """Return a method's YAML with the values of its ${...}, which need OmegaConf's parser unless each is ${seed}."""
    method = {key: run_seed if value == "${seed}" else value for key, value in method.items()}
    if "${" not in str(method):
        return method
    from omegaconf import OmegaConf

    resolved = OmegaConf.to_container(OmegaConf.create({"seed": run_seed, "method": method}).method, resolve=True)
    assert isinstance(resolved, dict)
    return {str(key): value for key, value in resolved.items()}


def with_settings(method: Method, settings: dict[str, Any]) -> Method:
    """Return a copy of a method object with `settings`, each checked as that of a name; None leaves a field as it is.

    Raises UserError for a field that the method does not have, and for an amount of a method that keeps every token.
    """
    given = {name: value for name, value in settings.items() if value is not None}
    if not given:
        return method
    cls = type(method)
    if getattr(cls, "stage", None) == "none" and any(given.get(name) for name in ("ratio", "keep")):
        raise UserError(f"{cls.__name__}() keeps every token: drop {', '.join(given)} or choose a method")
    fields = {field.name: getattr(method, field.name) for field in dataclasses.fields(method) if field.init}
    built: Method = construct(cls, fields | given, "")
    return built


def _why_idle(setting: str, name: str, method_class: type[Method], hints: dict[str, Any]) -> str:
    """Return why positions, scope or budget cannot change anything in this method; "" if it can."""
    stage = getattr(method_class, "stage", None)
    if stage == "none":
        return f"method={name} keeps every token"
    if setting in hints:
        return ""
    if setting == "budget":
        return f"every decoder layer sees what {name} keeps, so that the mean over them is the same"
    if stage == "vision":
        return f"{name} merges tokens inside the encoder, which sees each tile by itself"
    return f"{name} ranks all visual tokens of a prompt together, inside the language model"


def _build_part(where: str, choice: Any, config_dir: str | None, run_seed: int) -> Method:
    """Return the method of a name, or of a mapping of `name` and settings. Raise UserError for anything else."""
    if isinstance(choice, str):
        choice = {"name": choice}
    if not isinstance(choice, dict) or not isinstance(choice.get("name"), str):
        raise UserError(f"{where}={choice}: expected a method's name, or {{name: cls, setting: value}}")
    settings = {str(key): value for key, value in choice.items() if key != "name"}
    return build_method(choice["name"], config_dir=config_dir, run_seed=run_seed, where=f"{where}.", **settings)
