"""pictures/index.json of a run directory: the list of its pictures of kept tokens, with their questions and answers.

A run directory is untrusted input: entries for files outside its pictures folder are ignored.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, NotRequired

from pydantic import Field, with_config
from typing_extensions import TypedDict

from vlmprune.errors import error_text
from vlmprune.terminal import say
from vlmprune.typed_json import STRICT, Amount, Count, check_data, read_json

FOLDER, INDEX = "pictures", "index.json"  # of a run directory
FileName = Annotated[str, Field(pattern=r"^[^/\x00]+$")]


@with_config(STRICT)
class Picture(TypedDict):
    """One entry of the index."""

    file: Annotated[FileName, Field(description="name in the same folder")]
    id: Annotated[str, Field(description="of the question")]
    question: str
    answer: Annotated[str, Field(description="the reference")]
    prediction: str
    score: Annotated[Amount | None, Field(description="null if not judged")]
    kept: Annotated[Count, Field(description="visual tokens, at the last decoder layer")]
    total: Annotated[Count, Field(description="visual tokens, before pruning")]
    panels: Annotated[
        NotRequired[FileName], Field(description="the kept tokens alone, without words; not of runs of 0.2 and older")
    ]


def read_index(run: Path) -> list[Picture]:
    """Return the entries whose picture exists in the run's pictures folder. Print a note for each invalid entry."""
    file = run / FOLDER / INDEX
    pictures: list[Picture] = []
    try:
        for number, entry in enumerate(read_json(file, list[Any]), start=1):
            try:
                picture = check_data(entry, Picture)
                names = (picture["file"], picture.get("panels", picture["file"]))
                if all(_lies_in(file.parent, file.parent / name) for name in names):
                    pictures.append(picture)
            except ValueError as error:
                say(f"note: {file}: picture {number} is left out ({error_text(error)})")
    except FileNotFoundError:
        return []
    except (OSError, ValueError) as error:
        say(f"note: {file} cannot be read ({error_text(error)}): its pictures are left out")
    return pictures


def _lies_in(folder: Path, file: Path) -> bool:
    """Return True for a regular file directly in the folder, and not for a link to a file elsewhere."""
    return file.is_file() and file.resolve().parent == folder.resolve()
