"""GPT-2's architecture (Radford et al. 2019), batched generation, log-probabilities of responses.

Shapes: B batch, L tokens of a sequence, T tokens of a response, C channels (n_embd), H heads,
D channels of a head, V vocabulary.
"""

import copy
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Protocol

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .data import Ids, Pair

Device = str | torch.device


class Policy(Protocol):
    """All that unlearning asks of a language model; whatever has these can take the GPT's place."""

    width: int  # C, of its hidden states
    block_size: int  # the longest prompt and response, in tokens

    @property
    def device(self) -> torch.device: ...
    def hidden(self, idx: Tensor, depth: float = 1.0) -> Tensor: ...  # (B, L) -> (B, L, C)
    def logits(self, hidden: Tensor) -> Tensor: ...  # (..., C) -> (..., V)
    def generate(
        self, prompts: list[Ids], max_new_tokens: int, temperature: float, eos_id: int
    ) -> list[Ids]: ...
    def parameters(self) -> Iterator[nn.Parameter]: ...  # those that are trained
    def snapshot(self) -> "Policy": ...  # as it is now, frozen


@dataclass
class GPTConfig:
    vocab_size: int
    block_size: int  # the longest sequence, in tokens
    n_layer: int = 3
    n_head: int = 4
    n_embd: int = 64


@dataclass(frozen=True)
class Training:  # how a model is trained on labels
    epochs: int | None  # passes over the rows; None: until they are known
    batch_size: int  # rows in a step
    lr: float  # peak learning rate
    seed: int


def descend(optimizer: torch.optim.Optimizer, loss: Tensor, clip_norm: float = 1.0) -> float:
    """One step down the gradient of a loss, which is clipped to a norm, each group of parameters by
    itself. Returns the norm of the first group before that."""
    optimizer.zero_grad()
    loss.backward()
    norms = [nn.utils.clip_grad_norm_(g["params"], clip_norm) for g in optimizer.param_groups]
    optimizer.step()
    return norms[0].item()


class Attention(nn.Module):
    def __init__(self, config):
        super().__init__()
        self.n_head = config.n_head
        self.c_attn = nn.Linear(config.n_embd, 3 * config.n_embd)
        self.c_proj = nn.Linear(config.n_embd, config.n_embd)

    def forward(self, x, cache=None, seen=None):
        B, L, C = x.shape
        q, k, v = self.c_attn(x).split(C, dim=2)
        q = q.view(B, L, self.n_head, -1).transpose(1, 2)  # (B, H, L, D)
        k = k.view(B, L, self.n_head, -1).transpose(1, 2)
        v = v.view(B, L, self.n_head, -1).transpose(1, 2)
        if cache is not None:
            n_seen = seen.size(-1)
            cache[0, :, :, n_seen - L : n_seen] = k
            cache[1, :, :, n_seen - L : n_seen] = v
            k, v = cache[:, :, :, :n_seen]
        y = F.scaled_dot_product_attention(q, k, v, attn_mask=seen, is_causal=seen is None)
        return self.c_proj(y.transpose(1, 2).reshape(B, L, C))


class Block(nn.Module):
    def __init__(self, config):
        super().__init__()
        self.ln_1 = nn.LayerNorm(config.n_embd)
        self.attn = Attention(config)
        self.ln_2 = nn.LayerNorm(config.n_embd)
        self.mlp = nn.Sequential(
            nn.Linear(config.n_embd, 4 * config.n_embd),
            nn.GELU(approximate="tanh"),
            nn.Linear(4 * config.n_embd, config.n_embd),
        )

    def forward(self, x, *cached):
        x = x + self.attn(self.ln_1(x), *cached)
        return x + self.mlp(self.ln_2(x))


class GPT(nn.Module):
    def __init__(self, config: GPTConfig):
        super().__init__()
        self.config, self.width, self.block_size = config, config.n_embd, config.block_size
        self.wte = nn.Embedding(config.vocab_size, config.n_embd)  # also the output layer (GPT-2)
        self.wpe = nn.Embedding(config.block_size, config.n_embd)
        self.h = nn.ModuleList(Block(config) for _ in range(config.n_layer))
        self.ln_f = nn.LayerNorm(config.n_embd)
        for name, p in self.named_parameters():
            if p.dim() == 2:
                # GPT-2: projections back into the residual stream start smaller.
                residual = name.endswith(("c_proj.weight", "mlp.2.weight"))
                nn.init.normal_(p, std=0.02 / (2 * config.n_layer) ** 0.5 if residual else 0.02)
            elif name.endswith("bias"):
                nn.init.zeros_(p)

    @property
    def device(self) -> torch.device:
        return self.wte.weight.device

    def hidden(self, idx: Tensor, depth: float = 1.0) -> Tensor:
        """Last hidden states, or those after this share of the blocks: idx (B, L) -> (B, L, C)."""
        x = self.wte(idx) + self.wpe(torch.arange(idx.size(1), device=idx.device))
        for block in self.h[: max(1, int(depth * len(self.h)))]:
            x = block(x)
        return self.ln_f(x) if depth == 1 else x

    def hidden_cached(self, idx, positions, cache, seen):
        """The same for new tokens at `positions` (B, L), after those whose keys and values are
        cached.

        cache: (layers, 2, B, H, longest, D); the new tokens' own are added. seen: (B, 1, L, S),
        which of the S tokens so far, the new ones last, each of the new ones may see.
        """
        x = self.wte(idx) + self.wpe(positions)
        for block, block_cache in zip(self.h, cache, strict=True):
            x = block(x, block_cache, seen)
        return self.ln_f(x)

    def logits(self, hidden):
        """Hidden states (..., C) -> next-token logits (..., V)."""
        return hidden @ self.wte.weight.T

    def forward(self, idx: Tensor) -> Tensor:
        """Next-token logits: idx (B, L) -> (B, L, V). Padding changes nothing to its left."""
        return self.logits(self.hidden(idx))

    def generate(
        self, prompts: list[Ids], max_new_tokens: int, temperature: float, eos_id: int
    ) -> list[Ids]:
        """See `generate` below."""
        return generate(self, prompts, max_new_tokens, temperature, eos_id=eos_id)

    def snapshot(self) -> "GPT":
        """A copy that takes no gradient."""
        return copy.deepcopy(self).requires_grad_(False)


def pad(rows: list[Ids], value: int = 0, device: Device = "cpu") -> Tensor:
    """Lists of ids, of any lengths -> (B, longest), padded on the right."""
    tensors = [torch.tensor(row, dtype=torch.long) for row in rows]
    return nn.utils.rnn.pad_sequence(tensors, batch_first=True, padding_value=value).to(device)


@dataclass
class Batch:
    """Prompts with their responses. Column t of a (B, T) tensor is about token t of a response."""

    idx: Tensor  # (B, L) prompt, response, padding
    response: Tensor  # (B, T) tokens of the response, padding
    before: Tensor  # (B, T) where in idx the token before each of them stands
    mask: Tensor  # (B, T) 1 on the response, 0 after its end


def pack(prompts: list[Ids], responses: list[Ids], device: Device) -> Batch:
    """Prompts and responses, as lists of ids -> Batch."""
    idx = pad([x + y for x, y in zip(prompts, responses, strict=True)], device=device)
    response = pad(responses, device=device)
    t = torch.arange(response.size(1), device=device)
    start = torch.tensor([len(x) for x in prompts], device=device)[:, None]
    length = torch.tensor([len(y) for y in responses], device=device)[:, None]
    before = (start + t - 1).clamp(max=idx.size(1) - 1)
    return Batch(idx=idx, response=response, before=before, mask=(t < length).float())


def pack_pairs(pairs: list[Pair], eos_id: int, device: Device) -> Batch:
    """(prompt, response) ids -> Batch, with the end of text after each response."""
    return pack([x for x, _ in pairs], [y + [eos_id] for _, y in pairs], device)


def response_hidden(model: Policy, batch: Batch) -> Tensor:
    """Hidden states that predict the response's tokens, context c_t: (B, T, C)."""
    hidden = model.hidden(batch.idx)
    return hidden.gather(1, batch.before[:, :, None].expand(-1, -1, hidden.size(-1)))


def next_log_probs(model: Policy, hidden: Tensor, temperature: float = 1.0) -> Tensor:
    """Hidden states (..., C) -> log-probabilities of the next token (..., V)."""
    return F.log_softmax(model.logits(hidden) / temperature, dim=-1)


def log_probs(model: Policy, batch: Batch, temperature: float = 1.0) -> Tensor:
    """log pi(. | c_t), the whole distribution at each token of the responses: (B, T, V)."""
    return next_log_probs(model, response_hidden(model, batch), temperature)


def packed_log_probs(model: Policy, batch: Batch) -> Tensor:
    """log pi(. | c_t) at the N tokens of the responses, without their padding: (N, V)."""
    return next_log_probs(model, response_hidden(model, batch)[batch.mask > 0])


def chosen(logp: Tensor, batch: Batch) -> Tensor:
    """log pi(y[t] | c_t) from `log_probs`: (B, T, V) -> (B, T), zero after a response's end."""
    return logp.gather(2, batch.response[:, :, None]).squeeze(2) * batch.mask


def sample_tokens(logits: Tensor, temperature: float) -> Tensor:
    """One token a row: the likeliest at temperature 0, a draw otherwise. (B, V) -> (B,)."""
    if temperature == 0:
        return logits.argmax(dim=-1)
    # The inverse of the cumulative distribution: a single random number a row.
    cumulative = F.softmax(logits / temperature, dim=-1).cumsum(dim=-1)
    draw = torch.rand(len(logits), 1, device=logits.device) * cumulative[:, -1:]
    token = torch.searchsorted(cumulative, draw, right=True).squeeze(1)
    return token.clamp(max=logits.size(-1) - 1)


def room(model: Policy, prompts: list[Ids], max_new_tokens: int) -> list[int]:
    """How many tokens the response to each prompt may have, for the context has an end."""
    return [max(0, min(max_new_tokens, model.block_size - len(prompt))) for prompt in prompts]


@torch.inference_mode()
def generate(
    model: GPT, prompts: list[Ids], max_new_tokens: int, temperature: float, eos_id: int
) -> list[Ids]:
    """Continue each prompt until `eos_id`, `max_new_tokens`, or the model's block size in all.

    Greedy at temperature 0; sampling draws from torch's global generator. Without `eos_id`.

    Prompts are padded on the left, so that all rows write their next token in the same column. No
    token sees the padding, and each has its true position: no row is disturbed by its neighbours.
    """
    device, config = model.device, model.config
    limits = room(model, prompts, max_new_tokens)
    limit = torch.tensor(limits, device=device)
    length = torch.tensor([len(prompt) for prompt in prompts], device=device)
    B, L = len(prompts), max(map(len, prompts))
    longest = L + max_new_tokens
    idx = pad([prompt[::-1] for prompt in prompts], device=device).flip(1)  # (B, L)
    column = torch.arange(longest, device=device)
    position = column - (L - length)[:, None]  # (B, longest), negative on the padding
    text = position >= 0
    position = position.clamp(0, config.block_size - 1)
    # A token of the text sees the text up to itself; padding sees padding, for it must see one.
    seen = (text[:, :L, None] == text[:, None, :L]) & (column[:L] <= column[:L, None])
    head_size = config.n_embd // config.n_head
    shape = (config.n_layer, 2, B, config.n_head, longest, head_size)
    cache = model.wte.weight.new_empty(shape)
    x = model.hidden_cached(idx, position[:, :L], cache, seen[:, None])[:, -1]  # (B, C)
    out = torch.full((B, max_new_tokens), eos_id, device=device)
    rows = torch.arange(B, device=device)  # those not finished yet
    for step in range(max_new_tokens):
        token = sample_tokens(model.logits(x), temperature)
        out[rows, step] = token
        unfinished = (token != eos_id) & (step + 1 < limit)
        n_unfinished = int(unfinished.sum())
        if n_unfinished == 0:
            break
        if n_unfinished < 0.8 * len(rows):
            # Enough rows have finished for a copy of the cache to be worth it.
            rows, limit, token = rows[unfinished], limit[unfinished], token[unfinished]
            position, text = position[unfinished], text[unfinished]
            cache = cache[:, :, unfinished]
        here = L + step
        seen = text[:, None, None, : here + 1]
        x = model.hidden_cached(token[:, None], position[:, here, None], cache, seen)[:, 0]
    responses = [row[:most] for row, most in zip(out.tolist(), limits, strict=True)]
    return [y[: y.index(eos_id)] if eos_id in y else y for y in responses]


def with_end(
    model: Policy, prompts: list[Ids], responses: list[Ids], max_new_tokens: int, eos_id: int
) -> list[Ids]:
    """What `generate` gave, each with the end of text; but not where a response was cut."""
    limits = room(model, prompts, max_new_tokens)
    return [
        y + [eos_id] if len(y) < limit else y for y, limit in zip(responses, limits, strict=True)
    ]
