"""The same work by other libraries: transformers' GPT-2, and TRL's GRPO (the `bench` extra)."""

import time

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


def word_tokenizer(vocab_size):
    """A tokenizer for TRL whose words are the ids themselves: "17 4 256"."""
    from tokenizers import Tokenizer, models, pre_tokenizers

    vocabulary = {str(i): i for i in range(vocab_size)}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token="0"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    last = str(vocab_size - 1)
    return transformers.PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, eos_token=last, pad_token=last
    )


def grpo_seconds(peer, prompts, max_new_tokens, lr, temperature, folder, steps):
    """Seconds of each of TRL's GRPO steps: new responses, two to a prompt; a reward that costs
    nothing; no reference model, as is its default; one update. `prompts` make a batch of twice as
    many."""
    import datasets
    import trl

    began, seconds = [], []

    class Clock(transformers.TrainerCallback):
        def on_step_begin(self, args, state, control, **kwargs):
            began.append(time.perf_counter())

        def on_step_end(self, args, state, control, **kwargs):
            seconds.append(time.perf_counter() - began[-1])

    def reward(completions, **kwargs):
        return [float(len(text)) for text in completions]

    rows = [{"prompt": " ".join(map(str, prompt))} for prompt in prompts]
    settings = trl.GRPOConfig(
        output_dir=str(folder),
        per_device_train_batch_size=2 * len(prompts),
        num_generations=2,
        max_completion_length=max_new_tokens,
        max_steps=steps,
        learning_rate=lr,
        temperature=temperature,
        bf16=False,
        gradient_checkpointing=False,
        use_cpu=peer.device.type == "cpu",
        report_to=[],
        save_strategy="no",
        logging_strategy="no",
        disable_tqdm=True,
    )
    trainer = trl.GRPOTrainer(
        model=peer,
        reward_funcs=reward,
        args=settings,
        train_dataset=datasets.Dataset.from_list(rows),
        processing_class=word_tokenizer(peer.config.vocab_size),
        callbacks=[Clock()],
    )
    trainer.remove_callback(transformers.PrinterCallback)
    trainer.train()
    return seconds
