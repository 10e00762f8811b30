"""A LLaVA whose decoder has recorded weights and whose prompt becomes a recorded sequence of embeddings."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from transformers import DynamicCache, LlamaConfig

from tests.toy_models import toy_llava
from vlmprune import prune
from vlmprune.engine.prompt_state import Record
from vlmprune.methods.decoder_method import DecoderMethod

MODULES = {
    "q": "self_attn.q_proj",
    "k": "self_attn.k_proj",
    "v": "self_attn.v_proj",
    "o": "self_attn.o_proj",
    "gate": "mlp.gate_proj",
    "up": "mlp.up_proj",
    "down": "mlp.down_proj",
    "ln1": "input_layernorm",
    "ln2": "post_attention_layernorm",
}


class ImageRows(nn.Module):
    """In place of the projector: the recorded embeddings [N, D] for every image."""

    def __init__(self, rows: Tensor) -> None:
        super().__init__()
        self.rows = nn.Parameter(rows)

    def forward(self, features: Tensor) -> Tensor:
        return self.rows.expand(len(features), -1, -1)


@dataclass
class Run:
    """Results of one prefill and the decode steps after it; states are those after the final norm."""

    record: Record
    last: Tensor  # [B, D] at the last prompt position
    decode: Tensor  # [steps, B, D]
    cache_lengths: list[int]  # of each layer, after prefill
    positions: Tensor  # [steps, layers] at which each layer of sample 0 sees the new token


class GoldenLlava:
    """Runs embeddings `x` [L, D], of which positions start..start+n-1 are the image, and then `dec` [steps, D].

    weights: recorded layers "l0", "l1", ... . at: which decoder layers those are; all others do nothing. The prompt's
    text tokens have the ids 1, 2, ...; the head's first D outputs are the state itself.
    """

    def __init__(
        self,
        weights: dict[str, Tensor],
        x: Tensor,
        dec: Tensor,
        *,
        start: int,
        n: int,
        heads: int,
        depth: int,
        at: list[int],
    ) -> None:
        text = torch.cat([x[:start], x[start + n :], dec])
        self.start, self.n, self.words, self.width = start, n, len(text) - len(dec), x.shape[1]
        self.steps = len(dec)
        self.image = len(text) + 1
        side = int(n**0.5)
        assert side * side == n
        text_config = LlamaConfig(
            hidden_size=self.width,
            intermediate_size=weights["l0.up"].shape[0],
            num_hidden_layers=depth,
            num_attention_heads=heads,
            num_key_value_heads=heads,
            vocab_size=max(self.image + 1, self.width),
            max_position_embeddings=1024,
            rms_norm_eps=1e-6,
        )
        vision = {"hidden_size": 8, "intermediate_size": 8, "num_hidden_layers": 2, "num_attention_heads": 1}
        vision |= {"image_size": 2 * side, "patch_size": 2, "projection_dim": 8}
        self.model = toy_llava(text_config, self.image, vision, scale=1)
        decoder = self.model.model.language_model
        with torch.no_grad():
            for layer in decoder.layers:
                layer.self_attn.o_proj.weight.zero_()
                layer.mlp.down_proj.weight.zero_()
            for index, place in enumerate(at):
                for short, module in MODULES.items():
                    decoder.layers[place].get_submodule(module).weight.copy_(weights[f"l{index}.{short}"])
            decoder.norm.weight.copy_(weights["norm"])
            decoder.embed_tokens.weight[1 : self.image] = text
            self.model.lm_head.weight.copy_(torch.eye(*self.model.lm_head.weight.shape))
        self.model.model.multi_modal_projector = ImageRows(x[start : start + n])

    def prompt(self, words: int | None = None) -> list[int]:
        """Ids of the prompt, or of one that ends after `words` text tokens."""
        text = list(range(1, (words or self.words) + 1))
        return text[: self.start] + [self.image] * self.n + text[self.start :]

    def run(self, method: DecoderMethod, prompts: list[list[int]] | None = None) -> Run:
        """Prefill `prompts`, left-padded (default: the recorded one), and decode the recorded steps."""
        prompts = prompts or [self.prompt()]
        longest = max(map(len, prompts))
        ids = torch.tensor([[0] * (longest - len(prompt)) + prompt for prompt in prompts])
        side = 2 * int(self.n**0.5)
        seen: list[list[int]] = []

        def note(_layer: nn.Module, _args: tuple, kwargs: dict) -> None:
            seen[-1].append(int(kwargs["position_ids"][0, -1]))

        with torch.no_grad(), prune(self.model, method) as session:
            mask = ids != 0
            pixels = torch.zeros(len(ids), 3, side, side)
            positions = (mask.cumsum(1) - 1).clamp(min=0)
            inputs = {"attention_mask": mask.long(), "position_ids": positions} if not mask.all() else {}
            cache = DynamicCache()
            out = self.model(input_ids=ids, pixel_values=pixels, past_key_values=cache, **inputs)
            lengths = [layer.keys.shape[2] for layer in cache.layers]
            hooks = [
                layer.register_forward_pre_hook(note, with_kwargs=True)
                for layer in self.model.model.language_model.layers
            ]
            decoded = []
            for step in range(self.steps):
                seen.append([])
                token = torch.full((len(ids), 1), self.words + 1 + step)
                decoded.append(self.model(input_ids=token, past_key_values=cache).logits[:, -1, : self.width])
            for hook in hooks:
                hook.remove()
        assert session.record is not None
        last = out.logits[:, -1, : self.width]
        return Run(session.record, last, torch.stack(decoded), lengths, torch.tensor(seen))
