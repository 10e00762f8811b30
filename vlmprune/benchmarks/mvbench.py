"""MVBench (Li et al., CVPR 2024): 20 tasks about videos, a config of the dataset each; accuracy is the tasks' mean."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from vlmprune.benchmarks.columns import shown
from vlmprune.benchmarks.frames import Stretch
from vlmprune.benchmarks.source import Source
from vlmprune.benchmarks.tables import Joined, Table
from vlmprune.benchmarks.video import VideoChoice

CUT = "_segment"  # suffix of folders whose videos are already cut


@dataclass
class MvBench(VideoChoice):
    """MVBench. tasks: the configs to ask; a row's task is its column `table`. If `config` is given, it alone is asked.

    folders: task -> ends of the paths of the folders with its videos, one for each revision of the dataset: several
    tasks' folders hold different videos of one name.

    cut: the tasks whose videos the official evaluation cuts to the row's seconds, roles `start` and `end`. Revision
    `video` of the dataset has them already cut, in folders such as "Charades_segment"; these are not cut again.
    """

    tasks: list = field(default_factory=list)
    folders: dict = field(default_factory=dict)
    cut: list = field(default_factory=list)

    def open_table(self, streaming: bool) -> tuple[Table, str]:
        if self.config is not None or not self.tasks:
            return super().open_table(streaming)
        self.find_videos()
        opened = {
            task: Source(self.path, self.fallback, task, self.split, self.revision).open(streaming)
            for task in self.tasks
        }
        identity = " ".join(identity for _, identity in opened.values())
        return Joined({task: table for task, (table, _) in opened.items()}), f"{identity} {self.videos_identity()}"

    def task(self, row: dict[str, Any]) -> str:
        return row.get("table", self.config) or ""

    def medium(self, name: str, task: str) -> str:
        return name if self.config is not None else f"{self.folders.get(task, [task])[0]}/{name}"

    def among(self, files: list[Path], task: str) -> list[Path]:
        for folder in self.folders.get(task, []):
            if own := [file for file in files if f"/{folder}/" in str(file)]:
                return own
        if self.config is not None:  # all given videos are this task's, in any folder
            return files
        others = [folder for folders in self.folders.values() for folder in folders]
        return [file for file in files if not any(f"/{folder}/" in str(file) for folder in others)]

    def stretch(self, row: dict[str, Any]) -> Stretch | None:
        if self.task(row) not in self.cut:
            return None
        parts = self.find(shown(self.value(row, "video")), self.task(row)).parent.parts
        return None if any(part.endswith(CUT) for part in parts) else super().stretch(row)
