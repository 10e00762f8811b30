"""Calls into a user's own class, with checked results and with errors that name the user's code.

A wrong result is a `BrokenContract`, one line. An exception of the user's code keeps its type; `call` notes on it the
class and method that raised it, and `user_traceback` cuts its traceback to the user's frames.
"""

from __future__ import annotations

import sysconfig
import traceback
from pathlib import Path
from typing import Any, NoReturn

from vlmprune.errors import UserError, error_text

STANDARD = sysconfig.get_path("stdlib")
PACKAGES = {"site-packages", "dist-packages"}
INTERNAL_PACKAGES = ("vlmprune", "abc", "builtins", "typing")  # packages of base classes that are not a user's
SHOWN = 60  # characters of a value in a message


class BrokenContract(UserError, ValueError):
    """Value from a user's class that its base class does not allow. The message names class, method and value."""


def is_own(cls: type) -> bool:
    """Return True if `cls`, or a class that it is derived from, is not vlmprune's."""
    return any(base.__module__.partition(".")[0] not in INTERNAL_PACKAGES for base in cls.__mro__)


def call(owner: Any, name: str, *args: Any, about: str = "", function: Any = None, **kwargs: Any) -> Any:
    """Call `owner`'s method `name` and return its result. about: the sample, for messages.

    owner: an object or a class. function: called instead of the method, which messages name all the same.

    Raises BrokenContract if it does not take these arguments, RuntimeError if it exits; any other exception is its own.
    """
    try:
        return (getattr(owner, name) if function is None else function)(*args, **kwargs)
    except SystemExit as error:
        own = RuntimeError(f"{name} calls sys.exit({error.code})").with_traceback(error.__traceback__)
        annotate(own, class_of(owner), name, about)
        raise own from error
    except Exception as error:
        if isinstance(error, TypeError) and error.__traceback__ is not None and error.__traceback__.tb_next is None:
            raise BrokenContract(
                f"{qualified_name(owner, name, about)}: cannot be called ({error_text(error)})"
            ) from error
        annotate(error, class_of(owner), name, about)
        raise


def class_of(owner: Any) -> type:
    """Return the class of an object, or `owner` itself if it is a class."""
    return owner if isinstance(owner, type) else type(owner)


def read_attribute(owner: Any, name: str) -> Any:
    """Return the attribute or property `name` of `owner`. Raise BrokenContract if it is missing."""
    try:
        return getattr(owner, name)
    except Exception as error:
        if isinstance(error, AttributeError) and not own_frames(error, type(owner)):
            raise BrokenContract(f"{qualified_name(owner, name)} is missing") from error
        annotate(error, type(owner), name, "")
        raise


def refuse(owner: Any, name: str, came: Any, expected: str, about: str = "") -> NoReturn:
    """Raise BrokenContract: `owner`'s method or attribute `name` gave `came`. about: the sample, or a part of it."""
    raise BrokenContract(f"{qualified_name(owner, name, about)}: {describe_value(came)}; expected {expected}")


def qualified_name(owner: Any, name: str, about: str = "") -> str:
    """Return 'Class.method', with `about` in brackets."""
    return f"{class_of(owner).__name__}.{name}" + (f" ({about})" if about else "")


def describe_value(value: Any) -> str:
    """Return a text with type, shape and dtype of an array or tensor, or the type and value of anything else."""
    kind = type(value).__name__
    if hasattr(value, "shape") and hasattr(value, "dtype") and not isinstance(value, type):
        size = tuple(value.shape)
        content = f" of value {value}" if size == () else ""
        device = f" on {value.device}" if str(getattr(value, "device", "cpu")) != "cpu" else ""
        return f"{kind} of shape {size}, {value.dtype}{device}{content}"
    try:
        text = repr(value)
    except Exception as error:  # a user's __repr__
        text = f"whose repr() raises {type(error).__name__}"
    if value is None or isinstance(value, bool):
        return text
    return f"{kind} {text if len(text) <= SHOWN else text[:SHOWN] + '...'}"


def annotate(error: BaseException, cls: type, name: str, about: str) -> None:
    """Note on `error` the method that raised it, unless an inner call did so or no frame is the user's."""
    if not isinstance(error, UserError) and not hasattr(error, "own_code") and own_frames(error, cls):
        error.own_code = cls, name, about  # type: ignore[attr-defined]
        error.add_note(f"raised by {qualified_name(cls, name, about)}")


def own_frames(error: BaseException, cls: type) -> traceback.StackSummary:
    """Return the frames of the user's files in the traceback of `error`, below `call`: those of the package of `cls`,
    or of no installed package.
    """
    package, below, kept = cls.__module__.partition(".")[0], False, []
    for frame, line in traceback.walk_tb(error.__traceback__):
        module, code = frame.f_globals.get("__name__", "").partition(".")[0], frame.f_code
        generated = (code.co_filename, code.co_name) == ("<string>", "__init__")  # by @dataclass
        installed = code.co_filename.startswith(("<frozen", STANDARD)) or PACKAGES.intersection(
            Path(code.co_filename).parts
        )
        if below and not generated and module != "vlmprune" and (module == package or not installed):
            kept.append((frame, line))
        below = below or code.co_filename == __file__
    return traceback.StackSummary.extract(iter(kept))


def failing_method(error: BaseException) -> str | None:
    """Return the user's 'Class.method' that raised `error`, and the sample; None for any other exception."""
    if not hasattr(error, "own_code"):
        return None
    cls, name, about = error.own_code
    first = own_frames(error, cls)[0].name  # not always `name`: a base class's `select` calls the user's `score`
    return qualified_name(cls, first if hasattr(cls, first) else name, about)


def error_line(error: BaseException) -> str | None:
    """Return one line about an exception that a user's code raised; None for any other."""
    if (raiser := failing_method(error)) is None:
        return None
    kind = "SystemExit" if isinstance(error.__cause__, SystemExit) else type(error).__name__
    return f"{raiser} raised {kind}: {error_text(error)}" if str(error) else f"{raiser} raised {kind}"


def user_traceback(error: BaseException) -> str | None:
    """Return the traceback of an exception of a user's code, cut to the user's frames; None for any other exception."""
    if (line := error_line(error)) is None:
        return None
    shown = traceback.format_exception_only(type(error), error)[:1]
    frames = own_frames(error, error.own_code[0]).format()  # type: ignore[attr-defined]
    last = f"vlmprune: {line}; every answer is kept: once it is corrected, the same command resumes"
    return "".join(["Traceback (most recent call last):\n", *frames, *shown, last])
