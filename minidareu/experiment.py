"""A run's data, sizes and checkpoints: what `train.py` begins with, and how a finished run is opened again."""

import hashlib
import json
import os
import random
import re
import time
from dataclasses import dataclass, fields, replace
from pathlib import Path

import tiktoken
import torch

from . import baselines
from .attribution import OwnerClassifier
from .config import Config, flag_name, size_rule
from .data import InputError, Record, Split, encode, forget_more, layout, load_records, pick_owners, split_records, write
from .metrics import Judge, Yardstick, word_weights
from .model import GPT, GPTConfig
from .tokenizer import gpt2_tokenizer, train_tokenizer


@dataclass
class Experiment:
    """What is known before anything is trained."""
    config: Config  # every size set
    identity: dict  # what may not change within a folder: data, forget owners, seed, and the requests before this one
    split: Split
    request: list[Record]  # the forget rows that this run is to make the policy forget: all of them, but after earlier requests
    train: list[Record]  # forget and retain set, in the order of the file
    tokenizer: tiktoken.Encoding
    pairs: dict[Record, tuple[list[int], list[int]]]  # (prompt ids, response ids)
    gpt_config: GPTConfig
    max_new_tokens: int  # of any response
    forget_owners: list[int]  # their indices

    def sequences(self, rows):
        """What a language model is trained on: the prompt, the response, and the end of text."""
        return [self.pairs[r][0] + self.pairs[r][1] + [self.tokenizer.eot_token] for r in rows]


def go_on_from(config):
    """Take over the data, models and classifiers of the run that `config.from_run` names -> its identity. Raises InputError."""
    earlier = read_config(Path(config.from_run))
    for f in fields(Config):
        if f.metadata["stage"] in ("data", "model", "classifier") and f.name not in ("forget", "n_forget", "forget_fraction"):
            value, old = getattr(config, f.name), getattr(earlier, f.name)
            if value not in (f.default, old):
                raise InputError(f"{flag_name(f)}: is {value}, and {old} in {config.from_run}, which this run goes on from; leave it out")
            setattr(config, f.name, old)
    return read_identity(config.from_run)


def measure(tokenizer, records):
    """Each Record -> its (prompt ids, response ids), and the tokens of the longest text that a model reads after its prompt: the response,
    one that is likened to it, or a refusal, and the end of text."""
    def n(text):
        return len(tokenizer.encode_ordinary(layout("", text)[1]))

    refusal = max(map(n, baselines.REFUSALS))
    pairs = {r: encode(tokenizer, r) for r in records}
    return pairs, {r: 1 + max(refusal, len(y), *map(n, filter(None, (r.paraphrase, *r.perturbed)))) for r, (_, y) in pairs.items()}


def fit(tokenizer, r, block_size):
    """A Record whose texts are cut at the end where they don't fit: the prompt to half of the context, all others to what is left."""
    def cut(text, n):
        ids = tokenizer.encode_ordinary(f" {text}")
        while len(ids) > n:
            text = tokenizer.decode(ids[:n], errors="ignore").strip()
            ids = tokenizer.encode_ordinary(f" {text}")
        return text

    prompt = cut(r.prompt, block_size // 2 - 1)
    left = block_size - len(tokenizer.encode_ordinary(layout(prompt, "")[0])) - 1
    return replace(r, prompt=prompt, response=cut(r.response, left), paraphrase=r.paraphrase and cut(r.paraphrase, left),
                   perturbed=tuple(cut(text, left) for text in r.perturbed))


def prepare(config):
    """Read the data, split them, set the sizes, make the tokenizer. Raises InputError."""
    earlier = go_on_from(config) if config.from_run else None
    records = load_records(config.data)
    owners = list(dict.fromkeys(r.owner for r in records))
    digest = hashlib.sha256(Path(config.data).read_bytes()).hexdigest()
    if earlier and earlier["data"] != digest:
        raise InputError(f"--from {config.from_run}: began with other data than {config.data} holds now; put them back")
    requests = earlier.get("requests", [earlier["forget"]]) if earlier else []
    forgotten = [name for names in requests for name in names]
    names = pick_owners(owners, config.forget, config.n_forget, config.forget_fraction, config.seed, forgotten)
    requests = [*requests, names]
    split = split_records(records, requests[0], config.test_fraction, config.seed)
    for more in requests[1:]:
        split = forget_more(split, more)
    identity = {"data": digest, "forget": split.forget_owners, "seed": config.seed, **({"requests": requests} if earlier else {})}
    suffix = "-then-" + re.sub(r"\W+", "-", "-".join(names))[:60]
    config.out = config.out or (config.from_run.rstrip("/\\") + suffix if earlier else f"runs/{Path(config.data).stem}-seed{config.seed}")

    held_out = set(map(id, split.test + split.unseen))
    train = [r for r in records if id(r) not in held_out]
    size_rule(config, [r.response for r in train], sum(r.owner in names for r in split.forget))
    tokenizer = gpt2_tokenizer() if config.tokenizer == "gpt2" else train_tokenizer(
        [text for r in train for text in layout(r.prompt, r.response)], config.vocab_size)
    limit, (pairs, longest) = config.block_size or 1024, measure(tokenizer, records)
    too_long = [r for r in records if len(pairs[r][0]) + longest[r] > limit]
    if too_long and not config.truncate:
        r = too_long[0]
        raise InputError(f"{config.data}:{r.line}: makes {len(pairs[r][0]) + longest[r]} tokens, and the context is {limit}; "
                         "shorten the row, give a larger --block-size, or add --truncate")
    if too_long:
        fitted = {r: fit(tokenizer, r, limit) for r in too_long}
        records, train = ([fitted.get(r, r) for r in rows] for rows in (records, train))
        split = replace(split, **{part: [fitted.get(r, r) for r in getattr(split, part)] for part in ("forget", "retain", "test", "unseen")})
        config.block_size, (pairs, longest) = limit, measure(tokenizer, records)
    max_new_tokens = max(len(y) for _, y in pairs.values()) + 8
    config.block_size = config.block_size or min(limit, max(len(x) for x, _ in pairs.values()) + max(max_new_tokens, *longest.values()))
    gpt_config = GPTConfig(tokenizer.n_vocab, config.block_size, config.n_layer, config.n_head, config.n_embd)
    return Experiment(config, identity, split, [r for r in split.forget if r.owner in names], train, tokenizer, pairs, gpt_config, max_new_tokens,
                      [split.owners.index(name) for name in split.forget_owners])


def pick_device(name):
    """auto: the first of cuda, mps and cpu that is there. Raises InputError for a device that is not."""
    there = {"cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available(), "cpu": True}
    device = name if name != "auto" else next(d for d in there if there[d])
    if not there[device]:
        raise InputError(f"--device {device}: not there; use {' or '.join(d for d in there if there[d])}, or auto")
    if device == "cuda":
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
        torch.use_deterministic_algorithms(True, warn_only=True)
    return device


def read_checkpoint(path):
    """A checkpoint of ours; None where there is none. Nothing in the file is run. Raises InputError for one that is cut short or foreign."""
    if not path.exists():
        return None
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
    except Exception:  # torch.load raises a dozen kinds
        state = None
    if not isinstance(state, dict) or not {"key", "seconds"} <= state.keys():
        raise InputError(f"{path}: cut short, or not a checkpoint of this program; delete it, or put back what was there")
    return state


def stage(path, key, title, make, note=lambda state: "", reuse=None):
    """The checkpoint at `path`, or of that name in the folder `reuse`, if made from the same `key`; otherwise `make` -> dict of it. Saves it.

    Raises InputError for a file in its place that is not a checkpoint of ours."""
    for place in [path, *([Path(reuse) / path.name] if reuse else [])]:
        state = read_checkpoint(place)
        reused = bool(state) and state["key"] == key
        if reused:
            break
    if not reused:
        began = time.perf_counter()
        state = make()
        state = {"key": key, "seconds": time.perf_counter() - began, **state}
    if not reused or place != path:
        write(path, lambda tmp: torch.save(state, tmp))
    if title:
        print(f"{title}: {note(state)}{state['seconds']:.0f} s{', kept from an earlier run' if reused else ''}", flush=True)
    return {**state, "reused": reused}


def new_classifier(e, hide_prompt, device):
    """An untrained OwnerClassifier of the experiment's sizes."""
    c = e.config
    torch.manual_seed(c.seed)
    return OwnerClassifier(e.tokenizer.n_vocab, e.gpt_config.block_size, c.classifier_layers, c.classifier_width, len(e.split.owners),
                           hide_prompt).to(device)


def new_yardstick(e, added, response, models):
    """What every model is measured with: the two classifiers, target and retrained model, and a judge that is trained here."""
    split, seed = e.split, e.config.seed
    sample = random.Random(seed).sample(split.retain, min(400, len(split.retain)))
    return Yardstick(e.tokenizer, split.forget, sample, split.test, split.unseen, e.forget_owners, word_weights(e.train), added, response,
                     Judge(e.train, split.owners, seed), models["target"], models["retrained"], e.max_new_tokens)


def load_weights(model, path, part="model", mend="run train.py again, with the flags of that run"):
    """Fill a model, on its device, from a `part` of a checkpoint; it is frozen. Raises InputError that ends in `mend`."""
    state = read_checkpoint(path)
    if state is None:
        raise InputError(f"{path}: not there; {mend}")
    try:
        model.load_state_dict(state[part])
    except (RuntimeError, KeyError, TypeError, AttributeError):
        raise InputError(f"{path}: not a checkpoint of such a model; {mend}") from None
    return model.requires_grad_(False)


def read_config(out):
    """The Config of a finished run. Raises InputError."""
    try:
        return Config(**json.loads((out / "results.json").read_text(encoding="utf-8"))["config"])
    except (OSError, ValueError, KeyError, TypeError):
        raise InputError(f"{out}/results.json: not there, or not of a finished run; name the --out folder of one") from None


def read_identity(out):
    """What a run's folder says that it is of. Raises InputError."""
    path = Path(out) / "experiment.json"
    try:
        identity = json.loads(path.read_text(encoding="utf-8"))
        return {key: identity[key] for key in ("data", "forget", "seed", *(["requests"] if "requests" in identity else []))}
    except (OSError, ValueError, KeyError, TypeError):
        raise InputError(f"{path}: not there, or not of a run; name the --out folder of one") from None


def load_run(out, device):
    """A finished run -> (Experiment, {name: GPT} of target, retrained and every method, the two classifiers). Raises InputError."""
    out = Path(out)
    e = prepare(read_config(out))
    if e.identity != read_identity(out):
        raise InputError(f"{e.config.data}: not the data of {out} any more; put them back, or run train.py again")
    names = ["target", "retrained", *e.config.methods.split(",")]
    models = {name: load_weights(GPT(e.gpt_config).to(device), checkpoint(out, name)) for name in names}
    classifiers = [load_weights(new_classifier(e, hide, device), out / "classifier.pt", part)
                   for part, hide in (("added", True), ("response", False))]
    return e, models, classifiers


def checkpoint(out, name):
    """Where a run keeps a model: `unlearned.pt` is DareU's."""
    return Path(out) / ("unlearned.pt" if name == "dareu" else f"{name}.pt")
