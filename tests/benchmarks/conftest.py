"""Fixture datasets, written once per session."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.benchmarks.fixtures import COUNT, ROWS, picture, write_hub_folder, write_video
from vlmprune.benchmarks.scoring import wups
from vlmprune.config.registry import read_choice


class Words:
    """In place of WordNet, which has to be downloaded: only the same word is similar."""

    def content_words(self, text: str) -> list[str]:
        return text.lower().split()

    def similarity(self, a: str, b: str) -> float:
        return float(a == b)


@pytest.fixture
def words(monkeypatch: pytest.MonkeyPatch) -> None:
    """Words alone instead of WordNet."""
    monkeypatch.setattr(wups, "load_wordnet", Words)


@pytest.fixture(scope="session")
def videos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with two videos, one of them in a subfolder."""
    folder = tmp_path_factory.mktemp("videos")
    (folder / "part2").mkdir()
    write_video(folder / "clip0.mp4")
    write_video(folder / "part2" / "clip1.mp4", frames=3)
    return folder


@pytest.fixture(scope="session")
def overrides(tmp_path_factory: pytest.TempPathFactory, videos: Path):
    """benchmark -> the overrides that point it to its fixture data."""
    root = tmp_path_factory.mktemp("data")

    def make(name: str) -> list[str]:
        folder, settings = root / name, read_choice("benchmark", name)
        rows = [ROWS[name](k) for k in range(COUNT)]
        if not folder.exists():
            if name == "folder":
                folder.mkdir()
                (folder / "questions.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
                for k in range(2):
                    picture(k).save(folder / f"disc{k}.png")
                write_video(folder / "clip0.mp4")
            elif not settings["path"]:
                folder.mkdir()
                (folder / "test.json").write_text(json.dumps(rows))
            else:
                write_hub_folder(folder, settings, rows)
        path = folder if settings["path"] or name == "folder" else folder / "test.json"
        found = [f"benchmark={name}", f"benchmark.path={path}"]
        if "videos" in settings:
            found.append(f"benchmark.videos={videos}")
        if "num_frames" in settings:
            found.append("benchmark.num_frames=2")
        return found

    return make
