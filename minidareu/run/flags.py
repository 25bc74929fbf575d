"""Every setting of a run. Each field is a flag of `train.py`; None means that `size_rule` sets it
from the data."""

import argparse
import math
from dataclasses import dataclass, field, fields

from ..baselines import METHODS
from ..files import InputError
from ..model import Training
from .cli import make_parser
from .defaults import PRESETS, size_rule

# A flag belongs to the first stage that it matters to; shared: dareu and dareu_plus.
STAGES = ["data", "model", "classifier", "shared", "dareu", "dareu_plus", "baselines", "run"]
# The ten that most runs need, first in --help.
FIRST = ["data", "forget", "n_forget", "seed", "methods", "reward", "retrained", "from_run"]
FIRST += ["out", "overwrite"]
UPDATES = 260  # of the paper on TOFU: 13 forget batches of 32 rows, S_PPO 20 on each
CONTROLS = ["constant", "random", "reversed", "shuffled"]  # of the reward: beyond/controls.py
REWARDS = ["slices", "token", "sequence", *CONTROLS]


def flag(default, stage, help, type=None, **limits):
    """A field with what its flag needs: help, and of `limits` choices, low, high (the least and the
    largest value), and a name of its own. type: of the value, where the default is None."""
    metadata = {"choices": None, "low": None, "high": None, "name": None, **limits}
    metadata |= {"stage": stage, "help": help, "type": type or default.__class__}
    return field(default=default, metadata=metadata)


@dataclass
class Config:
    given = frozenset[str]()  # names of the flags that stood on the command line; no flag itself

    data: str = flag("data/authors/authors.jsonl", "data", "owner dataset, JSON lines or CSV")
    forget: str | None = flag(None, "data", "owners to forget, comma-separated", str)
    n_forget: int | None = flag(
        None, "data", "forget so many owners, drawn by seed; default 2", int, low=0
    )
    forget_fraction: float | None = flag(
        None, "data", "forget this share of the owners, the last", float, low=1e-9, high=0.999
    )
    test_fraction: float = flag(
        0.1,
        "data",
        "share of the retain rows held out where none is for tests",
        low=0.001,
        high=0.9,
    )
    seed: int = flag(0, "data", "seed of every random choice", low=0, high=2**32 - 1)
    block_size: int | None = flag(
        None, "data", "context in tokens; default: what the rows need, 1,024 at most", int, low=128
    )
    truncate: bool = flag(False, "data", "cut rows that are longer than the context")
    tokenizer: str = flag(
        "bpe", "data", "bpe: from the data; gpt2: fetched on first use", choices=["bpe", "gpt2"]
    )
    vocab_size: int | None = flag(
        None, "data", "size of the vocabulary; by size: 1024, 2048, 4096", int, low=257
    )

    n_layer: int = flag(2, "model", "layers of the language model", low=1)
    n_head: int = flag(4, "model", "attention heads of the language model", low=1)
    n_embd: int | None = flag(
        None, "model", "width of the language model; by size: 96, 128, 192", int, low=1
    )
    epochs: int | None = flag(
        None, "model", "passes over the rows; default: until they are known", int, low=1
    )
    batch_size: int = flag(16, "model", "rows in a training step", low=1)
    lr: float | None = flag(
        None, "model", "peak learning rate; default 0.34 / width", float, low=1e-9
    )

    classifier_layers: int = flag(1, "classifier", "layers of the attribution classifier", low=1)
    classifier_width: int = flag(64, "classifier", "its width, a multiple of 4", low=4)
    classifier_epochs: int | None = flag(
        None, "classifier", "passes over the rows; default: until it knows them", int, low=1
    )
    classifier_batch: int = flag(32, "classifier", "rows in a step of the classifier", low=1)
    classifier_lr: float = flag(2e-3, "classifier", "its peak learning rate", low=0)
    attribution: str = flag(
        "response",
        "classifier",
        "what it reads: the response, or of it what the prompt has not",
        choices=["response", "added"],
    )

    reward: str = flag(
        "slices", "shared", "three designs (Table 10), and four controls", choices=REWARDS
    )
    control: str | None = flag(
        None, "shared", "a control beside another design than slices", str, choices=CONTROLS
    )
    forget_batch: int = flag(32, "shared", "forget prompts in a batch B_f", low=1)
    distill_on: str = flag(
        "reference", "shared", "responses to distil on", choices=["reference", "generated"]
    )

    mean: str = flag(
        "responses",
        "shared",
        "over the tokens of a response, then over responses (Sec. 4.2); or over all tokens",
        choices=["responses", "tokens"],
    )

    algorithm: str = flag("ppo", "dareu", "how the policy is updated", choices=["ppo", "reinforce"])
    data_epochs: int | None = flag(
        None, "dareu", f"passes over D_F; default: about {UPDATES} updates in all", int, low=1
    )
    ppo_steps: int = flag(5, "dareu", "S_PPO, updates on each forget batch", low=1)
    retain_batch: int = flag(32, "dareu", "retain rows in a batch B_r", low=1)
    slices: int = flag(15, "dareu", "k, slices of a response, scored at their ends", low=1)
    kl_coef: float = flag(0.1, "dareu", "lambda, weight of the KL in the reward", low=0)
    kl_reference: str = flag(
        "original", "dareu", "to whom: pi_N, or pi_old", choices=["original", "old"]
    )
    distill_coef: float = flag(2.0, "dareu", "lambda_dis, weight of the distillation", low=0)
    value_coef: float = flag(0.2, "dareu", "weight of V's loss", low=0)
    clip: float = flag(0.2, "dareu", "epsilon, the ratio is held within 1 +- clip", low=0)
    temperature: float = flag(0.8, "dareu", "of sampling", low=0.01)
    ratio_temperature: float | None = flag(
        None, "dareu", "of the ratio and the KL; default: that of sampling", float, low=0.01
    )
    c_seg: float = flag(1.05, "dareu", "C_seg of chi", low=0.01)
    chi_eps: float = flag(1e-4, "dareu", "epsilon of chi", low=1e-9, high=0.5)
    rl_lr: float = flag(4e-4, "dareu", "learning rate of the policy", low=0)
    rl_schedule: str = flag(
        "linear", "dareu", "that rate falls to zero, or stays", choices=["linear", "constant"]
    )
    gamma: float = flag(0.9, "dareu", "discount of the returns", low=0, high=1)
    gae_lambda: float = flag(
        1.0, "dareu", "lambda of GAE; at 1 the advantage is R - V", low=0, high=1
    )
    whiten: str = flag(
        "advantages",
        "dareu",
        "what is shifted and scaled to mean 0, variance 1",
        choices=["advantages", "rewards", "none"],
    )
    renew_old_policy: str = flag(
        "batch", "dareu", "pi_old <- pi: for each data epoch or batch", choices=["epoch", "batch"]
    )
    retain_updates: str = flag(
        "alternate", "dareu", "in turn, or in one step", choices=["alternate", "joint"]
    )
    value_lr: float = flag(1e-2, "dareu", "learning rate of V", low=0)

    plus_updates: int = flag(128, "dareu_plus", "updates, each on a forget batch", low=1)
    plus_beginnings: float = flag(
        0.5, "dareu_plus", "share of the responses that begin as pi_N's would", low=0, high=1
    )
    plus_retain_batch: int = flag(32, "dareu_plus", "retain rows in an update", low=1)
    plus_lr: float = flag(1.5e-3, "dareu_plus", "learning rate, annealed to zero", low=0)
    plus_kl_coef: float = flag(0.03, "dareu_plus", "beta, weight of the KL to pi_N", low=0)
    plus_distill_coef: float = flag(4.0, "dareu_plus", "weight of the distillation", low=0)
    plus_temperature: float = flag(1.0, "dareu_plus", "of sampling", low=0.01)

    baseline_lr: float | None = flag(
        None,
        "baselines",
        "learning rate of the loss-based methods; default: its own",
        float,
        low=1e-9,
    )
    baseline_passes: int | None = flag(
        None, "baselines", "their passes over D_F; default: each its own", int, low=1
    )
    baseline_steps: int | None = flag(
        None, "baselines", "their optimizer steps, instead of passes", int, low=1
    )
    scrn_lr: float = flag(0.01, "baselines", "SCRN's learning rate, of the inner descent", low=0)

    methods: str = flag(
        "dareu,dareu_plus",
        "run",
        f"comma-separated, of dareu, dareu_plus, scrn, {', '.join(METHODS)}",
    )
    retrained: bool = flag(True, "run", "train the retrained model, the gold standard, too")
    second_retrained: bool = flag(
        False,
        "run",
        "train and score a second retrained model, by the next seed: the best there can be",
    )
    device: str = flag(
        "auto", "run", "auto takes the first that is there", choices=["auto", "cuda", "mps", "cpu"]
    )
    from_run: str | None = flag(
        None, "run", "folder of an earlier run, to forget further owners", str, name="from"
    )
    preset: str | None = flag(
        None, "run", f"flags that a dataset needs: {PRESETS}", str, choices=list(PRESETS)
    )
    curve: bool = flag(True, "run", "score each method along its updates too, for the figure")
    all_scores: bool = flag(False, "run", "print every score")
    out: str | None = flag(None, "run", "folder of the run; default runs/<dataset>-seed<seed>", str)
    reuse: str | None = flag(None, "run", "folder of another run, whose models are taken over", str)
    overwrite: bool = flag(False, "run", "start afresh in a folder of another experiment")

    @property
    def updates_per_batch(self) -> int:
        """S_PPO; REINFORCE takes one update a batch."""
        return 1 if self.algorithm == "reinforce" else self.ppo_steps

    @property
    def temperature_of_ratio(self) -> float:
        """That of the ratio s_t and of the KL."""
        return self.ratio_temperature or self.temperature

    def epochs_over(self, n_prompts: int) -> int:
        """Data epochs: where none are given, as many as make the paper's number of updates."""
        n_batches = math.ceil(n_prompts / self.forget_batch)
        return self.data_epochs or max(1, round(UPDATES / (n_batches * self.updates_per_batch)))

    def dareu_updates(self, n_prompts: int) -> int:
        """Updates of DareU: data epochs, forget batches in each, updates on each."""
        n_batches = math.ceil(n_prompts / self.forget_batch)
        return self.epochs_over(n_prompts) * n_batches * self.updates_per_batch

    @property
    def training(self) -> Training:
        """How the language models are trained."""
        assert self.lr, "size_rule has set it"
        return Training(self.epochs, self.batch_size, self.lr, seed=self.seed)

    @property
    def classifier_training(self) -> Training:
        lr, size = self.classifier_lr, self.classifier_batch
        return Training(self.classifier_epochs, size, lr, seed=self.seed)


def flag_name(f):
    """A field of Config -> its flag."""
    return "--" + (f.metadata["name"] or f.name.replace("_", "-"))


def flags_of(config, stages):
    """{name: value} of the flags of these stages; not of those that choose data and owners."""
    owners = ("data", "forget", "n_forget", "forget_fraction")
    return {
        f.name: getattr(config, f.name)
        for f in fields(Config)
        if f.metadata["stage"] in stages and f.name not in owners
    }


def parse(argv, description) -> Config:
    """Command line -> Config. Raises InputError for a flag or a value that makes no sense."""
    parser = make_parser(description, usage="python train.py [flags]", epilog=size_rule.__doc__)
    first = parser.add_argument_group("first of all")
    groups = {stage: parser.add_argument_group(stage) for stage in STAGES}
    place = {name: i for i, name in enumerate(FIRST)}
    for f in sorted(fields(Config), key=lambda f: place.get(f.name, len(FIRST))):
        m = f.metadata
        group = first if f.name in FIRST else groups[m["stage"]]
        if m["type"] is bool:
            kind = dict(action=argparse.BooleanOptionalAction)
        else:
            kind = dict(type=m["type"], choices=m["choices"])
        text = m["help"] + ("" if f.default is None else f" (default: {f.default})")
        group.add_argument(flag_name(f), dest=f.name, default=argparse.SUPPRESS, help=text, **kind)
    given = vars(parser.parse_args(argv))
    config = Config(**{**PRESETS.get(given.get("preset"), {}), **given})
    config.given = frozenset(given)
    for f in fields(Config):
        check_range(f, getattr(config, f.name))
    if "n_forget" in given and "forget_fraction" in given:
        raise InputError(
            "--n-forget: says how many are forgotten, as --forget-fraction does; give one of them"
        )
    if ("forget" in given or "n_forget" in given) and "forget_fraction" not in given:
        config.forget_fraction = None  # the preset's
    if config.classifier_width % 4:
        raise InputError(
            f"--classifier-width: {config.classifier_width} does not divide among 4 heads; "
            "give a multiple of 4"
        )
    config.methods = check_methods(config.methods)
    needs = {"--second-retrained": config.second_retrained}
    for name, asked in needs.items():
        if asked and not config.retrained:
            raise InputError(f"{name}: needs the retrained model; leave out --no-retrained")
    return config


def check_methods(text):
    """Names of methods, comma-separated, each once. Raises InputError."""
    names = list(dict.fromkeys(name.strip() for name in text.split(",")))
    known = ["dareu", "dareu_plus", "scrn", *METHODS]
    for name in names:
        if name not in known:
            raise InputError(
                f"--methods: no method is called {name!r}; choose from {', '.join(known)}"
            )
    return ",".join(names)


def check_range(f, value):
    """Raise InputError for a value outside of its flag's bounds."""
    low, high = f.metadata["low"], f.metadata["high"]
    if value is None or low is None:
        return
    if not low <= value < float("inf") or (high is not None and value > high):
        bounds = f"at least {low}" + (f" and at most {high}" if high is not None else "")
        raise InputError(f"{flag_name(f)}: {value} is out of range; give {bounds}")
