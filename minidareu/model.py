"""GPT-2's architecture (Radford et al. 2019), and batched generation with a key-value cache.

Shapes: B batch, T tokens, C channels (n_embd), H heads, D channels of a head, V vocabulary.
"""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import nn


@dataclass
class GPTConfig:
    vocab_size: int
    block_size: int  # the longest sequence, in tokens
    n_layer: int = 3
    n_head: int = 4
    n_embd: int = 64


class Attention(nn.Module):
    def __init__(self, config):
        super().__init__()
        self.n_head = config.n_head
        self.c_attn = nn.Linear(config.n_embd, 3 * config.n_embd)
        self.c_proj = nn.Linear(config.n_embd, config.n_embd)

    def forward(self, x, cache=None, positions=None, seen=None):
        B, T, C = x.shape
        q, k, v = (z.view(B, T, self.n_head, -1).transpose(1, 2) for z in self.c_attn(x).split(C, dim=2))  # (B, H, T, D)
        if cache is not None:
            row, S = torch.arange(B, device=x.device)[:, None], seen.size(-1)
            cache[0][row, :, positions], cache[1][row, :, positions] = k.transpose(1, 2), v.transpose(1, 2)
            k, v = cache[:, :, :, :S]
        y = F.scaled_dot_product_attention(q, k, v, attn_mask=seen, is_causal=seen is None)
        return self.c_proj(y.transpose(1, 2).reshape(B, T, C))


class Block(nn.Module):
    def __init__(self, config):
        super().__init__()
        self.ln_1 = nn.LayerNorm(config.n_embd)
        self.attn = Attention(config)
        self.ln_2 = nn.LayerNorm(config.n_embd)
        self.mlp = nn.Sequential(nn.Linear(config.n_embd, 4 * config.n_embd), nn.GELU(approximate="tanh"),
                                 nn.Linear(4 * config.n_embd, config.n_embd))

    def forward(self, x, *cached):
        x = x + self.attn(self.ln_1(x), *cached)
        return x + self.mlp(self.ln_2(x))


class GPT(nn.Module):
    def __init__(self, config):
        super().__init__()
        self.config = config
        self.wte = nn.Embedding(config.vocab_size, config.n_embd)  # also the output layer: GPT-2 ties the two
        self.wpe = nn.Embedding(config.block_size, config.n_embd)
        self.h = nn.ModuleList(Block(config) for _ in range(config.n_layer))
        self.ln_f = nn.LayerNorm(config.n_embd)
        for name, p in self.named_parameters():
            if p.dim() == 2:
                # GPT-2: projections back into the residual stream start smaller, by the number of them.
                residual = name.endswith(("c_proj.weight", "mlp.2.weight"))
                nn.init.normal_(p, std=0.02 / (2 * config.n_layer) ** 0.5 if residual else 0.02)
            elif name.endswith("bias"):
                nn.init.zeros_(p)

    def activations(self, idx, n_blocks=None):
        """Hidden states after the first `n_blocks` blocks, or all: idx (B, T) -> (B, T, C)."""
        x = self.wte(idx) + self.wpe(torch.arange(idx.size(1), device=idx.device))
        for block in self.h[:n_blocks]:
            x = block(x)
        return x

    def hidden(self, idx):
        """Last hidden states: idx (B, T) -> (B, T, C)."""
        return self.ln_f(self.activations(idx))

    def hidden_cached(self, idx, positions, cache):
        """The same for tokens at `positions` (B, T), after those whose keys and values `cache` holds; adds theirs.

        cache: (layers, 2, B, H, longest, D). Row i sees what it wrote at its own position and before.
        """
        seen = torch.arange(int(positions.max()) + 1, device=idx.device) <= positions[:, None, :, None]  # (B, 1, T, S)
        x = self.wte(idx) + self.wpe(positions)
        for block, block_cache in zip(self.h, cache):
            x = block(x, block_cache, positions, seen)
        return self.ln_f(x)

    def forward(self, idx):
        """Next-token logits: idx (B, T) -> (B, T, V). Padding on the right changes nothing to its left."""
        return self.hidden(idx) @ self.wte.weight.T


def pad(rows, value=0, device="cpu"):
    """Lists of ids, of any lengths -> (B, longest), padded on the right."""
    return nn.utils.rnn.pad_sequence([torch.tensor(row, dtype=torch.long) for row in rows], True, value).to(device)


def pack(prompts, completions, device):
    """Prompts and completions as lists of ids -> idx (B, T), and mask (B, T - 1): 1 where token t + 1 is the completion's."""
    idx = pad([x + y for x, y in zip(prompts, completions)], device=device)
    start = torch.tensor([len(x) for x in prompts], device=device)[:, None] - 1
    t = torch.arange(idx.size(1) - 1, device=device)
    length = torch.tensor([len(y) for y in completions], device=device)[:, None]
    return idx, ((start <= t) & (t < start + length)).float()


def pack_pairs(pairs, eos_id, device):
    """(prompt, response) ids -> `pack` of them, the end of text after each response."""
    return pack([x for x, _ in pairs], [y + [eos_id] for _, y in pairs], device)


@torch.no_grad()
def generate(model, prompts, max_new_tokens, temperature, eos_id):
    """Continue each prompt until `eos_id`, `max_new_tokens` new tokens, or the model's block size in all.

    prompts: lists of ids, of any lengths. Temperature 0 is greedy; sampling draws from torch's global generator.
    Returns the new ids of each prompt, without `eos_id`: one of `max_new_tokens` was cut short.

    Prompts are padded on the right, and the first new token of row i takes the place of its first padding: so every
    token has its true position, and a row is never disturbed by its neighbours.
    """
    device, config = model.wte.weight.device, model.config
    idx = pad(prompts, device=device)
    position = torch.tensor([len(prompt) for prompt in prompts], device=device)  # where a row's next token goes
    B, T = idx.shape
    longest = min(T + max_new_tokens, config.block_size)
    cache = torch.zeros(config.n_layer, 2, B, config.n_head, longest, config.n_embd // config.n_head, device=device)
    rows = torch.arange(B, device=device)  # those not finished yet
    x = model.hidden_cached(idx, torch.arange(T, device=device).expand(B, T), cache)[rows, position - 1]  # (B, C)
    out = torch.full((B, max_new_tokens), eos_id, device=device)
    for step in range(max_new_tokens):
        logits = x @ model.wte.weight.T
        token = torch.multinomial(F.softmax(logits / temperature, -1), 1)[:, 0] if temperature else logits.argmax(-1)
        out[rows, step] = torch.where(position < config.block_size, token, eos_id)
        going = (out[rows, step] != eos_id) & (position + 1 < config.block_size)
        if not going.any():
            break
        if going.sum() < 0.8 * len(rows):  # a copy of the cache is worth it once enough rows have finished
            rows, token, position, cache = rows[going], token[going], position[going], cache[:, :, going]
        x = model.hidden_cached(token[:, None], position[:, None].clamp(max=longest - 1), cache)[:, 0]
        position = position + 1
    return [row[:row.index(eos_id)] if eos_id in row else row for row in out.tolist()]


def with_end(model, prompts, responses, max_new_tokens, eos_id):
    """What `generate` gave, each with the end of text that it leaves out: but not where a response was cut."""
    longest = [min(max_new_tokens, model.config.block_size - len(x)) for x in prompts]
    return [y + [eos_id] if len(y) < n else y for y, n in zip(responses, longest)]


def generate_in_chunks(model, prompts, max_new_tokens, temperature, eos_id, chunk=256):
    """`generate` for any number of prompts, so many at a time."""
    return [ids for i in range(0, len(prompts), chunk) for ids in generate(model, prompts[i:i + chunk], max_new_tokens, temperature, eos_id)]
