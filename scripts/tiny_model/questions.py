"""One-word questions about a scene, in the manner of GQA, POPE and TextVQA."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import product

import numpy as np

from scripts.tiny_model.scenes import COLOR_WEIGHTS, COLORS, IMAGE_SIZE, SHAPE_WEIGHTS, SHAPES, Scene, SceneObject

CATEGORIES = (
    "color",
    "shape",
    "relation",
    "side",
    "exist_random",
    "exist_popular",
    "exist_adversarial",
    "count",
    "digit",
    "word",
)
NUMBERS = ("zero", "one", "two", "three", "four")
SIDE_GAP = 14  # pixels from the middle line below which an object is on neither side
RELATION_GAP = 30  # pixels between two centres below which neither is left of / above the other


@dataclass(frozen=True)
class Question:
    """A question with its only right answer (one word, lower case)."""

    category: str
    text: str
    answer: str


def unique_objects(scene: Scene) -> list[SceneObject]:
    """Objects whose kind occurs once, so that "the star" or "the card" names exactly one."""
    kinds = [o.kind for o in scene.objects]
    return [o for o in scene.objects if kinds.count(o.kind) == 1]


def ask(scene: Scene, rng: np.random.Generator, repeats: Mapping[str, int] | None = None) -> list[Question]:
    """Up to `repeats[category]` (default one) different questions of every category that the scene allows.

    Existence questions alternate between yes and no with the scene's index, so every split is balanced.
    """
    pools = {
        "color": _color(scene),
        "shape": _shape(scene),
        "relation": _relation(scene),
        "side": _side(scene),
        "count": _count(scene, rng),
        "digit": [Question("digit", "What digit is on the card?", o.value) for o in _of(scene, "card")],
        "word": [Question("word", "What word is on the sign?", o.value) for o in _of(scene, "sign")],
    }
    questions: list[Question] = []
    for category in CATEGORIES:
        wanted = repeats[category] if repeats else 1
        if category.startswith("exist_"):
            shift = CATEGORIES.index(category) + scene.index
            for k in range(wanted):
                questions.append(_exist(scene, rng, category, (shift + k) % 2 == 0))
        elif pools[category]:
            pool = pools[category]
            picks = rng.choice(len(pool), size=min(wanted, len(pool)), replace=False)
            questions.extend(pool[int(i)] for i in picks)
    return list(dict.fromkeys(questions))


def _of(scene: Scene, kind: str) -> list[SceneObject]:
    return [o for o in scene.objects if o.kind == kind]


def _color(scene: Scene) -> list[Question]:
    named = [o for o in unique_objects(scene) if o.color]
    return [Question("color", f"What color is the {o.kind}?", o.color) for o in named]


def _shape(scene: Scene) -> list[Question]:
    colors = [o.color for o in scene.shapes()]
    named = [o for o in scene.shapes() if colors.count(o.color) == 1]
    return [Question("shape", f"What shape is {o.color}?", o.kind) for o in named]


def _side(scene: Scene) -> list[Question]:
    found = []
    for o in unique_objects(scene):
        dx, dy = o.center[0] - IMAGE_SIZE / 2, o.center[1] - IMAGE_SIZE / 2
        if abs(dx) >= SIDE_GAP:
            found.append(Question("side", f"Is the {o.kind} on the left or right?", "left" if dx < 0 else "right"))
        if abs(dy) >= SIDE_GAP:
            found.append(Question("side", f"Is the {o.kind} on the top or bottom?", "top" if dy < 0 else "bottom"))
    return found


def _relation(scene: Scene) -> list[Question]:
    found = []
    for a, b in product(unique_objects(scene), repeat=2):
        dx, dy = a.center[0] - b.center[0], a.center[1] - b.center[1]
        if abs(dx) >= RELATION_GAP:
            text = f"Is the {a.kind} left or right of the {b.kind}?"
            found.append(Question("relation", text, "left" if dx < 0 else "right"))
        if abs(dy) >= RELATION_GAP:
            text = f"Is the {a.kind} above or below the {b.kind}?"
            found.append(Question("relation", text, "above" if dy < 0 else "below"))
    return found


def _count(scene: Scene, rng: np.random.Generator) -> list[Question]:
    """One question per kind present; a repeated kind mostly comes alone, to balance the answers."""
    kinds = [o.kind for o in scene.shapes()]
    present = list(dict.fromkeys(kinds))
    repeated = [k for k in present if kinds.count(k) > 1]
    if repeated and rng.random() < 0.85:
        present = repeated
    return [Question("count", f"How many {_plural(k)} are there?", NUMBERS[kinds.count(k)]) for k in present]


def _plural(kind: str) -> str:
    return kind + ("es" if kind.endswith("s") else "s")


def _exist(scene: Scene, rng: np.random.Generator, category: str, present: bool) -> Question:
    pairs = [(o.color, o.kind) for o in scene.shapes()]
    if present:
        color, shape = pairs[int(rng.integers(len(pairs)))]
    else:
        color, shape = _absent(pairs, rng, category)
    return Question(category, f"Is there a {color} {shape}?", "yes" if present else "no")


def _absent(pairs: list[tuple[str, str]], rng: np.random.Generator, category: str) -> tuple[str, str]:
    """A colour-shape pair that is not in the scene: any, among the 6 most frequent, or made of parts that are."""
    absent = [p for p in product(COLORS, SHAPES) if p not in pairs]
    if category == "exist_popular":
        weight = {
            (c, s): wc * ws
            for (c, wc), (s, ws) in product(
                zip(COLORS, COLOR_WEIGHTS, strict=True), zip(SHAPES, SHAPE_WEIGHTS, strict=True)
            )
        }
        absent = sorted(absent, key=lambda p: -weight[p])[:6]
    elif category == "exist_adversarial":
        colors, shapes = {c for c, _ in pairs}, {s for _, s in pairs}
        crossed = [p for p in absent if p[0] in colors and p[1] in shapes]
        # Only when all shapes share one colour (or kind) nothing crosses; then one matching part has to do.
        absent = crossed or [p for p in absent if p[0] in colors or p[1] in shapes]
    return absent[int(rng.integers(len(absent)))]
