"""Text that the decoder reads and writes: prompt format, captions, tokenizer."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers
from transformers import PreTrainedTokenizerFast

from scripts.tiny_model.questions import Question
from scripts.tiny_model.scenes import IMAGE_SIZE, Scene, SceneObject

SPECIAL = {"pad": "<pad>", "bos": "<s>", "eos": "</s>", "image": "<image>"}
BEFORE_IMAGE = "USER: "
VOCABULARY = 640  # upper limit; all words of the templates fit, so every answer is one token

CHAT_TEMPLATE = (
    "{% for message in messages %}"
    "{{ message['role'].upper() + ': ' }}"
    "{% for part in message['content'] | selectattr('type', 'equalto', 'image') %}{{ '<image>\n' }}{% endfor %}"
    "{% for part in message['content'] | selectattr('type', 'equalto', 'text') %}{{ part['text'] + ' ' }}{% endfor %}"
    "{% endfor %}"
    "{% if add_generation_prompt %}{{ 'ASSISTANT:' }}{% endif %}"
)


def after_image(question: str) -> str:
    """The prompt text behind the image, exactly as CHAT_TEMPLATE renders it."""
    return f"\n{question} ASSISTANT:"


def captions(objects: Sequence[SceneObject]) -> list[tuple[str, str]]:
    """Two (instruction, caption) pairs: the objects one after another, colour first and shape first.

    They are dense supervision: with one-word answers alone the decoder never finds the look-up, and the order of
    the words decides which look-up forms ("red star" teaches shape from colour, "star red" colour from shape).
    """
    colored, shaped = [], []
    for item in objects:
        attribute, place = item.color or item.value, _place(item)
        colored.append(f"{attribute} {item.kind} {place}")
        shaped.append(f"{item.kind} {attribute} {place}")
    return [("Describe colors.", ", ".join(colored)), ("Describe shapes.", ", ".join(shaped))]


def _place(item: SceneObject) -> str:
    third = IMAGE_SIZE / 3
    x, y = item.center
    return f"{('left', 'center', 'right')[int(x // third)]} {('top', 'middle', 'bottom')[int(y // third)]}"


def training_texts(scenes: Iterable[Scene], questions: Iterable[list[Question]]) -> Iterable[str]:
    """All texts of the corpus, for the BPE trainer."""
    for scene, asked in zip(scenes, questions, strict=True):
        for question in asked:
            yield f"{BEFORE_IMAGE}{after_image(question.text)} {question.answer}"
        for instruction, caption in captions(scene.objects):
            yield f"{BEFORE_IMAGE}{after_image(instruction)} {caption}"


def train_tokenizer(texts: Iterable[str]) -> PreTrainedTokenizerFast:
    """A byte-level BPE that puts <s> in front of every text."""
    bpe = Tokenizer(models.BPE())
    bpe.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    bpe.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=VOCABULARY,
        special_tokens=list(SPECIAL.values()),
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    bpe.train_from_iterator(texts, trainer)
    bos = SPECIAL["bos"]
    bpe.post_processor = processors.TemplateProcessing(
        single=f"{bos} $A", pair=f"{bos} $A $B", special_tokens=[(bos, bpe.token_to_id(bos))]
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=bpe,
        bos_token=bos,
        eos_token=SPECIAL["eos"],
        pad_token=SPECIAL["pad"],
        additional_special_tokens=[SPECIAL["image"]],
        extra_special_tokens={"image_token": SPECIAL["image"]},
        padding_side="left",
        model_max_length=512,
        clean_up_tokenization_spaces=False,
    )
