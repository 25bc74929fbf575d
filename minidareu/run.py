"""A run: its data and sizes, its folder, and the one rule of what is kept.

A stage (original model, retrained model, classifiers, each method) is kept while its key is the
same: a digest of the flags, the data, the earlier stages and the source that it runs through.
Scores are never kept.
"""

import hashlib
import json
import os
import re
import time
from dataclasses import dataclass, fields, replace
from pathlib import Path

import tiktoken
import torch

from .attribution import OwnerClassifier
from .baselines import REFUSALS
from .config import Config, flag_name, size_rule
from .data import Record, Split, encode, forget_more, load_records, pick_owners
from .data import prompt_text, response_text, split_records
from .files import InputError, write, write_json
from .model import GPT, GPTConfig
from .tokenizer import gpt2_tokenizer, train_tokenizer

IDENTITY = "experiment.json"
RESULTS = "results.json"
LOG = "log.jsonl"
SAMPLES = "samples.jsonl"
FIGURE = "figure.png"
FILES = [IDENTITY, LOG, SAMPLES, RESULTS, FIGURE]
FILES += ["audit.json", "audit.md", "attacks.png", "proxy.png"]
TRAINING = ("data", "model", "classifier")  # stages whose flags --from takes over
OWNER_FLAGS = ("forget", "n_forget", "forget_fraction")


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
    pairs: dict[Record, tuple[list[int], list[int]]]  # (prompt ids, response ids)
    gpt_config: GPTConfig
    limits: dict  # max_new_tokens and eos_id of a response
    forget_owners: list[int]  # indices

    @property
    def methods(self):
        return self.config.methods.split(",")

    @property
    def reuse(self):
        """The folder whose original model, retrained model and classifiers may be taken over."""
        return self.config.reuse or self.config.from_run

    def path(self, name):
        """Where the checkpoint of a stage is."""
        return self.folder / f"{name}.pt"

    def earlier_path(self, name):
        """The same in the run that --from names."""
        return Path(self.config.from_run) / f"{name}.pt"

    def sequences(self, records):
        """What a language model is trained on: the prompt, the response, and the end of text."""
        return [self.pairs[r][0] + self.pairs[r][1] + [self.limits["eos_id"]] for r in records]

    def labelled(self, records):
        """What a classifier is trained on: prompts, responses (ids), and owners (indices)."""
        owners = [self.split.owners.index(r.owner) for r in records]
        return [self.pairs[r][0] for r in records], [self.pairs[r][1] for r in records], owners


def prepare(config: Config) -> Run:
    """Read the data, split them, set the sizes, make the tokenizer. Raises InputError."""
    device = pick_device(config.device)
    earlier = take_over(config) if config.from_run else None
    records = load_records(config.data)
    owners = list(dict.fromkeys(r.owner for r in records))
    digest = hashlib.sha256(Path(config.data).read_bytes()).hexdigest()
    if earlier and earlier["data"] != digest:
        raise InputError(
            f"--from {config.from_run}: began with other data than {config.data} holds now; "
            "put them back"
        )
    requests = pick_requests(config, owners, earlier)
    names = requests[-1]
    split = split_records(records, requests[0], config.test_fraction, config.seed)
    for more in requests[1:]:
        split = forget_more(split, more)
    identity = {"data": digest, "forget": split.forget_owners, "seed": config.seed}
    if earlier:
        identity["requests"] = requests
    config.out = config.out or default_folder(config, names)

    held_out = set(map(id, split.test + split.unseen))
    train = [r for r in records if id(r) not in held_out]
    n_forget_rows = sum(r.owner in names for r in split.forget)
    size_rule(config, [r.response for r in train], n_forget_rows)
    tokenizer = make_tokenizer(config, train)
    records, train, split = fit_to_context(config, tokenizer, records, train=train, split=split)
    pairs = {r: encode(tokenizer, r) for r in records}
    max_new_tokens = max(len(y) for _, y in pairs.values()) + 8
    longest_prompt = max(len(x) for x, _ in pairs.values())
    longest = max(max_new_tokens, *(longest_text(tokenizer, r) for r in records))
    config.block_size = config.block_size or min(1024, longest_prompt + longest)
    return Run(
        config=config,
        device=device,
        identity=identity,
        folder=Path(config.out),
        split=split,
        train=train,
        request=[r for r in split.forget if r.owner in names],
        tokenizer=tokenizer,
        pairs=pairs,
        gpt_config=GPTConfig(
            vocab_size=tokenizer.n_vocab,
            block_size=config.block_size,
            n_layer=config.n_layer,
            n_head=config.n_head,
            n_embd=config.n_embd,
        ),
        limits={"max_new_tokens": max_new_tokens, "eos_id": tokenizer.eot_token},
        forget_owners=[split.owners.index(name) for name in split.forget_owners],
    )


def pick_requests(config, owners, earlier):
    """Lists of the owners of each request, this run's own last. Raises InputError."""
    requests = earlier.get("requests", [earlier["forget"]]) if earlier else []
    names = pick_owners(
        owners,
        config.forget,
        config.n_forget,
        fraction=config.forget_fraction,
        seed=config.seed,
        forgotten=[name for request in requests for name in request],
    )
    return [*requests, names]


def take_over(config):
    """Set `config` to the data, models and classifiers of the run that --from names.

    Returns that run's identity. Raises InputError.
    """
    earlier = read_config(Path(config.from_run))
    for f in fields(Config):
        if f.metadata["stage"] in TRAINING and f.name not in OWNER_FLAGS:
            value, old = getattr(config, f.name), getattr(earlier, f.name)
            if value not in (f.default, old):
                raise InputError(
                    f"{flag_name(f)}: is {value}, and {old} in {config.from_run}, "
                    "which this run goes on from; leave it out"
                )
            setattr(config, f.name, old)
    return read_identity(config.from_run)


def default_folder(config, names):
    """Where a run goes that --out does not place."""
    if config.from_run:
        suffix = re.sub(r"\W+", "-", "-".join(names))[:60]
        return config.from_run.rstrip("/\\") + "-then-" + suffix
    return f"runs/{Path(config.data).stem}-seed{config.seed}"


def make_tokenizer(config, train):
    if config.tokenizer == "gpt2":
        return gpt2_tokenizer()
    texts = [text for r in train for text in (prompt_text(r.prompt), response_text(r.response))]
    return train_tokenizer(texts, config.vocab_size)


def longest_text(tokenizer, r):
    """Tokens of the longest text that a model reads after a record's prompt, end of text included:
    the response, one that is compared with it, or a refusal."""
    texts = [r.response, *filter(None, [r.paraphrase]), *r.perturbed, *REFUSALS]
    return 1 + max(len(tokenizer.encode_ordinary(response_text(text))) for text in texts)


def fit_to_context(config, tokenizer, records, train, split):
    """Records, train rows and split, with rows cut where they are too long, by --truncate.

    Raises InputError for such a row without it.
    """
    limit = config.block_size or 1024

    def tokens(r):
        return len(encode(tokenizer, r)[0]) + longest_text(tokenizer, r)

    too_long = {r for r in records if tokens(r) > limit}
    if not too_long:
        return records, train, split
    if not config.truncate:
        r = next(r for r in records if r in too_long)
        raise InputError(
            f"{config.data}:{r.line}: makes {tokens(r)} tokens, and the context is {limit}; "
            "shorten the row, give a larger --block-size, or add --truncate"
        )
    config.block_size = limit
    cut = {r: truncate(tokenizer, r, limit) if r in too_long else r for r in records}
    parts = ("forget", "retain", "test", "unseen")
    split = replace(split, **{part: [cut[r] for r in getattr(split, part)] for part in parts})
    return [cut[r] for r in records], [cut[r] for r in train], split


def truncate(tokenizer, r, block_size):
    """A Record whose texts end where the context does: the prompt is cut to half of it, all others
    to what is left."""

    def cut(text, n):
        ids = tokenizer.encode_ordinary(response_text(text))
        while len(ids) > n:
            text = tokenizer.decode(ids[:n], errors="ignore").strip()
            ids = tokenizer.encode_ordinary(response_text(text))
        return text

    prompt = cut(r.prompt, block_size // 2 - 1)
    left = block_size - len(tokenizer.encode_ordinary(prompt_text(prompt))) - 1
    return replace(
        r,
        prompt=prompt,
        response=cut(r.response, left),
        paraphrase=r.paraphrase and cut(r.paraphrase, left),
        perturbed=tuple(cut(text, left) for text in r.perturbed),
    )


def pick_device(name):
    """auto: the first of cuda, mps and cpu that is there. Raises InputError for one that is not."""
    available = {
        "cuda": torch.cuda.is_available(),
        "mps": torch.backends.mps.is_available(),
        "cpu": True,
    }
    usable = [device for device, there in available.items() if there]
    device = usable[0] if name == "auto" else name
    if device not in usable:
        raise InputError(f"--device {device}: not there; use {' or '.join(usable)}, or auto")
    if device == "cuda":
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
        torch.use_deterministic_algorithms(True, warn_only=True)
    return device


def open_folder(run: Run):
    """Make the run's folder, or enter the one that holds the same experiment. Raises InputError."""
    folder, mark = run.folder, run.folder / IDENTITY
    try:
        if folder.exists() and any(folder.iterdir()) and not run.config.overwrite:
            if not mark.exists() or json.loads(mark.read_text(encoding="utf-8")) != run.identity:
                raise InputError(
                    f"--out {folder}: holds another experiment (data, forget owners or seed) or "
                    "files that are not of a run; choose another folder, or add --overwrite"
                )
        folder.mkdir(parents=True, exist_ok=True)
        if run.config.overwrite:
            for path in [folder / name for name in FILES] + list(folder.glob("*.pt")):
                path.unlink(missing_ok=True)
        write_json(mark, run.identity)
    except (OSError, json.JSONDecodeError) as e:
        raise InputError(
            f"--out {folder}: {e}; choose another folder, or add --overwrite to one that can be "
            "written"
        ) from None


def stage_key(*facts):
    """A digest of all that a stage depends on: flags, data, keys of earlier stages, source.

    None where one of the facts is None: such a stage is never kept.
    """
    if None in facts:
        return None
    return hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()


def stage(path, key, make, reuse=None):
    """The checkpoint at `path`, or of that name in the folder `reuse`, if it has the same key;
    otherwise what `make` returns, a dict, which is saved.

    The result has `key`, `seconds`, and `kept`. Raises InputError for a foreign file at `path`.
    """
    for place in [path, *([Path(reuse) / path.name] if reuse else [])]:
        state = read_checkpoint(place)
        if state and key is not None and state["key"] == key:
            if place != path:
                save_checkpoint(path, state)
            return {**state, "kept": True}
    began = time.perf_counter()
    state = make()
    state = {"key": key, "seconds": time.perf_counter() - began, **state}
    save_checkpoint(path, state)
    return {**state, "kept": False}


def save_checkpoint(path, state):
    write(path, lambda temporary: torch.save(state, temporary))


def read_checkpoint(path):
    """A checkpoint of ours; None where there is none. Nothing in the file is run.

    Raises InputError for one that is cut short or foreign.
    """
    if not path.exists():
        return None
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
    except Exception:  # torch.load raises a dozen kinds
        state = None
    if not isinstance(state, dict) or not {"key", "seconds"} <= state.keys():
        raise InputError(
            f"{path}: cut short, or not a checkpoint of this program; "
            "delete it, or put back what was there"
        )
    return state


def load_weights(model, path, part="model", mend="run train.py again, with that run's flags"):
    """Fill a model, on its device, from a `part` of a checkpoint; it is frozen.

    Raises InputError that ends in `mend`.
    """
    state = read_checkpoint(path)
    if state is None:
        raise InputError(f"{path}: not there; {mend}")
    try:
        model.load_state_dict(state[part])
    except (RuntimeError, KeyError, TypeError, AttributeError):
        raise InputError(f"{path}: not a checkpoint of such a model; {mend}") from None
    return model.requires_grad_(False)


def load_model(run: Run, path, mend="run train.py again, with that run's flags") -> GPT:
    """A language model of the run's sizes from a checkpoint, frozen. Raises InputError."""
    return load_weights(GPT(run.gpt_config).to(run.device), path, mend=mend)


def new_classifier(run: Run, kind=OwnerClassifier):
    """An untrained classifier of the run's sizes."""
    torch.manual_seed(run.config.seed)
    return kind(
        vocab_size=run.tokenizer.n_vocab,
        block_size=run.gpt_config.block_size,
        n_layer=run.config.classifier_layers,
        n_embd=run.config.classifier_width,
        n_owners=len(run.split.owners),
    ).to(run.device)


def load_classifier(run: Run, part="response", kind=OwnerClassifier):
    """DareU's classifier of a finished run, frozen. Raises InputError."""
    return load_weights(new_classifier(run, kind), run.path("classifier"), part)


def read_config(folder) -> Config:
    """The Config of a finished run. Raises InputError."""
    path = Path(folder) / RESULTS
    try:
        return Config(**json.loads(path.read_text(encoding="utf-8"))["config"])
    except (OSError, ValueError, KeyError, TypeError):
        raise InputError(
            f"{path}: not there, or not of a finished run; name the --out folder of one"
        ) from None


def read_identity(folder):
    """What a run's folder says that it is of. Raises InputError."""
    path = Path(folder) / IDENTITY
    try:
        identity = json.loads(path.read_text(encoding="utf-8"))
        keys = ["data", "forget", "seed", *(["requests"] if "requests" in identity else [])]
        return {key: identity[key] for key in keys}
    except (OSError, ValueError, KeyError, TypeError):
        raise InputError(
            f"{path}: not there, or not of a run; name the --out folder of one"
        ) from None


def open_run(folder, device="auto") -> Run:
    """The Run of a finished run's folder. Raises InputError."""
    config = read_config(folder)
    config.device, config.out = device, str(folder)
    run = prepare(config)
    if run.identity != read_identity(folder):
        raise InputError(
            f"{config.data}: not the data of {folder} any more; "
            "put them back, or run train.py again"
        )
    return run


def load_models(run: Run) -> dict[str, GPT]:
    """{name: GPT} of a finished run: original, retrained and every method. Raises InputError."""
    names = ["original", "retrained", *run.methods]
    return {name: load_model(run, run.path(name)) for name in names}
