"""Every setting of a run. Each field is a flag of `train.py`; None means that `size_rule` sets it from the data."""

import argparse
import hashlib
import json
from dataclasses import dataclass, field, fields

from .baselines import METHODS
from .cli import make_parser
from .data import InputError

STAGES = ["data", "model", "classifier", "dareu", "baselines", "run"]  # a flag belongs to the first stage that it matters to


# Flags that a dataset needs; what is given beside --preset goes before them.
PRESETS = {
    # A model of this size that never read a TOFU author can't say the name, which here no other author shares: so the name is
    # something that the forget rows taught, and the whole response is what should not be attributed. It has its rows by heart, and
    # a smaller learning rate, for longer, keeps it from losing the retain set on the way.
    "tofu": dict(forget_fraction=0.1, n_layer=2, n_embd=192, vocab_size=4096, epochs=24, mask_prompt=False, kl_coef=0.01, prompts=64, group_size=2,
                 rl_lr=5e-4, iterations=76),
}


def flag(default, stage, help, type=None, choices=None, low=None, high=None, name=None):
    """A field with what its flag needs: help, the least and the largest value that make sense, and a name where it is not the field's."""
    return field(default=default, metadata=dict(stage=stage, help=help, type=type or default.__class__, choices=choices, low=low, high=high,
                                                name=name))


@dataclass
class Config:
    data: str = flag("data/authors/authors.jsonl", "data", "owner dataset, JSON lines or CSV")
    forget: str | None = flag(None, "data", "owners to forget, comma-separated; by default --n-forget of them, drawn by seed", type=str)
    n_forget: int | None = flag(None, "data", "how many owners to forget, where --forget names none; default 2, of two 1", type=int, low=0)
    forget_fraction: float | None = flag(None, "data", "forget this share of the owners, the last ones of the file", type=float, low=1e-9, high=0.999)
    test_fraction: float = flag(0.1, "data", "share of the retain rows held out where the data have no test row", low=0.001, high=0.9)
    seed: int = flag(0, "data", "seed of every random choice", low=0, high=2**32 - 1)
    block_size: int | None = flag(None, "data", "context in tokens; default: what the longest rows need, 1,024 at most", type=int, low=128)
    truncate: bool = flag(False, "data", "cut rows that are longer than the context, where they would be an error")
    tokenizer: str = flag("bpe", "data", "bpe: trained on the data, needs no network; gpt2: fetched on first use", choices=["bpe", "gpt2"])
    vocab_size: int | None = flag(None, "data", "size of the bpe vocabulary; by size: 1024, 2048, 4096", type=int, low=257)

    n_layer: int = flag(2, "model", "layers of the language model", low=1)
    n_head: int = flag(4, "model", "attention heads of the language model", low=1)
    n_embd: int | None = flag(None, "model", "width of the language model; by size: 96, 128, 192", type=int, low=1)
    epochs: int | None = flag(None, "model", "passes over the training rows; by size: 32 or more", type=int, low=1)
    batch_size: int = flag(32, "model", "rows in a training step, of the language model and of the classifier", low=1)
    lr: float | None = flag(None, "model", "peak learning rate; default 0.48 / width", type=float, low=1e-9)

    classifier_layers: int = flag(1, "classifier", "layers of the attribution classifier", low=1)
    classifier_width: int = flag(64, "classifier", "width of the attribution classifier, a multiple of 4", low=4)
    classifier_epochs: int | None = flag(None, "classifier", "passes over the rows; by size: 40 or more", type=int, low=1)
    classifier_lr: float = flag(2e-3, "classifier", "peak learning rate of the classifier", low=0)
    classifier_noise: float = flag(0.1, "classifier", "share of the tokens replaced by others while it trains", low=0, high=1)

    algorithm: str = flag("ppo", "dareu", "how the policy is updated", choices=["ppo", "reinforce"])
    reward: str = flag("classifier", "dareu", "whose attribution is rewarded; exact: how much likelier a response is under the target than "
                                              "under the retrained model, to see what the classifier costs; with --kl-coef 1",
                       choices=["classifier", "exact"])
    mask_prompt: bool = flag(True, "dareu", "reward what a response adds to its prompt; --no-mask-prompt: the whole response")
    iterations: int | None = flag(None, "dareu", "rollouts; default 16 (reinforce: 24), or 20 responses to each prompt", type=int, low=1)
    prompts: int = flag(32, "dareu", "forget prompts in a rollout", low=1)
    group_size: int = flag(4, "dareu", "responses to each of them", low=2)
    reference_responses: int = flag(1, "dareu", "how many of them are the reference's, so that what the policy no longer says stays forbidden", low=0)
    prompt_dropout: float | None = flag(None, "dareu", "share of a prompt's tokens left out in a rollout, so that other wordings are unlearned too; "
                                                       "default 0.15, or 0 where the model knows its prompts by heart", type=float, low=0, high=0.9)
    temperature: float = flag(1.0, "dareu", "sampling temperature of a rollout", low=0.01)
    rl_lr: float = flag(1e-3, "dareu", "learning rate of the policy, annealed to zero", low=0)
    kl_coef: float = flag(0.03, "dareu", "beta: weight of the KL penalty in the reward", low=0)
    kl_target: float = flag(0.0, "dareu", "KL a token that beta is steered to (adaptive KL); 0: beta stays", low=0)
    distill_coef: float = flag(4.0, "dareu", "lambda: weight of the distillation on retain records", low=0)
    distill_batch: int = flag(32, "dareu", "retain records in a minibatch", low=1)
    ppo_epochs: int = flag(2, "dareu", "PPO: passes over a rollout", low=1)
    minibatch: int = flag(32, "dareu", "responses in a minibatch", low=1)
    clip: float = flag(0.2, "dareu", "PPO: the probability ratio is held within 1 +- clip", low=0)
    value_clip: float = flag(0.2, "dareu", "PPO: the value is held within +- value_clip of the old one", low=0)
    value_coef: float = flag(0.1, "dareu", "PPO: c_v, weight of the value loss", low=0)
    gamma: float = flag(1.0, "dareu", "PPO: discount", low=0, high=1)
    gae_lambda: float = flag(0.95, "dareu", "PPO: lambda of generalized advantage estimation", low=0, high=1)

    baseline_lr: float | None = flag(None, "baselines", "learning rate of the loss-based methods; default: each its own", type=float, low=1e-9)
    baseline_steps: int | None = flag(None, "baselines", "their optimizer steps; default: each its own", type=int, low=1)
    run_on: int = flag(0, "baselines", "let them run on to so many steps for the log alone: what comes after their last step", low=0)

    methods: str = flag("dareu", "run", "which to run, comma-separated: dareu, " + ", ".join(METHODS))
    device: str = flag("auto", "run", "where to compute; auto takes the first that is there", choices=["auto", "cuda", "mps", "cpu"])
    from_run: str | None = flag(None, "run", "folder of an earlier run, whose unlearned model is to forget further owners", type=str, name="from")
    preset: str | None = flag(None, "run", "flags that a dataset needs: " + "; ".join(f"{name} {values}" for name, values in PRESETS.items()),
                              type=str, choices=list(PRESETS))
    out: str | None = flag(None, "run", "folder of the run; default runs/<dataset>-seed<seed>", type=str)
    reuse: str | None = flag(None, "run", "folder of another run, whose models are taken over where they would come out the same", type=str)
    overwrite: bool = flag(False, "run", "start afresh in a folder that holds another experiment")


def flag_name(f):
    """A field of Config -> its flag."""
    return "--" + (f.metadata["name"] or f.name.replace("_", "-"))


def parse(argv, description):
    """Command line -> Config. Raises InputError for an unknown flag or a value that makes no sense."""
    parser = make_parser(description, usage="python train.py [flags]", epilog=size_rule.__doc__)
    groups = {stage: parser.add_argument_group(stage) for stage in STAGES}
    for f in fields(Config):
        m = f.metadata
        kind = dict(action=argparse.BooleanOptionalAction) if m["type"] is bool else dict(type=m["type"], choices=m["choices"])
        text = m["help"] + ("" if f.default is None else f" (default: {f.default})")
        groups[m["stage"]].add_argument(flag_name(f), dest=f.name, default=argparse.SUPPRESS, help=text, **kind)
    given = vars(parser.parse_args(argv))
    config = Config(**{**PRESETS.get(given.get("preset"), {}), **given})
    for f in fields(Config):
        value, low, high = getattr(config, f.name), f.metadata["low"], f.metadata["high"]
        if value is not None and (low is not None and not value >= low or high is not None and not value <= high or value == float("inf")):
            bounds = f"at least {low}" + (f" and at most {high}" if high is not None else "")
            raise InputError(f"{flag_name(f)}: {value} is out of range; give {bounds}")
    if "n_forget" in given and "forget_fraction" in given:
        raise InputError("--n-forget: says how many are forgotten, as --forget-fraction does; give one of them")
    if ("forget" in given or "n_forget" in given) and "forget_fraction" not in given:
        config.forget_fraction = None  # the preset's
    if config.classifier_width % 4:
        raise InputError(f"--classifier-width: {config.classifier_width} does not divide among 4 heads; give a multiple of 4")
    if config.reference_responses >= config.group_size:
        raise InputError(f"--reference-responses: {config.reference_responses} of a group of {config.group_size}; leave the policy one at least")
    names = list(dict.fromkeys(name.strip() for name in config.methods.split(",")))
    for name in names:
        if name != "dareu" and name not in METHODS:
            raise InputError(f"--methods: no method is called {name!r}; choose from dareu, {', '.join(METHODS)}")
    config.methods = ",".join(names)
    return config


def size_rule(config, responses, n_forget_rows):
    """Sizes that are not given follow from the number S of characters in the distinct training responses:
    S < 70,000: vocabulary 1,024, width 96; S < 400,000: 2,048 and 128; above: 4,096 and 192.
    Epochs follow from the number of training rows: 32 for the language model and 40 for the classifier, more where
    that makes fewer than 1,280 and 1,600 steps, fewer (8 at least) where it makes more than 8,000. The iterations of
    DareU follow from the number of forget rows: 20 responses to each of their prompts, 16 at least.
    The context is what the longest prompt and the longest response need, 1,024 tokens at most.
    """
    size, steps_an_epoch = sum(map(len, set(responses))), -(-len(responses) // config.batch_size)
    tier = (size >= 70_000) + (size >= 400_000)
    config.vocab_size = config.vocab_size or [1024, 2048, 4096][tier]
    config.n_embd = config.n_embd or [96, 128, 192][tier]
    config.lr = config.lr or round(0.48 / config.n_embd, 6)
    most = max(8, 8000 // steps_an_epoch)
    config.epochs = config.epochs or min(most, max(32, -(-1280 // steps_an_epoch)))
    config.classifier_epochs = config.classifier_epochs or min(most, max(40, -(-1600 // steps_an_epoch)))
    config.iterations = config.iterations or default_iterations(config, n_forget_rows)
    if config.n_embd % config.n_head:
        raise InputError(f"--n-embd: {config.n_embd} does not divide among {config.n_head} heads; give a multiple, or another --n-head")


def default_iterations(config, n_forget_rows):
    """Enough for 20 responses to every forget prompt, and 16 at least (REINFORCE: 24, which takes about as long)."""
    return max({"ppo": 16, "reinforce": 24}[config.algorithm], -(-20 * n_forget_rows // (config.prompts * config.group_size)))


def stage_key(config, stages, *facts):
    """A digest of all that a result depends on: the flags of these stages, and `facts` that stand for the others."""
    names = [f.name for f in fields(Config) if f.metadata["stage"] in stages and f.name not in ("data", "forget", "n_forget", "forget_fraction")]
    flags = {name: getattr(config, name) for name in names}
    return hashlib.sha256(json.dumps([flags, facts], sort_keys=True).encode()).hexdigest()
