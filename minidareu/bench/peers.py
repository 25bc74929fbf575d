"""The same work by transformers' GPT-2 (the `bench` extra)."""

import torch
import transformers

from ..model import GPT, pad

transformers.logging.set_verbosity_error()


def gpt2_of(model: GPT) -> transformers.GPT2LMHeadModel:
    """The same model as transformers has it: the same architecture, weights and outputs."""
    c = model.config
    config = transformers.GPT2Config(
        vocab_size=c.vocab_size,
        n_positions=c.block_size,
        n_embd=c.n_embd,
        n_layer=c.n_layer,
        n_head=c.n_head,
        resid_pdrop=0,
        embd_pdrop=0,
        attn_pdrop=0,
        bos_token_id=c.vocab_size - 1,
        eos_token_id=c.vocab_size - 1,
    )
    peer = transformers.GPT2LMHeadModel(config)
    ours, theirs = model.state_dict(), {}
    for name in peer.transformer.state_dict():
        p = ours[name.replace("mlp.c_fc", "mlp.0").replace("mlp.c_proj", "mlp.2")]
        # GPT-2 stores the transposed matrices of its linear layers.
        linear = any(part in name for part in ("c_attn.w", "c_proj.w", "c_fc.w"))
        theirs[name] = p.T if linear else p
    peer.transformer.load_state_dict(theirs)
    return peer.to(model.device)  # type: ignore[arg-type]


def train_epoch(peer, sequences, lr):
    """A plain training loop: one pass over batches (lists of sequences), padded on the right."""
    device = peer.device
    optimizer = torch.optim.AdamW(peer.parameters(), lr=lr)
    for batch in sequences:
        ids, labels = pad(batch, device=device), pad(batch, value=-100, device=device)
        mask = (labels != -100).long()
        loss = peer(input_ids=ids, attention_mask=mask, labels=labels).loss
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(peer.parameters(), 1.0)
        optimizer.step()


def sample(peer, prompts, max_new_tokens, temperature, eos_id):
    """Responses by `generate` with its cache: how many tokens they have, end of text included."""
    # Padded on the left.
    ids = pad([x[::-1] for x in prompts], value=eos_id, device=peer.device).flip(1)
    mask = pad([[1] * len(x) for x in prompts], device=peer.device).flip(1)
    out = peer.generate(
        ids,
        attention_mask=mask,
        max_new_tokens=max_new_tokens,
        do_sample=True,
        temperature=temperature,
        top_k=0,
        eos_token_id=eos_id,
        pad_token_id=eos_id,
    )
    ended = (out[:, ids.size(1) :] == eos_id).long().cumsum(dim=1)
    return int((ended == 0).sum() + (ended == 1).any(dim=1).sum())
