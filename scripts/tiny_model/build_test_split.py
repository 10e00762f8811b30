"""Writes the test split: python -m scripts.tiny_model.build_test_split FOLDER

The published scores belong to the file shipped with the package; another Pillow may draw other pixels.
"""

from __future__ import annotations

import io
import json
import sys
from dataclasses import asdict
from pathlib import Path

from scripts.tiny_model.draw import draw_scene
from scripts.tiny_model.questions import ask
from scripts.tiny_model.scenes import sample_scene, scene_rng
from vlmprune.tiny.testset import HASH_FILE, TEST_FILE, file_sha256

TEST_SEED = 2026
TEST_QUESTIONS = 1000


def build_test_split(folder: Path) -> Path:
    """Scenes in order of their index until there are 1,000 questions; the last scene gives only what is missing."""
    from datasets import Dataset, Features, Image, Value

    rows: list[dict] = []
    missing = TEST_QUESTIONS
    while missing:
        row = _row(len(rows), missing)
        missing -= len(row["questions"])
        rows.append(row)
    text = Value("string")
    asked = {"question_id": text, "question": text, "answer": text, "type": text}
    features = Features({"image": Image(), "scene_id": text, "objects": text, "questions": [asked]})
    path = folder / TEST_FILE.name
    Dataset.from_list(rows, features=features).to_parquet(str(path))
    (folder / HASH_FILE.name).write_text(f"{file_sha256(path)}  {path.name}\n")
    return path


def _row(index: int, limit: int) -> dict:
    rng = scene_rng(TEST_SEED, "test", index)
    scene = sample_scene(rng, "test", index)
    png = io.BytesIO()
    draw_scene(scene, rng).save(png, "PNG", optimize=True)
    asked = ask(scene, rng)[:limit]
    return {
        "image": {"bytes": png.getvalue(), "path": None},
        "scene_id": scene.scene_id,
        "objects": json.dumps([asdict(item) for item in scene.objects]),
        "questions": [
            {
                "question_id": f"{scene.scene_id}-{k}",
                "question": q.text,
                "answer": q.answer,
                "type": q.category,
            }
            for k, q in enumerate(asked)
        ],
    }


if __name__ == "__main__":
    print(build_test_split(Path(sys.argv[1])))
