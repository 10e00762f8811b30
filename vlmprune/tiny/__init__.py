"""The embedded model and its benchmark: a small LLaVA checkpoint and 1,000 frozen questions about drawn scenes.

Importing this package loads neither torch nor datasets.
"""

from vlmprune.tiny.testset import FOLDER, load_scenes, load_test_split

CHECKPOINT = FOLDER / "checkpoint"

__all__ = ["CHECKPOINT", "load_scenes", "load_test_split"]
