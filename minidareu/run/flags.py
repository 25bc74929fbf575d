"""Every setting of a run. Each field of Config is a flag of `train.py`, and its comment the help;
None means that `size_rule` sets it from the data."""

import argparse
import inspect
import re
from dataclasses import dataclass
from math import inf
from typing import Literal, get_args, get_origin, get_type_hints

from ..attribution import BATCH_SIZE, ClassifierConfig
from ..baselines import LossConfig
from ..beyond.dareu_plus import PlusConfig
from ..dareu import DareUConfig
from ..files import InputError
from ..model import Training
from ..pretrain import ModelConfig
from .cli import make_parser

# The ten that most runs need, first in --help.
FIRST = ["data", "forget", "n_forget", "seed", "methods", "reward", "retrained", "from_run"]
FIRST += ["out", "overwrite"]
OWNERS = ["forget", "n_forget", "forget_fraction"]


@dataclass
class DataConfig:
    """Data, and who is forgotten."""

    data: str = "data/authors/authors.jsonl"  # owner dataset, JSON lines or CSV
    forget: str | None = None  # owners to forget, comma-separated
    n_forget: int | None = None  # forget so many owners, drawn by seed; default: 2
    forget_fraction: float | None = None  # forget this share of the owners, the last
    test_fraction: float = 0.1  # share of the retain rows held out where none is for tests
    block_size: int | None = None  # context in tokens; default: what the rows need, 1,024 at most
    vocab_size: int | None = None  # by the size of the data: 1024, 2048, 4096


@dataclass
class RunConfig:
    """The run."""

    methods: str = "ga,npo,dareu"  # comma-separated; an unknown name gets a list of all
    retrained: bool = True  # train the retrained model, the gold standard, too
    device: str = "auto"  # cuda, mps or cpu; auto takes the first that is there
    from_run: str | None = None  # folder of an earlier run, to forget further owners
    curve: bool = True  # score each method along its updates too, for the figure
    all_scores: bool = False  # print every score
    out: str | None = None  # folder of the run; default: runs/<dataset>-seed<seed>
    reuse: str | None = None  # folder of another run, whose models are taken over
    overwrite: bool = False  # start afresh in a folder of another experiment


@dataclass
class Config(
    RunConfig, LossConfig, PlusConfig, DareUConfig, ClassifierConfig, ModelConfig, DataConfig
):
    """All settings. What a method reads is the class that its `config` is annotated with."""

    given = frozenset[str]()  # names of the flags that stood on the command line; no flag itself

    @property
    def training(self) -> Training:
        """How the language models are trained."""
        assert self.lr, "size_rule has set it"
        return Training(self.epochs, self.batch_size, self.lr, seed=self.seed)

    @property
    def classifier_training(self) -> Training:
        return Training(self.classifier_epochs, BATCH_SIZE, self.classifier_lr, seed=self.seed)


# The least and the largest value. All others: of whole numbers at least 1, of the rest at least 0.
BOUNDS = {
    "seed": (0, 2**32 - 1),
    "n_forget": (0, inf),
    "forget_fraction": (1e-9, 0.999),
    "test_fraction": (0.001, 0.9),
    "block_size": (128, inf),
    "vocab_size": (257, inf),
    "classifier_width": (4, inf),
    "lr": (1e-9, inf),
    "baseline_lr": (1e-9, inf),
    "temperature": (0.01, inf),
    "c_seg": (0.01, inf),
    "gamma": (0, 1),
    "gae_lambda": (0, 1),
    "plus_beginnings": (0, 1),
}
GROUPS = [DataConfig, ModelConfig, ClassifierConfig, DareUConfig, PlusConfig]
GROUPS += [LossConfig, RunConfig]


def comments(settings: type) -> dict[str, str]:
    """{field: the comment behind it} of a dataclass, in which each has one."""
    source = inspect.getsource(settings)
    return dict(re.findall(r"^    (\w+): .*?  # (.*?)$", source, re.MULTILINE | re.DOTALL))


def flag_name(name: str) -> str:
    """A field of Config -> its flag."""
    return "--from" if name == "from_run" else "--" + name.replace("_", "-")


def flag_kind(hint) -> dict:
    """Keywords of `add_argument` for a field of this type."""
    if hint is bool:
        return {"action": argparse.BooleanOptionalAction}
    if get_origin(hint) is Literal:
        return {"choices": get_args(hint), "metavar": "NAME"}
    kind = next(part for part in [*get_args(hint), hint] if part is not type(None))
    return {"type": kind, "metavar": {int: "N", float: "X"}.get(kind, "TEXT")}


def make_flags(description: str, usage: str, without: tuple = ()) -> argparse.ArgumentParser:
    """A parser with a flag for each field of Config, a group for each of its classes."""
    parser = make_parser(
        f"{description}\n@FILE reads flags from a file. In brackets: the default.",
        usage=usage,
        fromfile_prefix_chars="@",
    )
    parser.convert_arg_line_to_args = lambda line: line.partition("#")[0].split()
    hints, defaults = get_type_hints(Config), Config()
    groups = {"First of all": FIRST} | {str(g.__doc__): list(comments(g)) for g in GROUPS}
    texts = {name: text for g in GROUPS for name, text in comments(g).items()}
    left = set(texts) - set(without)
    for title, names in groups.items():
        group = parser.add_argument_group(title.partition(".")[0])
        for name in [name for name in names if name in left]:
            left.remove(name)
            kind, default, text = flag_kind(hints[name]), getattr(defaults, name), texts[name]
            if "choices" in kind:
                text += f": {', '.join(kind['choices'])}"
            if default is not None and not isinstance(default, bool):
                text += f" [{default}]"
            group.add_argument(
                flag_name(name), dest=name, default=argparse.SUPPRESS, help=text, **kind
            )
    return parser


def parse(argv: list[str] | None, description: str) -> Config:
    """Command line -> Config. Raises InputError for a flag or a value that makes no sense."""
    parser = make_flags(description, "python train.py [flags]")
    return to_config(vars(parser.parse_args(argv)))


def to_config(given: dict) -> Config:
    """{field: value} -> Config. Raises InputError for a value that makes no sense."""
    config = Config(**given)
    config.given = frozenset(given)
    for name, hint in get_type_hints(Config).items():
        check_range(name, hint, getattr(config, name))
    if "n_forget" in given and "forget_fraction" in given:
        raise InputError("--n-forget: says the same as --forget-fraction; give one of them")
    check_heads("classifier_width", config.classifier_width)
    return config


def check_heads(name: str, width: int) -> None:
    """Raise InputError for a width that does not divide among the heads of attention."""
    if width % 4:
        raise InputError(
            f"{flag_name(name)}: {width} does not divide among 4 heads; give a multiple of 4"
        )


def check_range(name: str, hint, value) -> None:
    """Raise InputError for a number outside of its flag's bounds."""
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return
    least = 1 if isinstance(value, int) and float not in [hint, *get_args(hint)] else 0
    low, high = BOUNDS.get(name, (least, inf))
    if not low <= value <= high or value == inf:
        bounds = f"at least {low}" + (f" and at most {high}" if high < inf else "")
        raise InputError(f"{flag_name(name)}: {value} is out of range; give {bounds}")


def size_rule(config: Config, responses: list[str]) -> None:
    """Set the sizes that are not given from S, the number of characters in the distinct training
    responses: S < 70,000: vocabulary 1,024, width 96; S < 400,000: 2,048 and 128; above: 4,096
    and 192. Raises InputError."""
    size = sum(map(len, set(responses)))
    tier = (size >= 70_000) + (size >= 400_000)
    config.vocab_size = config.vocab_size or [1024, 2048, 4096][tier]
    config.n_embd = config.n_embd or [96, 128, 192][tier]
    config.lr = config.lr or round(0.34 / config.n_embd, 6)
    check_heads("n_embd", config.n_embd)
