"""MVBench (Li et al., CVPR 2024): 20 tasks about videos, a config of the dataset each; accuracy is the tasks' mean."""

from __future__ import annotations

from dataclasses import dataclass, field

from vlmprune.benchmarks.source import Source
from vlmprune.benchmarks.tables import Joined, Table
from vlmprune.benchmarks.video import VideoChoice


@dataclass
class MvBench(VideoChoice):
    """tasks: the configs to ask; a row's task is its column `table`. Where `config` is given, that table alone."""

    tasks: list = field(default_factory=list)

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
