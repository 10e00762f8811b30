"""The frozen test split: read, checked, one row per question."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from datasets import Dataset

FOLDER = Path(__file__).parent
TEST_FILE = FOLDER / "test.parquet"
HASH_FILE = FOLDER / "test.parquet.sha256"


def file_sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def load_scenes(path: Path = TEST_FILE) -> Dataset:
    """One row per scene: image, scene_id, objects (JSON text), questions (list of structs).

    Raises ValueError when the file is not the one that the published scores belong to.
    """
    import pyarrow.parquet
    from datasets import Dataset
    from datasets.table import InMemoryTable

    found, expected = file_sha256(path), HASH_FILE.read_text(encoding="utf-8").split()[0]
    if found != expected:
        raise ValueError(f"{path} is not the frozen test split: sha256 {found}, expected {expected}")
    # Dataset.from_parquet would write a copy to its cache first, in a home folder that need not be there.
    return Dataset(InMemoryTable(pyarrow.parquet.read_table(path)))


def load_test_split(path: Path = TEST_FILE) -> Dataset:
    """One row per question: question_id, image_id, image, question, answer, category.

    Rows of one image are adjacent. `image` holds PNG bytes and is decoded when a row is read; since image_id tells
    which rows share a picture, read it once per image (`select_columns` leaves the others undecoded).
    """
    from datasets import Dataset, Features, Image, Value

    scenes = load_scenes(path).cast_column("image", Image(decode=False))
    rows = [
        {
            "question_id": asked["question_id"],
            "image_id": scene["scene_id"],
            "image": scene["image"],
            "question": asked["question"],
            "answer": asked["answer"],
            "category": asked["type"],
        }
        for scene in scenes
        for asked in scene["questions"]
    ]
    features = {name: Value("string") for name in rows[0]} | {"image": Image()}
    return Dataset.from_list(rows, features=Features(features))
