"""A causal language model of transformers as a policy: hidden states, logits, answers, snapshots.

One base model serves a whole run. Each model of the run (original, retrained, a method's, pi_old)
is an adapter in it (LoRA, Hu et al. 2022), so a snapshot copies some megabytes, never the model.
"""

import copy
import itertools
import weakref
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn
from transformers import GenerationConfig

from ..data import Ids
from ..model import GPTConfig, pad, room

SERIAL = itertools.count()  # of the names of adapters


@dataclass
class Base:
    """What all models of a run share."""

    model: Any  # of transformers, with the adapters in it
    peft: Any  # peft's view of it
    config: GPTConfig  # its sizes
    digest: str = ""  # of the weights that the adapters are on
    checkpointing: bool = False  # states are computed twice, so that fewer are kept
    dropout: bool = False  # in fine-tuning alone, so that PPO's ratio begins at 1
    policies: weakref.WeakSet = field(default_factory=weakref.WeakSet)

    def use(self, name: str) -> None:
        """Make this adapter the one that is computed with."""
        self.peft.set_adapter(name)
        # peft froze all others; the gradient of a loss of theirs may be on its way.
        for policy in self.policies:
            for p in policy.parameters():
                p.requires_grad_(policy.trains)

    def drop(self, name: str) -> None:
        """Leave out this adapter, which no policy has any more."""
        self.use("start")
        self.peft.delete_adapter(name)


class LLM:
    """A model of a run, with all that `model.Policy` asks for."""

    def __init__(self, base: Base, name: str = "start", trains: bool = False):
        self.base, self.name, self.trains, self.device = base, name, trains, base.model.device
        self.config, self.digest = base.config, base.digest
        self.width, self.block_size = base.config.n_embd, base.config.block_size
        own = [(n, p) for n, p in base.model.named_parameters() if f".{name}." in n]
        self.weights = {n.replace(f".{name}.", "."): p for n, p in own}
        base.policies.add(self)
        base.use(name)

    def hidden(self, idx: Tensor, depth: float = 1.0) -> Tensor:
        """Last hidden states, or those after this share of the blocks: idx (B, L) -> (B, L, C).

        Padding on the right changes nothing to its left: no mask is needed.
        """
        base = self.base
        base.use(self.name)
        base.model.train(base.dropout or (base.checkpointing and torch.is_grad_enabled()))
        for module in base.model.modules():
            if isinstance(module, nn.Dropout):  # of the adapters; `load_policy` ended all other
                module.train(base.dropout)
        out = base.model.base_model(idx, use_cache=False, output_hidden_states=depth < 1)
        layer = max(1, int(depth * self.config.n_layer))
        states = out.last_hidden_state if depth == 1 else out.hidden_states[layer]
        return states.float()

    def logits(self, hidden: Tensor) -> Tensor:
        """Hidden states (..., C) -> next-token logits (..., V)."""
        head = self.base.model.get_output_embeddings()
        return head(hidden.to(head.weight.dtype)).float()

    @torch.inference_mode()
    def generate(
        self, prompts: list[Ids], max_new_tokens: int, temperature: float, eos_id: int
    ) -> list[Ids]:
        """As `model.generate`, by the library's own loop; prompts are padded on the left."""
        self.base.use(self.name)
        self.base.model.eval()
        limits = room(self, prompts, max_new_tokens)
        idx = pad([x[::-1] for x in prompts], value=eos_id, device=self.device).flip(1)
        text = pad([[1] * len(x) for x in prompts], device=self.device).flip(1)
        sampling = {"temperature": temperature, "top_k": 0} if temperature else {}
        ends = {"eos_token_id": eos_id, "pad_token_id": eos_id, "max_new_tokens": max(1, *limits)}
        how = GenerationConfig(do_sample=temperature > 0, **sampling, **ends)
        out = self.base.model.generate(idx, attention_mask=text, generation_config=how)
        responses = out[:, idx.size(1) :].tolist()
        cut = [y[:most] for y, most in zip(responses, limits, strict=True)]
        return [y[: y.index(eos_id)] if eos_id in y else y for y in cut]

    def parameters(self) -> Iterator[nn.Parameter]:
        """Those that are trained: the adapter's."""
        return iter(self.weights.values())

    def requires_grad_(self, trains: bool) -> "LLM":
        self.trains = trains
        self.base.use(self.name)
        return self

    def state_dict(self) -> dict[str, Tensor]:
        return {name: p.detach().cpu().clone() for name, p in self.weights.items()}

    @torch.no_grad()
    def load_state_dict(self, state: dict[str, Tensor]) -> None:
        for name, p in self.weights.items():
            p.copy_(state[name])

    def snapshot(self) -> "LLM":
        """A copy that takes no gradient."""
        return self.copy(trains=False)

    def __deepcopy__(self, memo) -> "LLM":
        return self.copy(trains=True)

    def copy(self, trains: bool, name: str = "") -> "LLM":
        """An adapter of the same weights."""
        base, name = self.base, name or f"copy{next(SERIAL)}"
        base.peft.add_adapter(name, copy.deepcopy(base.peft.peft_config[self.name]))
        made = LLM(base, name, trains)
        made.load_state_dict(self.weights)
        weakref.finalize(made, base.drop, name).atexit = False  # it goes when the policy does
        return made
