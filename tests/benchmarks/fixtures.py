"""A dozen rows of every benchmark's schema on the hub, with drawn images and answers that are easy to misread."""

from __future__ import annotations

import io
from collections.abc import Callable
from pathlib import Path
from typing import Any

from PIL import Image, ImageDraw

Row = dict[str, Any]
COUNT = 12
COLORS = ("red", "green", "blue", "orange")


def picture(number: int, size: tuple[int, int] = (40, 30)) -> Image.Image:
    """A disc on white; another colour for each of twelve numbers."""
    image = Image.new("RGB", size, "white")
    ImageDraw.Draw(image).ellipse((8, 4, 30, 26), fill=(20 * number, 255 - 20 * number, 90))
    return image


def encoded(image: Image.Image, kind: str = "PNG", **settings: Any) -> bytes:
    """The file of a picture."""
    data = io.BytesIO()
    image.save(data, kind, **settings)
    return data.getvalue()


def annotators(*answers: str) -> list[str]:
    return [answers[index % len(answers)] for index in range(10)]


def gqa(k: int) -> Row:
    return {
        "id": f"q{k}",
        "imageId": f"n{k % 3}",
        "question": f"Is it {k}?",
        "answer": "Yes" if k % 2 else "no",
        "types": {"structural": "verify", "semantic": "obj", "detailed": "exist"},
    }


def vqav2(k: int) -> Row:
    answers = annotators("2", "two", "a 2.")
    return {
        "question_id": 1000 + k,
        "image_id": k // 2,
        "image": picture(k // 2),
        "question": "How many dogs aren't there?",
        "answers": [{"answer": text, "answer_confidence": "yes", "answer_id": i} for i, text in enumerate(answers)],
        "answer_type": "number",
    }


def vizwiz(k: int) -> Row:
    return {
        "question_id": f"VizWiz_val_{k:08}.jpg",
        "image": picture(k),
        "question": "What is THIS?",
        "answers": annotators("unanswerable", "Coca-Cola", "coca cola"),
        "category": "unanswerable" if k % 2 else "other",
    }


def textvqa(k: int) -> Row:
    return {
        "question_id": 34602 + k,
        "image_id": f"img{k // 2}",
        "image": picture(k // 2),
        "question": "what does the sign say?",
        "answers": annotators("STOP", "stop", "don't stop"),
        "ocr_tokens": ["STOP", "é,"] if k % 2 else [],
    }


def okvqa(k: int) -> Row:
    row = {"question_id": str(k), "image": picture(k), "question": "what sport is it?"}
    return row | {"answers": annotators("race", "racing", "motocross")}


def scienceqa(k: int) -> Row:
    return {
        "image": picture(k),
        "question": "Which is north?",
        "choices": ["Maine", "Utah"] if k % 2 else ["a", "B", "an A"],
        "answer": k % 2,
        "hint": "Read the map." if k % 3 else "",
        "subject": "social science",
    }


def pope(k: int) -> Row:
    return {
        "question_id": str(k // 3),
        "image_source": f"COCO_{k % 4}",
        "image": picture(k % 4),
        "question": "Is there a knot in the image?",  # "knot" is no "not"
        "answer": "yes" if k % 2 else "no",
        "category": ("random", "popular", "adversarial")[k % 3],
    }


def mme(k: int) -> Row:
    return {
        "question_id": f"code_reasoning/{k // 2:04}.png",
        "image": picture(k // 2),
        "question": "Is it Python code? Please answer yes or no.",
        "answer": ("Yes", "No")[k % 2],
        "category": "code_reasoning" if k < 6 else "existence",
    }


def mmbench(k: int) -> Row:
    return {
        "index": k // 2 + (k % 2) * 1_000_000,
        "image": picture(k // 2),
        "question": "Which one?",
        "hint": "nan" if k % 3 else "The sky is blue.",
        **{"A": "yes", "B": "no", "C": None if k % 4 else "A", "D": None if k % 4 else "none of these"},
        "answer": "AB"[k % 2],
        "category": "attribute",
    }


def mmvet(k: int) -> Row:
    return {
        "question_id": f"v1_{k}",
        "image_source": f"s{k // 2}.jpg",
        "image": picture(k // 2),
        "question": "What is x?",
        "answer": "-1<AND>-5<OR>minus one",
        "capability": "ocr,math" if k % 2 else "rec",
    }


def seed(k: int) -> Row:
    return {
        "question_id": f"{k}_0",
        "image": [picture(k)] * (1 if k < 10 else 3),
        "question": "How many towels?",
        **{f"choice_{letter}": f"{number}" for number, letter in enumerate("abcd")},
        "answer": "ABCD"[k % 4],
        "question_type_id": k % 3,
        "data_type": "image" if k < 10 else "video",
    }


def llava_wild(k: int) -> Row:
    return {
        "question_id": k,
        "image_id": k // 3,
        "image": picture(k // 3),
        "question": "Describe this photo in detail.",
        "caption": "A disc.\nNothing else.",
        "gpt_answer": "It is a disc.",
        "category": ("conv", "detail", "complex")[k % 3],
    }


def docvqa(k: int) -> Row:
    return {
        "questionId": str(k),
        "ucsf_document_id": "ffbf0023",
        "ucsf_document_page_no": str(k // 2),
        "image_url": f"http://example.invalid/{k // 2}.png",
        "image": picture(k // 2, (30, 90)),
        "question": "What is the date?",
        "answers": ["1/8/93", "1/8/1993 "],
    }


def chartqa(k: int) -> Row:
    answer = ("12.5%", "Yes", "1,000", "0")[k % 4]
    row = {"image": picture(k), "question": "Is the value > 5?", "answer": answer}
    return row | {"type": "human_test" if k % 2 else "augmented_test"}


def ocrbench(k: int) -> Row:
    return {
        "image": picture(k),
        "question": "what is written in the image?",
        "answer": [r"\frac { 1 } { 2 }"] if k % 2 else ["CENTRE", "centre"],
        "dataset": "HME100k" if k % 2 else "IIIT5K",
        "question_type": "Handwritten Mathematical Expression Recognition" if k % 2 else "Regular Text Recognition",
    }


def ai2d(k: int) -> Row:
    row = {"image": picture(k), "question": "What eats A?", "options": ["B", "A", "both A and B", "1"]}
    return row | {"answer": str(k % 4)}


def mmstar(k: int) -> Row:
    return {
        "index": k,
        "image": picture(k),
        "question": "Which?\nOptions: A: cat, B: dog, C: a cat and a dog, D: none",
        "answer": "ABCD"[k % 4],
        "category": "math" if k < 2 else "coarse perception",
    }


def mmmu(k: int) -> Row:
    images = {f"image_{number}": picture(k) if number <= 1 + k % 3 else None for number in range(1, 8)}
    opened = k % 4 == 3
    return {
        "id": f"validation_Art_Theory_{k}",
        "question": "Compare <image 2> with <image 1>." if k % 3 else "<image 1> What is it?",
        "options": "[]" if opened else "['<image 1>', \"it's\", 'None of these']",
        "answer": "['1/2', '.5']" if opened else "B",
        "question_type": "open" if opened else "multiple-choice",
        **images,
    }


def realworldqa(k: int) -> Row:
    question = "Which way?\nA. Left\nB. Right\nPlease answer directly with only the letter of the correct option."
    row = {"image": picture(k), "question": question if k % 2 else "How many cars?"}
    return row | {"answer": "B" if k % 2 else ("11", "3")[k // 2 % 2]}


def caption(k: int) -> Row:
    references = ["A round thing.", "a disc, on white", "Disc"]
    ids = {"id": k, "question_id": k, "image_id": k, "img_id": str(k)}
    return ids | {"image": picture(k), "answer": references, "annotations_captions": references, "caption": references}


def open_video(k: int) -> Row:
    row = {"question_id": f"v{k}", "video_name": f"clip{k % 2}", "question": "what moves?"}
    return row | {"answer": "disc", "type": str(k % 3)}


def videomme(k: int) -> Row:
    return {
        "question_id": f"{k}-1",
        "videoID": f"clip{k % 2}",
        "question": "What moves?",
        "options": ["A. A disc.", "B. The sun.", "C. It stands.", "D. U.S. flags."],
        "answer": "ABCD"[k % 4],
        "duration": "short",
    }


def mvbench(k: int) -> Row:
    row = {"video": f"clip{k % 2}.mp4", "question": "What moves?", "candidates": ["A", "disc", "a disc"]}
    return row | {"answer": ("A", "disc", "a disc")[k % 3]}


def egoschema(k: int) -> Row:
    options = [f"{letter}. C does {letter}" for letter in "ABCDE"]
    return {"video_idx": f"clip{k % 2}", "question": "What does C do?", "option": options, "answer": str(k % 5)}


def nextqa(k: int) -> Row:
    row = {"video": f"clip{k % 2}", "question": "why does it move", "type": "CW" if k % 2 else "TN"}
    options = {f"a{number}": f"reason {number}" for number in range(5)}
    return row | options | {"answer": k % 5}


def nextqa_open(k: int) -> Row:
    row = {"video": f"clip{k % 2}", "question": "why does it move", "type": "CW" if k % 2 else "TN"}
    return row | {"answer": "to play", "additional_ref_answer": "for fun" if k % 2 else None}


def own(k: int) -> Row:
    rows: list[Row] = [
        {"image": "disc0.png", "question": "Which color?", "answer": ["green", "Lime."], "category": "color"},
        {"image": ["disc0.png", "disc1.png"], "question": "Same <image>?", "answer": "no"},
        {"image": "clip0.mp4", "question": "What moves?", "choices": ["sun", "disc"], "answer": "disc"},
    ]
    return rows[k % 3]


ROWS: dict[str, Callable[[int], Row]] = {
    "gqa": gqa,
    "vqav2": vqav2,
    "vizwiz": vizwiz,
    "textvqa": textvqa,
    "textvqa_ocr": textvqa,
    "okvqa": okvqa,
    "scienceqa": scienceqa,
    "pope": pope,
    "mme": mme,
    "mmbench": mmbench,
    "mmbench_cn": mmbench,
    "mmvet": mmvet,
    "seed": seed,
    "llava_wild": llava_wild,
    "docvqa": docvqa,
    "infovqa": docvqa,
    "chartqa": chartqa,
    "ocrbench": ocrbench,
    "ai2d": ai2d,
    "mmstar": mmstar,
    "mmmu": mmmu,
    "realworldqa": realworldqa,
    "coco_caption": caption,
    "nocaps": caption,
    "flickr30k": caption,
    "activitynet": open_video,
    "tgif": open_video,
    "msvd": open_video,
    "msrvtt": open_video,
    "videomme": videomme,
    "mvbench": mvbench,
    "egoschema": egoschema,
    "nextqa_mc": nextqa,
    "nextqa_oe": nextqa_open,
    "folder": own,
}


def write_hub_folder(folder: Path, settings: dict[str, Any], rows: list[Row]) -> None:
    """`rows` in the layout of the hub: a parquet file per config, and a README that names configs and splits."""
    from datasets import Dataset

    folder.mkdir(parents=True, exist_ok=True)
    configs = settings.get("tasks") or [settings.get("config") or "default"]
    lines = ["---", "configs:"]
    for name in configs:
        Dataset.from_list(rows).to_parquet(folder / f"{name}.parquet")
        lines += [f"- config_name: {name}", f"  data_files: [{{split: {settings['split']}, path: {name}.parquet}}]"]
    if "images_config" in settings:
        name = settings["images_config"]
        images = [{"id": f"n{k}", "image": picture(k)} for k in range(3)]
        Dataset.from_list(images).to_parquet(folder / "images.parquet")
        lines += [f"- config_name: {name}", f"  data_files: [{{split: {settings['split']}, path: images.parquet}}]"]
    (folder / "README.md").write_text("\n".join([*lines, "---", ""]))


def write_video(file: Path, frames: int = 9, keyframes: int = 100) -> None:
    """A white bar that grows by 7 pixels a frame; every `keyframes`-th frame can be started at."""
    import av

    with av.open(str(file), "w") as container:
        stream = container.add_stream("mpeg4", rate=5)
        stream.width = stream.height = 64
        stream.gop_size = keyframes
        for number in range(frames):
            image = Image.new("RGB", (64, 64), "black")
            ImageDraw.Draw(image).rectangle((0, 0, 7 * number + 1, 64), fill="white")
            container.mux(stream.encode(av.VideoFrame.from_image(image)))
        container.mux(stream.encode(None))


def bar(frame: Image.Image) -> int:
    """The number of a frame of `write_video`."""
    return round((sum(frame.convert("L").getpixel((x, 20)) > 128 for x in range(64)) - 1) / 7)
