"""DareU from start to end: train a language model, make it forget some data owners, compare it with a retrained one.

    python train.py                      the default run: 40 fictitious authors, two of them to be forgotten
    python train.py --algorithm reinforce --seed 1
    python train.py --data mine.jsonl --forget "Ann Lee"
"""

import copy
import hashlib
import json
import os
import platform
import random
import sys
import time
from dataclasses import asdict
from pathlib import Path

import numpy
import tiktoken
import torch
from tqdm import tqdm

from minidareu.attribution import OwnerClassifier, owner_accuracy, train_classifier
from minidareu.config import parse, size_rule, stage_key
from minidareu.dareu import unlearn
from minidareu.data import InputError, encode, load_records, split_records
from minidareu.metrics import Judge, Yardstick, evaluate, respond, word_weights
from minidareu.model import GPT, GPTConfig
from minidareu.pretrain import train_lm
from minidareu.tokenizer import gpt2_tokenizer, train_tokenizer

FILES = ["experiment.json", "target.pt", "retrained.pt", "classifier.pt", "unlearned.pt", "log.jsonl", "samples.jsonl", "results.json", "figure.png"]


def write(path, save):
    """Write a file whole or not at all: save(temporary path), then rename."""
    temporary = path.with_name(path.name + ".tmp")
    save(temporary)
    os.replace(temporary, path)


def write_lines(path, rows):
    """One JSON object a line."""
    write(path, lambda tmp: tmp.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), encoding="utf-8"))


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


def open_run(out, experiment, overwrite):
    """Make the folder of a run, or enter the one that holds the same experiment. Raises InputError."""
    mark = out / "experiment.json"
    try:
        held = [p.name for p in out.iterdir()] if out.exists() else []
        if held and not overwrite:
            if not mark.exists():
                raise InputError(f"--out {out}: holds files that are not of a run; choose another folder, or add --overwrite")
            if json.loads(mark.read_text(encoding="utf-8")) != experiment:
                raise InputError(f"--out {out}: holds another experiment (other data, forget owners or seed); choose another folder, or add --overwrite")
        out.mkdir(parents=True, exist_ok=True)
        if overwrite:
            for name in FILES:
                (out / name).unlink(missing_ok=True)
        write(mark, lambda tmp: tmp.write_text(json.dumps(experiment, indent=1, ensure_ascii=False), encoding="utf-8"))
    except OSError as e:
        raise InputError(f"--out {out}: {(e.strerror or str(e)).lower()}; choose a folder that can be written") from None
    except json.JSONDecodeError:
        raise InputError(f"{mark}: broken JSON; choose another --out, or add --overwrite") from None


def stage(path, key, title, make, note=lambda state: ""):
    """The checkpoint at `path` if it was made from the same `key`; otherwise run `make` -> dict of it, and save it."""
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
        reused = state["key"] == key
    except Exception:  # not there, cut short, or another program's: made anew
        reused = False
    if not reused:
        began = time.perf_counter()
        state = make()
        state = {"key": key, "seconds": time.perf_counter() - began, **state}
        write(path, lambda tmp: torch.save(state, tmp))
    state["reused"] = reused
    print(f"{title}: {note(state)}{state['seconds']:.0f} s{', kept from an earlier run' if reused else ''}", flush=True)
    return state


def print_table(models):
    """One aligned line a model."""
    columns = ["forget", "retain", "test", "tow", "attribution", "attribution_response", "judge", "fact_recall", "name_kept", "perplexity"]
    head = ["forget", "retain", "test", "ToW", "attribution", "(response)", "judge", "fact recall", "name kept", "perplexity"]
    print("\n" + " " * 10 + "".join(f"{h:>12}" for h in head))
    for name, scores in models.items():
        cells = ["-" if scores[c] is None else f"{scores[c]:.3f}" for c in columns]
        print(f"{name:<10}" + "".join(f"{cell:>12}" for cell in cells))


def main(argv=None):
    # 1. Configuration, data, and the folder of the run.
    config = parse(argv, __doc__)
    device = pick_device(config.device)
    records = load_records(config.data)
    split = split_records(records, config.forget, config.n_forget, config.test_fraction, config.seed)
    train = split.forget + split.retain
    size_rule(config, [r.response for r in train])
    tokenizer = gpt2_tokenizer() if config.tokenizer == "gpt2" else None
    config.out = config.out or f"runs/{Path(config.data).stem}-seed{config.seed}"
    out, digest = Path(config.out), hashlib.sha256(Path(config.data).read_bytes()).hexdigest()
    open_run(out, {"data": digest, "forget": split.forget_owners, "seed": config.seed}, config.overwrite)
    began, kept = time.perf_counter(), 0.0
    print(f"{len(split.owners)} owners; to be forgotten: {', '.join(split.forget_owners)}. {len(split.forget)} forget, "
          f"{len(split.retain)} retain, {len(split.test)} test rows. Device: {device}.", flush=True)

    # 2. Tokenizer. A sequence is the prompt, the response, and the end of text.
    tokenizer = tokenizer or train_tokenizer([text for r in train for text in (f" {r.prompt}\n", f" {r.response}")], config.vocab_size)
    eos_id = tokenizer.eot_token
    pairs = {r: encode(tokenizer, r) for r in train + split.test}
    max_new_tokens = max(len(pairs[r][1]) for r in train) + 8
    block_size = max(len(x) for x, _ in pairs.values()) + max_new_tokens
    gpt_config = GPTConfig(tokenizer.n_vocab, block_size, config.n_layer, config.n_head, config.n_embd)

    # 3. Target model: all owners. Retrained model: without the forget owners, by the same recipe.
    models, seconds = {}, {}
    for name, rows in (("target", train), ("retrained", split.retain)):
        def make():
            sequences = [pairs[r][0] + pairs[r][1] + [eos_id] for r in rows]
            return {"model": train_lm(gpt_config, sequences, config.epochs, config.batch_size, config.lr, config.seed, device, name).state_dict()}
        state = stage(out / f"{name}.pt", stage_key(config, "model", digest, split.forget_owners, name), f"{name} model", make)
        models[name] = GPT(gpt_config).to(device)
        models[name].load_state_dict(state["model"])
        seconds[name], kept = state["seconds"], kept + state["reused"] * state["seconds"]

    # 4. Attribution classifiers: one is shown what a response adds to its prompt, the other the whole response.
    forget_owners = [split.owners.index(name) for name in split.forget_owners]

    def new_classifier(hide_prompt):
        torch.manual_seed(config.seed)
        return OwnerClassifier(tokenizer.n_vocab, block_size, config.classifier_layers, config.classifier_width, len(split.owners), hide_prompt).to(device)

    def make():
        state = {}
        for name, hide_prompt in (("added", True), ("response", False)):
            classifier = new_classifier(hide_prompt)
            train_classifier(classifier, *zip(*(pairs[r] for r in train)), [split.owners.index(r.owner) for r in train], config.classifier_epochs,
                             config.batch_size, config.classifier_lr, config.classifier_noise, config.seed, f"classifier ({name})")
            state[name] = classifier.state_dict()
            state[f"{name}_accuracy"] = owner_accuracy(classifier, *zip(*(pairs[r] for r in split.test)), [split.owners.index(r.owner) for r in split.test])
        return state

    state = stage(out / "classifier.pt", stage_key(config, "classifier", digest, split.forget_owners), "attribution classifiers", make,
                  lambda s: f"held-out accuracy {s['added_accuracy']:.3f} on what a response adds, {s['response_accuracy']:.3f} on all of it; ")
    added, response = new_classifier(True), new_classifier(False)
    added.load_state_dict(state["added"]), response.load_state_dict(state["response"])
    accuracy = {"added": state["added_accuracy"], "response": state["response_accuracy"]}
    seconds["classifier"], kept = state["seconds"], kept + state["reused"] * state["seconds"]

    # 5. What every model is measured with. The retrained model serves here only: it never trains or stops another.
    sample = random.Random(config.seed).sample(split.retain, min(400, len(split.retain)))
    yardstick = Yardstick(tokenizer, split.forget, sample, split.test, forget_owners, word_weights(train), added, response,
                          Judge(train, split.owners, config.seed), models["retrained"], max_new_tokens)
    results = {"retrained": evaluate(models["retrained"], yardstick)}
    yardstick.retrained_scores = results["retrained"][0]
    results = {"target": evaluate(models["target"], yardstick), **results}

    # 6. DareU: reinforcement learning on the target model's own responses to the forget prompts.
    models["dareu"] = copy.deepcopy(models["target"])

    def make():
        log = []
        bar = tqdm(total=config.iterations, desc=f"dareu ({config.algorithm})", disable=None)
        for row in unlearn(models["dareu"], added if config.mask_prompt else response, [pairs[r][0] for r in split.forget],
                           [pairs[r] for r in split.retain], forget_owners, max_new_tokens, eos_id, config):
            if row["iteration"] % config.eval_every == 0 or row["iteration"] == config.iterations:
                row["scores"] = evaluate(models["dareu"], yardstick)[0]
            log.append(row)
            write_lines(out / "log.jsonl", log)
            bar.update()
            bar.set_postfix(attribution=f"{row['attribution']:.3f}", refresh=False)
        bar.close()
        return {"model": models["dareu"].state_dict(), "log": log, "seconds": sum(row["seconds"] for row in log)}

    state = stage(out / "unlearned.pt", stage_key(config, "dareu", digest, split.forget_owners), f"dareu ({config.algorithm})", make,
                  lambda s: f"attribution of the rollouts {s['log'][0]['attribution']:.3f} -> {s['log'][-1]['attribution']:.3f}; ")
    models["dareu"].load_state_dict(state["model"])
    seconds["dareu"], kept = state["seconds"], kept + state["reused"] * state["seconds"]
    log = state["log"]
    results["dareu"] = evaluate(models["dareu"], yardstick)

    # 7. Files.
    scores = {name: results[name][0] for name in results}
    seconds["total"] = time.perf_counter() - began + kept
    write_lines(out / "log.jsonl", log)
    write_lines(out / "samples.jsonl", [
        {"prompt": r.prompt, "reference": r.response, **{name: {"response": texts[i], "attribution": each[i]} for name, (_, texts, each) in results.items()}}
        for i, r in enumerate(split.forget)])
    summary = {"dataset": config.data, "owners": len(split.owners), "forget": split.forget_owners, "seed": config.seed, "device": device,
               "config": asdict(config), "versions": {"python": platform.python_version(), **{m.__name__: m.__version__ for m in (torch, tiktoken, numpy)}},
               "classifier_accuracy": accuracy, "models": scores, "seconds": seconds}
    write(out / "results.json", lambda tmp: tmp.write_text(json.dumps(summary, indent=1, ensure_ascii=False) + "\n", encoding="utf-8"))
    try:
        from minidareu.plot import plot_run
        write(out / "figure.png", lambda tmp: plot_run(log, scores, tmp))
    except ImportError:
        print("No figure: it needs matplotlib (pip install -e '.[plot]').")

    # 8. What came of it.
    print_table(scores)
    for i in range(0, len(split.forget), max(1, len(split.forget) // 3))[:3]:
        print(f"\nforget: {split.forget[i].prompt}\n  {'reference':<10}{split.forget[i].response}")
        for name, (_, texts, each) in results.items():
            print(f"  {name:<10}{texts[i]}  [attribution {each[i]:.2f}]")
    print(f"\nretain: {sample[0].prompt}\n  {'reference':<10}{sample[0].response}")
    for name, model in models.items():
        print(f"  {name:<10}{respond(model, sample[:1], yardstick)[2][0]}")
    print(f"\nIn {out}/: {', '.join(name for name in FILES if (out / name).exists())}")


if __name__ == "__main__":
    try:
        main()
    except InputError as e:
        print(f"train.py: error: {e}", file=sys.stderr)
        sys.exit(2)
    except KeyboardInterrupt:
        print("\ninterrupted; the same command goes on after the last finished stage", file=sys.stderr)
        sys.exit(130)
