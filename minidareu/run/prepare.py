"""What is known of a run before anything is trained: data, split, tokenizer, sizes, device."""

import hashlib
import json
import math
import os
import re
import time
from dataclasses import astuple, dataclass, field, replace
from pathlib import Path

import tiktoken
import torch

from ..baselines import REFUSALS
from ..data import Ids, Labelled, Pair, Record, Split, Task, encode, encode_prompt
from ..data import load_records, prompt_text, response_text
from ..files import InputError, find
from ..model import GPTConfig
from ..attribution import ClassifierConfig
from ..pretrain import ModelConfig
from ..tokenizer import train_tokenizer
from .flags import OWNERS, Config, DataConfig, comments, flag_name, size_rule
from .folder import LLM_FILE, read_config, read_identity, read_results
from .requests import pick_requests, split_requests

TRAINING = (DataConfig, ModelConfig, ClassifierConfig)  # what --from takes over


@dataclass
class Run:
    """What is known before anything is trained."""

    config: Config  # every size set
    device: str
    identity: dict  # what may not change within a folder: data, forget owners, seed, requests
    folder: Path
    split: Split
    train: list[Record]  # D_N: forget and retain set, in the order of the file
    request: list[Record]  # the forget rows of this run's own request; all, but after --from
    tokenizer: tiktoken.Encoding
    pairs: dict[Record, Pair]  # prompt and response of each, as ids
    gpt_config: GPTConfig
    limits: dict  # max_new_tokens and eos_id of a response
    forget_owners: list[int]  # indices
    keys: dict[str, str | None] = field(default_factory=dict)  # of a finished run's stages
    facts: dict = field(default_factory=dict)  # what all models depend on beside their weights
    stages: dict[str, dict] = field(default_factory=dict)  # what each has cost so far
    began: float = field(default_factory=time.perf_counter)

    @property
    def methods(self) -> list[str]:
        return self.config.methods.split(",")

    @property
    def models(self) -> list[str]:
        """Names of the models that are scored."""
        return ["original", *(["retrained"] if self.config.retrained else []), *self.methods]

    def path(self, name: str) -> Path:
        """Where the checkpoint of a stage is."""
        return self.folder / f"{name}.pt"

    def ended(self, records: list[Record]) -> list[Pair]:
        """What a language model is trained on: prompts, and references with their end of text."""
        return [(x, y + [self.limits["eos_id"]]) for x, y in self.references(records)]

    def labelled(self, records: list[Record]) -> Labelled:
        """What a classifier is trained on."""
        owners = [self.split.owners.index(r.owner) for r in records]
        prompts = [self.pairs[r][0] for r in records]
        responses = [self.pairs[r][1] for r in records]
        return Labelled(prompts, responses, owners)

    def queries(self, records: list[Record]) -> list[tuple[Ids, int]]:
        """What DareU is given of forget rows: each prompt, and the index of its owner."""
        return [(self.pairs[r][0], self.split.owners.index(r.owner)) for r in records]

    def prompt_ids(self, prompt: str) -> Ids:
        """A prompt that somebody asks. Raises InputError where it leaves no room for a response."""
        ids = encode_prompt(self.tokenizer, prompt)
        if len(ids) > self.gpt_config.block_size - 8:
            raise InputError(
                f"prompt {prompt[:40]!r}...: makes {len(ids)} tokens, and the context is "
                f"{self.gpt_config.block_size}; shorten it"
            )
        return ids

    def references(self, records: list[Record]) -> list[Pair]:
        """Prompts and references."""
        return [self.pairs[r] for r in records]


def make_task(run: Run, attribute=None) -> Task:
    """What a method of this run is given: see `Task`."""
    encode_text = run.tokenizer.encode_ordinary
    return Task(
        forget=run.queries(run.request),
        retain=run.references(run.split.retain),
        attribute=attribute,
        references=run.references(run.request),
        refusals=[encode_text(response_text(text)) for text in REFUSALS],
        **run.limits,
    )


def prepare(config: Config, tokenizer=None) -> Run:
    """A Run from its flags; tokenizer: a pretrained model's own. Raises InputError."""
    device = pick_device(config.device)
    if device == "cuda":
        make_deterministic()
    earlier = take_over(config, config.from_run) if config.from_run else None
    records = load_records(find(config.data))
    digest = digest_of(records)
    if earlier and earlier["data"] != digest:
        raise InputError(
            f"--from {config.from_run}: began with other data than {config.data} holds now; "
            "put them back"
        )
    owners = list(dict.fromkeys(r.owner for r in records))
    requests = pick_requests(config, owners, earlier)
    names = requests[-1]
    split = split_requests(records, requests, config)
    identity = {"data": digest, "forget": split.forget_owners, "seed": config.seed}
    if earlier:
        identity["requests"] = requests
    config.out = config.out or default_folder(config, names)
    check_places(config)

    trained_on = set(map(id, split.forget + split.retain))
    train = [r for r in records if id(r) in trained_on]
    size_rule(config, [r.response for r in train])
    assert config.vocab_size and config.n_embd, "size_rule has set them"
    if tokenizer is None:
        texts = [text for r in train for text in (prompt_text(r.prompt), response_text(r.response))]
        tokenizer = train_tokenizer(texts, config.vocab_size)
    pairs = {r: encode(tokenizer, r) for r in records}
    longest_texts = [longest_text(tokenizer, r) for r in records]
    check_lengths(config, records, pairs, longest_texts)
    max_new_tokens = max(len(y) for _, y in pairs.values()) + 8
    longest_prompt = max(len(x) for x, _ in pairs.values())
    longest = max(max_new_tokens, *longest_texts)
    config.block_size = config.block_size or min(1024, longest_prompt + longest)
    request = [r for r in split.forget if r.owner in names]
    config.data_epochs = config.epochs_over(math.ceil(len(request) / config.forget_batch))
    return Run(
        config=config,
        device=device,
        identity=identity,
        folder=Path(config.out),
        split=split,
        train=train,
        request=request,
        tokenizer=tokenizer,
        pairs=pairs,
        gpt_config=GPTConfig(
            vocab_size=tokenizer.n_vocab,
            block_size=config.block_size,
            n_layer=config.n_layer,
            n_embd=config.n_embd,
        ),
        limits={"max_new_tokens": max_new_tokens, "eos_id": tokenizer.eot_token},
        forget_owners=[split.owners.index(name) for name in split.forget_owners],
    )


def digest_of(records: list[Record]) -> str:
    """A digest of what a data file holds."""
    rows = [astuple(replace(r, line=0)) for r in records]
    return hashlib.sha256(json.dumps(rows).encode()).hexdigest()


def take_over(config: Config, folder: str) -> dict:
    """Set `config` to the data, models and classifiers of the run that --from names.

    Returns that run's identity. Raises InputError.
    """
    earlier = read_config(folder)
    names = {name for settings in TRAINING for name in comments(settings)} - set(OWNERS)
    for name in sorted(names | {"seed"}):
        value, old = getattr(config, name), getattr(earlier, name)
        if value != old and name in config.given:
            raise InputError(
                f"{flag_name(name)}: is {value}, and {old} in {folder}, "
                "which this run goes on from; leave it out"
            )
        setattr(config, name, old)
    if "methods" not in config.given:
        config.methods = earlier.methods
    return read_identity(folder)


def check_places(config: Config) -> None:
    """Raise InputError where a folder that is read is not there, or would be erased."""
    for name, place in (("--from", config.from_run), ("--reuse", config.reuse)):
        if place:
            read_identity(place)
        same = place and Path(place).resolve() == Path(config.out or "").resolve()
        if same and (name == "--from" or config.overwrite):
            raise InputError(
                f"--out {config.out}: is the folder that {name} reads; choose another folder"
            )


def default_folder(config: Config, names: list[str]) -> str:
    """Where a run goes that --out does not place."""
    if config.from_run:
        suffix = re.sub(r"\W+", "-", "-".join(names))[:60]
        return config.from_run.rstrip("/\\") + "-then-" + suffix
    return f"runs/{Path(config.data).stem}-seed{config.seed}"


def longest_text(tokenizer, r):
    """Tokens of the longest text that a model reads after a record's prompt, end of text included:
    the response, one that is compared with it, or a refusal."""
    texts = [r.response, *filter(None, [r.paraphrase]), *r.perturbed, *REFUSALS]
    return 1 + max(len(tokenizer.encode_ordinary(response_text(text))) for text in texts)


def check_lengths(config, records, pairs, longest_texts):
    """Raise InputError for a row that is longer than the context."""
    limit = config.block_size or 1024
    for r, longest in zip(records, longest_texts, strict=True):
        n_tokens = len(pairs[r][0]) + longest
        if n_tokens > limit:
            raise InputError(
                f"{config.data}:{r.line}: makes {n_tokens} tokens, and the context is {limit}; "
                "make shorter rows of it, or give a larger --block-size"
            )


def pick_device(name: str) -> str:
    """auto: the first of cuda, mps and cpu that is there. Raises InputError for one that is not."""
    there = ["cpu"]
    if torch.backends.mps.is_available():
        there = ["mps", *there]
    if torch.cuda.is_available():
        there = ["cuda", *there]
    device = there[0] if name == "auto" else name
    if device not in there:
        raise InputError(f"--device {device}: not there; use {' or '.join(there)}, or auto")
    return device


def make_deterministic() -> None:
    """The same seed gives the same result twice, on a GPU too."""
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    torch.backends.cuda.enable_mem_efficient_sdp(False)  # its gradients vary
    torch.use_deterministic_algorithms(True, warn_only=True)


def open_run(folder: str | Path, device: str = "auto") -> Run:
    """The Run of a finished run's folder. Raises InputError."""
    if (Path(folder) / LLM_FILE).exists():
        raise InputError(f"{folder}: of a pretrained model; minidareu.sample reads it alone")
    config = replace(read_config(folder), device=device, out=str(folder))
    run = prepare(config)
    check_same_data(run, folder)
    run.keys = read_results(folder)["keys"]
    return run


def check_same_data(run: Run, folder: str | Path) -> None:
    """Raise InputError where the data of a finished run's folder have changed."""
    earlier = read_identity(folder)
    if any(run.identity.get(key) != value for key, value in earlier.items()):
        raise InputError(
            f"{run.config.data}: not the data of {folder} any more; put them back, or make the run "
            "again"
        )
