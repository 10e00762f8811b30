"""A tiny random checkpoint in the format of llava-hf/llava-onevision-qwen2-0.5b-ov-hf."""

from __future__ import annotations

from pathlib import Path

from tests.families.checkpoint_tokenizer import save_tokenizer, write_json
from tests.families.llava_onevision import ASPECT, PINPOINTS, SIDE, TILE, make

CHAT_TEMPLATE = (
    "{% for message in messages %}{{ '<|im_start|>' + message['role'] + ' ' }}"
    "{% for content in message['content'] | selectattr('type', 'equalto', 'image') %}{{ '<image>' }}{% endfor %}"
    "{% for content in message['content'] | selectattr('type', 'equalto', 'video') %}{{ '<video>' }}{% endfor %}"
    "{% for content in message['content'] | selectattr('type', 'equalto', 'text') %}{{ '\\n' + content['text'] }}"
    "{% endfor %}{{ '<|im_end|>' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}"
)


def save(folder: Path) -> Path:
    """Write the checkpoint: config, float16 weights, image processor, processor, tokenizer and chat template."""
    folder.mkdir(parents=True, exist_ok=True)
    special = ["<|endoftext|>", "<|im_start|>", "<|im_end|>", "<image>", "<video>"]
    ids = save_tokenizer(folder, special, pad="<|endoftext|>", bos=None, eos="<|im_end|>")
    make(ids=ids, vocab_size=272).half().save_pretrained(folder)
    write_json(
        folder,
        "preprocessor_config.json",
        {
            "image_processor_type": "LlavaOnevisionImageProcessor",
            "processor_class": "LlavaOnevisionProcessor",
            "do_convert_rgb": True,
            "do_normalize": True,
            "do_pad": True,
            "do_rescale": True,
            "do_resize": True,
            "image_grid_pinpoints": PINPOINTS,
            "image_mean": [0.5, 0.5, 0.5],
            "image_std": [0.5, 0.5, 0.5],
            "resample": 3,
            "rescale_factor": 1 / 255,
            "size": {"height": TILE, "width": TILE},
        },
    )
    write_json(
        folder,
        "processor_config.json",
        {
            "processor_class": "LlavaOnevisionProcessor",
            "num_image_tokens": SIDE**2,
            "vision_feature_select_strategy": "full",
            "vision_aspect_ratio": ASPECT,
            "image_token": "<image>",
            "video_token": "<video>",
        },
    )
    write_json(folder, "chat_template.json", {"chat_template": CHAT_TEMPLATE})
    return folder
