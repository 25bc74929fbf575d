"""Sizes that follow from the data, and what a dataset needs otherwise."""

from ..files import InputError

# Flags that a dataset needs. What is given beside --preset goes before them.
PRESETS = {
    # TOFU's authors share no names: only the forget rows contain these, so forgetting an author
    # includes the name, and DareU+ too rewards the whole response. Its answers are long and share
    # little: a wider model and a higher rate know them in a quarter of the passes, and they take
    # more updates to forget, in which most responses begin within an answer.
    "tofu": dict(
        forget_fraction=0.1,
        n_embd=192,
        vocab_size=4096,
        lr=2.5e-3,
        plus_kl_coef=0.02,
        plus_lr=2.5e-3,
        plus_updates=224,
        plus_beginnings=0.75,
        plus_retain_batch=64,
    )
}


def size_rule(config, responses):
    """Sizes that are not given follow from the number S of characters in the distinct training
    responses: S < 70,000: vocabulary 1,024, width 96; S < 400,000: 2,048 and 128; above: 4,096
    and 192. The language models and the classifier read their rows until they know them. The
    context is what the longest prompt and response need, 1,024 tokens at most.
    """
    size = sum(map(len, set(responses)))
    tier = (size >= 70_000) + (size >= 400_000)
    config.vocab_size = config.vocab_size or [1024, 2048, 4096][tier]
    config.n_embd = config.n_embd or [96, 128, 192][tier]
    config.lr = config.lr or round(0.34 / config.n_embd, 6)
    if config.n_embd % config.n_head:
        raise InputError(
            f"--n-embd: {config.n_embd} does not divide among {config.n_head} heads; "
            "give a multiple, or another --n-head"
        )
