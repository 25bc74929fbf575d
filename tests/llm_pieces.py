"""A pretrained model at toy size, and DareU on it with responses that are given."""

from argparse import Namespace
import torch
import transformers

from minidareu import dareu
from minidareu.data import Task
from minidareu.model import GPT
from minidareu.run.flags import Config

LIMITS = {"max_new_tokens": 6, "eos_id": 0}
OPTIONS = Namespace(bf16=False, checkpointing=False, lora_rank=4, lora_alpha=8, lora_dropout=0.0)
QUERIES = [([5, 6, 7 + i], i % 3) for i in range(5)]
RETAIN = [([8, 9 + i], [20 + i, 21, 22 + i][: 1 + i % 3]) for i in range(7)]
RESPONSES = {7 + i: [30 + i, 31, 32, 33 + i][: 2 + i % 3] for i in range(5)}  # by a prompt's end


def save_model(folder, kind="Llama", context=128):
    """A random model of two layers and a tokenizer of bytes."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers

    alphabet = ["<end>", *sorted(pre_tokenizers.ByteLevel.alphabet())]
    bytes_alone = Tokenizer(models.BPE({c: i for i, c in enumerate(alphabet)}, []))
    bytes_alone.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    bytes_alone.decoder = decoders.ByteLevel()
    tokenizer = transformers.PreTrainedTokenizerFast(
        tokenizer_object=bytes_alone, eos_token="<end>"
    )
    sizes = dict(vocab_size=257, hidden_size=32, intermediate_size=64, num_hidden_layers=2)
    heads = dict(num_attention_heads=4, num_key_value_heads=2, head_dim=8)
    config = getattr(transformers, f"{kind}Config")(
        **sizes, **heads, max_position_embeddings=context, initializer_range=0.3
    )
    torch.manual_seed(0)
    getattr(transformers, f"{kind}ForCausalLM")(config).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return str(folder)


def toy_run(block_size=32):
    """As much of a Run as a policy is made from."""
    sizes = Namespace(block_size=block_size)
    return Namespace(device="cpu", gpt_config=sizes, config=Config(seed=0))


def attribute(prompts, responses, owners):
    """Some attribution that differs from token to token."""
    longest = max(map(len, responses))
    t = torch.arange(longest + 1)
    return torch.stack([(0.2 + 0.1 * owner + 0.1 * t).clamp(max=0.9) for owner in owners])


def given_responses(self, prompts, max_new_tokens, temperature, eos_id):
    return [RESPONSES[prompt[-1]] for prompt in prompts]


def unlearn(policy, steps=3, **flags):
    """DareU's updates on responses that are given. Returns its log."""
    kind = type(policy)
    own, kind.generate = kind.generate, given_responses
    task = Task(QUERIES, RETAIN, attribute=attribute, **LIMITS)
    config = Config(
        seed=0, data_epochs=1, ppo_steps=steps, retain_batch=4, forget_batch=5, rl_lr=1e-2, **flags
    )
    try:
        return list(dareu.unlearn(policy, task, config))
    finally:
        kind.generate = own


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
