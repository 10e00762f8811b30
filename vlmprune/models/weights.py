"""Weight files of a checkpoint: their names and headers, checked before memory is allocated for a model."""

from __future__ import annotations

import hashlib
import math
import os
import re
from pathlib import Path, PurePosixPath
from typing import Annotated, Any

import torch
from pydantic import Field, with_config
from safetensors import safe_open
from transformers.utils import cached_file
from typing_extensions import TypedDict

from vlmprune.errors import UserError, user_error_on_failure
from vlmprune.files import check_regular
from vlmprune.models.processor import Checkpoint, first_line
from vlmprune.typed_json import STRICT, read_json

WHOLE = "model.safetensors"
INDEX = "model.safetensors.index.json"
MOST_MISSING = 2**24  # numbers that the files may lack here; loading then names the missing weights
MEMORY = Path("/proc/meminfo")  # of Linux


@with_config(STRICT)
class Index(TypedDict):
    """Index of a checkpoint in several files: the file of each weight."""

    weight_map: Annotated[dict[str, str], Field(min_length=1)]


def check_files(folder: Path, source: str, setting: str = "model.path") -> None:
    """Raise UserError if a weight file is absent or its header is damaged."""
    start = f"{setting}={source}: cannot be loaded"
    if not any(folder.glob("*.safetensors")) and not (folder / INDEX).exists():
        other = sorted(folder.glob("*.bin")) + sorted(folder.glob("*.pth"))
        remark = f": {other[0].name} is not read, as loading it could run code; convert it" if other else ""
        raise UserError(f"{start} (no .safetensors file{remark})")
    for file in weight_files(folder, start):
        count_numbers(file, start)


def weight_files(folder: Path, start: str) -> list[Path]:
    """Return the files that the index names; without index, all. Raises UserError if it is damaged or unsafe."""
    if not (folder / INDEX).exists():
        return sorted(folder.glob("*.safetensors"))
    try:
        names = sorted(set(read_json(folder / INDEX, Index)["weight_map"].values()))
    except (OSError, ValueError) as error:
        raise UserError(f"{start} ({INDEX} is damaged: {first_line(error)})") from error
    for name in names:
        if PurePosixPath(name).is_absolute() or ".." in PurePosixPath(name).parts:
            raise UserError(f"{start} ({INDEX} names {name}, which is outside of its folder)")
    return [folder / name for name in names]


def count_numbers(file: Path, start: str) -> int:
    """Return the count of numbers in a file of weights, by its header. Raises UserError if that is damaged."""
    if not file.exists():
        raise UserError(f"{start} ({file.name} is missing)")
    try:
        check_regular(file)
        with safe_open(str(file), framework="numpy") as handle:
            return sum(math.prod(handle.get_slice(name).get_shape()) for name in handle.keys())  # noqa: SIM118
    except Exception as error:  # safetensors raises many types for a damaged file
        raise UserError(f"{start} ({file.name}: {first_line(error)})") from error


def check_sizes(checkpoint: Checkpoint, model: Any, setting: str = "model.path") -> None:
    """Raise UserError if the files hold far fewer numbers than the model of config.json has.

    model: on the meta device. Quantized checkpoints are not checked: they pack several numbers into one.
    """
    if checkpoint.random or getattr(checkpoint.config, "quantization_config", None) is not None:
        return
    start = f"{setting}={checkpoint.source}: cannot be loaded"
    stored = sum(count_numbers(file, start) for file in weight_files(local_folder(checkpoint, start), start))
    needed = sum(weight.numel() for weight in model.parameters())
    if needed - stored > MOST_MISSING:
        raise UserError(
            f"{setting}={checkpoint.source}: config.json: text_config and vision_config make a model of {needed:,} "
            f"numbers, and its .safetensors files hold {stored:,}; correct its sizes"
        )


def local_folder(checkpoint: Checkpoint, start: str) -> Path:
    """Return the local folder of the weights, downloaded from the hub if needed. Raises UserError."""
    if (folder := Path(checkpoint.source)).is_dir():
        return folder
    with user_error_on_failure(start, "see there"):
        common: dict[str, Any] = {"revision": checkpoint.revision}
        index = cached_file(checkpoint.source, INDEX, _raise_exceptions_for_missing_entries=False, **common)
        if index is None:
            return Path(str(cached_file(checkpoint.source, WHOLE, **common))).parent
        names = {file.name for file in weight_files(Path(index).parent, start)}
        for name in sorted(names):
            cached_file(checkpoint.source, name, **common)
        return Path(index).parent


def check_memory(source: str, model: Any, dtype: torch.dtype, device: torch.device) -> None:
    """Raise UserError if a model, given on the meta device, needs more memory than `device` has."""
    needed = sum(weight.numel() for weight in model.parameters()) * dtype.itemsize
    if device.type == "cuda":
        there = torch.cuda.get_device_properties(device).total_memory
    elif MEMORY.exists():
        fields = dict(re.findall(r"(\w+):\s+(\d+) kB", MEMORY.read_text()))
        there = (int(fields["MemAvailable"]) + int(fields["SwapFree"])) * 1024
    else:
        return
    if needed > there:
        raise UserError(
            f"model.path={source}: its weights in {str(dtype).removeprefix('torch.')} take {needed / 2**30:,.1f} GiB "
            f"of memory, and {device} has {there / 2**30:,.1f}; use a smaller model, or set model.dtype or device"
        )


def folder_hash(folder: Path) -> str:
    """Return the sha256 of names, sizes and contents; of files above 64 MiB, of 16 blocks of 1 MiB spread over them."""
    digest = hashlib.sha256()
    kinds = (".json", ".safetensors", ".jinja", ".model")
    for file in sorted(path for path in folder.iterdir() if path.suffix in kinds):
        size = file.stat().st_size
        digest.update(f"{file.name}:{size}\n".encode())
        with open(file, "rb") as handle:
            if size <= 64 * 2**20:
                digest.update(handle.read())
            else:
                for block in range(16):
                    handle.seek(block * (size - 2**20) // 15, os.SEEK_SET)
                    digest.update(handle.read(2**20))
    return f"sha256:{digest.hexdigest()}"
