"""A tiny random checkpoint in the format of LanguageBind/Video-LLaVA-7B-hf."""

from __future__ import annotations

from pathlib import Path

from tests.families.checkpoint_tokenizer import save_tokenizer, write_json
from tests.families.video_llava import VISION, make

CHAT_TEMPLATE = (
    "{% for message in messages %}{{ message['role'].upper() + ': ' }}"
    "{% for content in message['content'] | selectattr('type', 'equalto', 'image') %}{{ '<image>\\n' }}{% endfor %}"
    "{% for content in message['content'] | selectattr('type', 'equalto', 'video') %}{{ '<video>\\n' }}{% endfor %}"
    "{% for content in message['content'] | selectattr('type', 'equalto', 'text') %}{{ content['text'] + ' ' }}"
    "{% endfor %}{% endfor %}{% if add_generation_prompt %}{{ 'ASSISTANT:' }}{% endif %}"
)
MEAN, STD = [0.48145466, 0.4578275, 0.40821073], [0.26862954, 0.26130258, 0.27577711]


def save(folder: Path) -> Path:
    """Write the checkpoint: config, float16 weights, image processor, processor, tokenizer and chat template."""
    folder.mkdir(parents=True, exist_ok=True)
    ids = save_tokenizer(folder, ["<pad>", "<s>", "</s>", "<image>", "<video>"], pad="<pad>", bos="<s>", eos="</s>")
    model = make(ids=ids, vocab_size=272)
    model.half().save_pretrained(folder)
    side = VISION["image_size"]
    write_json(
        folder,
        "preprocessor_config.json",
        {
            "image_processor_type": "VideoLlavaImageProcessor",
            "processor_class": "VideoLlavaProcessor",
            "do_resize": True,
            "size": {"shortest_edge": side},
            "resample": 3,
            "do_center_crop": True,
            "crop_size": {"height": side, "width": side},
            "do_rescale": True,
            "rescale_factor": 1 / 255,
            "do_normalize": True,
            "image_mean": MEAN,
            "image_std": STD,
            "do_convert_rgb": True,
        },
    )
    write_json(
        folder,
        "processor_config.json",
        {
            "processor_class": "VideoLlavaProcessor",
            "patch_size": VISION["patch_size"],
            "vision_feature_select_strategy": "default",
            "num_additional_image_tokens": 1,
            "image_token": "<image>",
            "video_token": "<video>",
        },
    )
    write_json(folder, "chat_template.json", {"chat_template": CHAT_TEMPLATE})
    return folder
