"""A run's data, sizes and checkpoints: what `train.py` begins with, and how a finished run is opened again."""

import hashlib
import json
import os
import random
import time
from dataclasses import dataclass
from pathlib import Path

import tiktoken
import torch

from . import baselines
from .attribution import OwnerClassifier
from .config import Config, size_rule
from .data import InputError, Record, Split, encode, layout, load_records, split_records, write
from .metrics import Judge, Yardstick, word_weights
from .model import GPT, GPTConfig
from .tokenizer import gpt2_tokenizer, train_tokenizer


@dataclass
class Experiment:
    """What is known before anything is trained."""
    config: Config  # every size set
    identity: dict  # what may not change within a folder: data, forget owners, seed
    split: Split
    train: list[Record]  # forget and retain set, in the order of the file
    tokenizer: tiktoken.Encoding
    pairs: dict[Record, tuple[list[int], list[int]]]  # (prompt ids, response ids)
    gpt_config: GPTConfig
    max_new_tokens: int  # of any response
    forget_owners: list[int]  # their indices

    def sequences(self, rows):
        """What a language model is trained on: the prompt, the response, and the end of text."""
        return [self.pairs[r][0] + self.pairs[r][1] + [self.tokenizer.eot_token] for r in rows]


def prepare(config):
    """Read the data, split them, set the sizes, make the tokenizer. Raises InputError."""
    records = load_records(config.data)
    split = split_records(records, config.forget, config.n_forget, config.test_fraction, config.seed)
    held_out = set(map(id, split.test + split.unseen))
    train = [r for r in records if id(r) not in held_out]
    size_rule(config, [r.response for r in train], len(split.forget))
    config.out = config.out or f"runs/{Path(config.data).stem}-seed{config.seed}"
    identity = {"data": hashlib.sha256(Path(config.data).read_bytes()).hexdigest(), "forget": split.forget_owners, "seed": config.seed}
    tokenizer = gpt2_tokenizer() if config.tokenizer == "gpt2" else train_tokenizer(
        [text for r in train for text in layout(r.prompt, r.response)], config.vocab_size)
    pairs = {r: encode(tokenizer, r) for r in records}
    max_new_tokens = max(len(y) for _, y in pairs.values()) + 8
    others = [text for r in records for text in (r.paraphrase, *r.perturbed) if text] + baselines.REFUSALS  # read, never generated
    longest_read = 1 + max(len(tokenizer.encode_ordinary(layout("", text)[1])) for text in others)
    block_size = max(len(x) for x, _ in pairs.values()) + max(max_new_tokens, longest_read)
    gpt_config = GPTConfig(tokenizer.n_vocab, block_size, config.n_layer, config.n_head, config.n_embd)
    return Experiment(config, identity, split, train, tokenizer, pairs, gpt_config, max_new_tokens,
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


def stage(path, key, title, make, note=lambda state: "", reuse=None):
    """The checkpoint at `path`, or of that name in the folder `reuse`, if made from the same `key`; otherwise `make` -> dict of it. Saves it."""
    for place in [path, *([Path(reuse) / path.name] if reuse else [])]:
        try:
            state = torch.load(place, map_location="cpu", weights_only=True)
            reused = state["key"] == key
        except Exception:  # not there, cut short, or not ours: made anew
            reused = False
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


def load_weights(model, path, part, mend):
    """Fill a model, on its device, from a `part` of a checkpoint; it is frozen. Raises InputError that ends in `mend`."""
    try:
        model.load_state_dict(torch.load(path, map_location="cpu", weights_only=True)[part])
    except Exception:  # torch.load and load_state_dict raise a dozen kinds
        raise InputError(f"{path}: {mend}") from None
    return model.requires_grad_(False)


def read_config(out):
    """The Config of a finished run. Raises InputError."""
    try:
        return Config(**json.loads((out / "results.json").read_text(encoding="utf-8"))["config"])
    except (OSError, ValueError, KeyError, TypeError):
        raise InputError(f"{out}/results.json: not there, or not of a finished run; name the --out folder of one") from None


def load_run(out, device):
    """A finished run -> (Experiment, {name: GPT} of target, retrained and every method, Yardstick). Raises InputError."""
    out = Path(out)
    config = read_config(out)
    e = prepare(config)
    if e.identity != json.loads((out / "experiment.json").read_text(encoding="utf-8")):
        raise InputError(f"{config.data}: not the data of {out} any more; put them back, or run train.py again")

    def load(model, name, part):
        return load_weights(model.to(device), out / f"{name}.pt", part, "not a checkpoint of this run; delete it and run train.py again")

    models = {name: load(GPT(e.gpt_config), "unlearned" if name == "dareu" else name, "model")
              for name in ["target", "retrained", *config.methods.split(",")]}
    added, response = (load(new_classifier(e, hide, device), "classifier", part) for part, hide in (("added", True), ("response", False)))
    return e, models, new_yardstick(e, added, response, models)
