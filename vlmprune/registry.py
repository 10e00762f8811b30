"""The config groups are the registries: one YAML per model, method, benchmark and logger.

Reads configs/ as data, without Hydra or torch, so that `list` and error messages are quick. A choice whose YAML has a
`_target_` is built from that class, which must be one of the group's kind.
"""

from __future__ import annotations

import dataclasses
import importlib
import types
import typing
from importlib.resources import files
from pathlib import Path
from typing import Any, Literal

from vlmprune.errors import UserError, choose, nearest

if typing.TYPE_CHECKING:
    from vlmprune.methods.base import Method

GROUPS = ("model", "method", "benchmark", "logger")
# Keys of a choice's YAML that describe it, and are not arguments of its class.
DESCRIPTION = frozenset({"_target_", "info", "name"})


def options(group: str, config_dir: str | None = None) -> dict[str, Path]:
    """Choice name -> YAML file, from configs/ and a user's own config folder."""
    shipped = {path.stem: path for path in sorted((Path(str(files("vlmprune.configs"))) / group).glob("*.yaml"))}
    if config_dir is None:
        return shipped
    own = {path.stem: path for path in sorted((Path(config_dir) / group).glob("*.yaml"))}
    for name in own.keys() & shipped.keys():
        raise UserError(f"{own[name]}: {group}={name} is vlmprune's own choice; give yours another name")
    return shipped | own


def read(group: str, name: str, config_dir: str | None = None) -> dict[str, Any]:
    """One choice's YAML as plain data, without interpolations resolved. Raises UserError for an unknown name."""
    from omegaconf import OmegaConf
    from omegaconf.errors import OmegaConfBaseException
    from yaml import YAMLError

    found = options(group, config_dir)
    file = found[choose(name, found, group)]
    try:
        data = OmegaConf.to_container(OmegaConf.load(file))
    except (YAMLError, OmegaConfBaseException, OSError) as error:
        raise UserError(f"{file} is not valid YAML: {' '.join(str(error).split())}") from error
    if not isinstance(data, dict):
        raise UserError(f"{file} must hold key: value lines")
    return {str(key): value for key, value in data.items()}


def target_class(target: str, base: type) -> type:
    """Import `package.module.Class`; raises UserError unless it is a subclass of `base`."""
    module_name, _, class_name = target.rpartition(".")
    try:
        found = getattr(importlib.import_module(module_name), class_name)
    except (ImportError, AttributeError, ValueError) as error:
        raise UserError(f"_target_ '{target}' cannot be imported: {error}") from error
    if not (isinstance(found, type) and issubclass(found, base)):
        raise UserError(f"_target_ '{target}' is not a subclass of {base.__module__}.{base.__qualname__}")
    return found


def construct(cls: type, values: dict[str, Any], where: str) -> Any:
    """Build the dataclass `cls` from `values`, each checked against its type hint. Raises UserError by name.

    where: prefix of the names in messages, as the user types them ("method." or "" for the top level).
    """
    hints = typing.get_type_hints(cls)
    fields = {field.name: hints[field.name] for field in dataclasses.fields(cls) if field.init}
    for name, value in values.items():
        if name not in fields:
            raise UserError(
                f"{where}{name}: unknown setting{nearest(name, fields)}; allowed: {', '.join(sorted(fields))}"
            )
        check_type(f"{where}{name}", value, fields[name])
    absent = [f.name for f in dataclasses.fields(cls) if f.init and f.name not in values and _required(f)]
    if absent:
        raise UserError(f"{where}{absent[0]}: missing; the choice's YAML must give it")
    # YAML has ints where floats are meant, and lists where tuples are.
    converted = {name: _convert(value, fields[name]) for name, value in values.items()}
    try:
        return cls(**converted)
    except ValueError as error:  # a dataclass that checks its own values
        raise UserError(f"{where.rstrip('.')}: {error}" if where else str(error)) from error


def _required(field: dataclasses.Field) -> bool:
    return field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING


def check_type(name: str, value: Any, hint: Any) -> None:
    """Raise a UserError unless `value` fits a type hint made of scalars, Literal, None, list, tuple and dict."""
    if not _fits(value, hint):
        raise UserError(f"{name}={value}: expected {_describe(hint)}{_suggest(value, hint)}")


def _alternatives(hint: Any) -> tuple[Any, ...]:
    return typing.get_args(hint) if typing.get_origin(hint) in (typing.Union, types.UnionType) else (hint,)


def _fits(value: Any, hint: Any) -> bool:
    for option in _alternatives(hint):
        origin = typing.get_origin(option) or option
        if origin is Any:
            return True
        if origin is Literal:
            if value in typing.get_args(option):
                return True
        elif origin is types.NoneType:
            if value is None:
                return True
        elif origin is float:
            if isinstance(value, int | float) and not isinstance(value, bool):
                return True
        elif origin is int:
            if isinstance(value, int) and not isinstance(value, bool):
                return True
        elif origin in (tuple, list):
            if isinstance(value, list | tuple):
                items = [item for item in typing.get_args(option) if item is not Ellipsis]
                if not items or all(any(_fits(v, item) for item in items) for v in value):
                    return True
        elif isinstance(value, origin):
            return True
    return False


def _describe(hint: Any) -> str:
    names = []
    for option in _alternatives(hint):
        if typing.get_origin(option) is Literal:
            names += [str(value) for value in typing.get_args(option)]
        else:
            names.append(
                {types.NoneType: "null", float: "a number", int: "an integer", str: "text"}.get(
                    option, getattr(option, "__name__", str(option))
                )
            )
    return " or ".join(names)


def _suggest(value: Any, hint: Any) -> str:
    literals = [
        str(v)
        for option in _alternatives(hint)
        if typing.get_origin(option) is Literal
        for v in typing.get_args(option)
    ]
    return nearest(str(value), literals)


def _convert(value: Any, hint: Any) -> Any:
    if isinstance(value, list) and any((typing.get_origin(o) or o) is tuple for o in _alternatives(hint)):
        return tuple(value)
    if type(value) is int and float in _alternatives(hint) and int not in _alternatives(hint):
        return float(value)
    return value


def target_of(config: dict[str, Any], choice: str) -> str:
    """The `_target_` of a choice. Raises UserError where there is none."""
    target = config.get("_target_")
    if not isinstance(target, str):
        raise UserError(f"{choice}: its YAML has no _target_ (package.module.Class)")
    return target


def check_amount(ratio: float | None, keep: int | None) -> None:
    """Raise a UserError unless ratio is in 0..1, keep is not negative, and at most one of them is given."""
    if ratio is not None and keep is not None:
        raise UserError(f"ratio={ratio} and keep={keep}: give one of them, not both")
    if ratio is not None and not 0 <= ratio <= 1:  # also false for nan
        raise UserError(f"ratio={ratio}: the fraction of visual tokens removed; allowed: 0 to 1")
    if keep is not None and keep < 0:
        raise UserError(f"keep={keep}: the number of visual tokens kept; allowed: 0 or more")


def build_method(
    name: str,
    *,
    ratio: float | None = None,
    keep: int | None = None,
    config: dict[str, Any] | None = None,
    config_dir: str | None = None,
    **settings: Any,
) -> Method:
    """The method `name` of the config group, with its YAML's settings (or `config`'s) overridden by `settings`."""
    from omegaconf import OmegaConf

    from vlmprune.methods.base import Method

    if config is None:
        # YAMLs may refer to the run's own settings, such as ${seed}; here those have their defaults.
        root = OmegaConf.create({"seed": 0, "method": read("method", name, config_dir)})
        resolved = OmegaConf.to_container(root.method, resolve=True)
        assert isinstance(resolved, dict)
        config = {str(key): value for key, value in resolved.items()}
    check_type("ratio", ratio, float | None)
    check_type("keep", keep, int | None)
    check_amount(ratio, keep)
    method_class = target_class(target_of(config, f"method={name}"), Method)
    own = {key: value for key, value in config.items() if key not in DESCRIPTION}
    if method_class.stage == "none":  # type: ignore[attr-defined]
        if ratio or keep is not None:
            amount = f"keep={keep}" if ratio is None else f"ratio={ratio}"
            raise UserError(f"method=none keeps every token: drop {amount} or choose a method")
        ratio = None  # ratio=0 is what it does anyway, and must not be a run of its own
    return construct(method_class, own | settings | {"ratio": ratio, "keep": keep}, "method.")
