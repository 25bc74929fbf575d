"""DareU from start to end: train a language model, make it forget some data owners, compare it with a retrained one.

    python train.py                                         40 fictitious authors, two of them to be forgotten
    python train.py --data mine.jsonl --forget "Ann Lee"
    python train.py --methods dareu,npo,graddiff            DareU beside loss-based methods
    python train.py --from runs/authors-seed0 --forget "Lena Hale"       one more owner, after that run's
"""

import copy
import json
import platform
import time
from dataclasses import asdict
from pathlib import Path

import numpy
import tiktoken
import torch
from tqdm import tqdm

from minidareu import baselines, dareu
from minidareu.attribution import owner_accuracy, train_classifier
from minidareu.cli import run_main
from minidareu.config import parse, stage_key
from minidareu.data import InputError, layout, write, write_json, write_lines
from minidareu.exact import rewarded
from minidareu.experiment import checkpoint, load_weights, new_classifier, new_yardstick, pick_device, prepare, read_checkpoint, stage
from minidareu.likelihood import likelihood_scores
from minidareu.metrics import evaluate, knows_by_heart, respond
from minidareu.model import GPT
from minidareu.pretrain import train_lm

FILES = ["experiment.json", "target.pt", "retrained.pt", "classifier.pt", "unlearned.pt", "log.jsonl", "samples.jsonl", "results.json", "figure.png"]
FILES += ["unlearned.pt.part"] + [f"{name}.pt" for name in baselines.METHODS] + ["audit.json", "audit.md", "attacks.png", "proxy.png"]


def open_run(out, experiment, overwrite):
    """Make the folder of a run, or enter the one that holds the same experiment. Raises InputError."""
    mark = out / "experiment.json"
    try:
        if out.exists() and any(out.iterdir()) and not overwrite:
            if not mark.exists() or json.loads(mark.read_text(encoding="utf-8")) != experiment:
                raise InputError(f"--out {out}: holds another experiment (data, forget owners or seed) or files that are not of a run; "
                                 "choose another folder, or add --overwrite")
        out.mkdir(parents=True, exist_ok=True)
        if overwrite:
            for name in FILES:
                (out / name).unlink(missing_ok=True)
        write_json(mark, experiment)
    except (OSError, json.JSONDecodeError) as e:
        raise InputError(f"--out {out}: {e}; choose another folder, or add --overwrite to one that can be written") from None


def print_table(models):
    """One aligned line a model."""
    columns = list(models["target"])
    heads = dict(tow="ToW", exact_attribution="exact", attribution_response="(response)", model_utility="utility", forget_quality="quality",
                 extraction_strength="extraction", exact_memorization="memorized", mia_min_k="MIA min-k", mia_min_k_plus="MIA min-k++")
    titles = [heads.get(name, name.replace("mia_", "MIA ").replace("_", " ")) for name in columns]
    width = max(map(len, models)) + 1
    print("\n" + " " * width + "".join(f"{title:>13}" for title in titles))
    for name, scores in models.items():
        print(f"{name:<{width}}" + "".join(f"{'-' if scores[column] is None else format(scores[column], '.3f'):>13}" for column in columns))


def main(argv=None):
    # 1. Configuration, data and tokenizer, and the folder of the run.
    config = parse(argv, __doc__)
    device = pick_device(config.device)
    e = prepare(config)
    split, pairs, out, eos_id = e.split, e.pairs, Path(config.out), e.tokenizer.eot_token
    start = {name: load_weights(GPT(e.gpt_config), checkpoint(config.from_run, name), mend=f"run --methods {name} there first")
             for name in config.methods.split(",")} if config.from_run else {}
    open_run(out, e.identity, config.overwrite)
    began = time.perf_counter()
    print(f"{len(split.owners)} owners; to be forgotten: {', '.join(split.forget_owners)}. {len(split.forget)} forget, "
          f"{len(split.retain)} retain, {len(split.test)} test rows. Device: {device}.", flush=True)

    # 2. Target model: all owners. Retrained model: without the forget owners, by the same recipe.
    models, states = {}, {}
    for name, rows in (("target", e.train), ("retrained", split.retain)):
        sequences = e.sequences(rows)

        def make(sequences=sequences, name=name):
            model = train_lm(e.gpt_config, sequences, config.epochs, config.batch_size, config.lr, config.seed, device, name)
            return {"model": model.state_dict()}

        key = stage_key(config, ["data", "model"], sequences)
        states[name] = stage(out / f"{name}.pt", key, f"{name} model", make, reuse=config.reuse or config.from_run)
        models[name] = GPT(e.gpt_config).to(device)
        models[name].load_state_dict(states[name]["model"])

    # 3. Attribution classifiers: one is shown what a response adds to its prompt, the other the whole response.
    def labelled(rows):
        return [pairs[r][0] for r in rows], [pairs[r][1] for r in rows], [split.owners.index(r.owner) for r in rows]

    def make():
        state = {}
        for name, hide_prompt in (("added", True), ("response", False)):
            classifier = new_classifier(e, hide_prompt, device)
            train_classifier(classifier, *labelled(e.train), config.classifier_epochs, config.batch_size, config.classifier_lr,
                             config.classifier_noise, config.seed, f"classifier ({name})")
            state[name] = classifier.state_dict()
        return state

    key = stage_key(config, ["data", "classifier"], labelled(e.train), config.batch_size)
    states["classifier"] = stage(out / "classifier.pt", key, "classifiers", make, reuse=config.reuse or config.from_run)
    added, response = classifiers = new_classifier(e, True, device), new_classifier(e, False, device)
    accuracy = {}
    for name, classifier in zip(("added", "response"), classifiers):
        classifier.load_state_dict(states["classifier"][name])
        accuracy[name] = owner_accuracy(classifier, *labelled(split.test))
    print("  held-out accuracy {added:.3f} on what a response adds, {response:.3f} on all of it".format(**accuracy), flush=True)

    # 4. What every model is measured with. The retrained model serves to measure only: it never trains or stops another (but for
    #    --reward exact, which shows what a classifier costs in its place).
    yardstick = new_yardstick(e, added, response, models)
    retrained = evaluate(models["retrained"], yardstick)
    results = {"target": evaluate(models["target"], yardstick, retrained[0]), "retrained": retrained}
    likelihood = {"retrained": likelihood_scores(models["retrained"], yardstick, retrained[0]["retain"])}
    likelihood["target"] = likelihood_scores(models["target"], yardstick, results["target"][0]["retain"], likelihood["retrained"])

    # 5. Unlearning. DareU: reinforcement learning on the target model's own responses to the forget prompts. The others: a loss on the forget rows.
    #    After earlier requests (--from) the policy begins as what they left, and only the new ones' prompts are asked.
    log, last_step, forget_pairs, retain_pairs = [], {}, [pairs[r] for r in e.request], [pairs[r] for r in split.retain]
    for name in config.methods.split(","):
        policy, path, state, begun = copy.deepcopy(models["target"]), checkpoint(out, name), {}, []
        facts = [*e.identity.values(), list(retrained[0])]
        if config.from_run:
            policy.load_state_dict(start[name].state_dict())
            facts.append(read_checkpoint(checkpoint(config.from_run, name))["key"])
        models[name] = policy
        if name == "dareu":
            if config.prompt_dropout is None:
                config.prompt_dropout = 0.0 if knows_by_heart(models["target"], results["target"][0]["retain"], yardstick, 0.15) else 0.15
            key = stage_key(config, ["data", "model", "classifier", "dareu"], *facts)
            part = out / "unlearned.pt.part"  # of a run that was stopped
            state = read_checkpoint(part) or {}
            begun, state = (state.pop("log"), state) if state.get("key") == key else ([], {})
            steps = total = config.iterations
            prompts = [x for x, _ in forget_pairs]
            rows = dareu.unlearn(policy, rewarded(config, yardstick), prompts, retain_pairs, e.max_new_tokens, eos_id, config, state)
        else:
            loss, lr, steps = baselines.METHODS[name]
            lr, steps = config.baseline_lr or lr, config.baseline_steps or steps
            total = max(steps, config.run_on)
            source = [loss.__code__.co_code.hex(), str(loss.__code__.co_consts), str(loss.__defaults__)]
            key = stage_key(config, ["data", "model", "classifier"], *facts, name, lr, steps, total, source)
            refusals = [e.tokenizer.encode_ordinary(layout("", text)[1]) for text in baselines.REFUSALS]
            rows = baselines.unlearn(loss, policy, forget_pairs, retain_pairs, refusals, eos_id, lr, total, config.batch_size, config.seed)

        def make():
            done = list(begun)
            bar = tqdm(total=total, initial=len(done), desc=name, disable=None)
            for i, row in enumerate(rows, len(done) + 1):
                if i & (i - 1) == 0 and row["step"] > 2 or i in (steps, total):  # at 4, 8, 16, ... and the last
                    result = evaluate(policy, yardstick, retrained[0])
                    row["scores"] = result[0]
                    bar.set_postfix(tow=f"{row['scores']['tow']:.3f}", refresh=False)
                if i == steps:
                    final = {"model": copy.deepcopy(policy.state_dict()), "result": result}
                done.append({"method": name, **row})
                if "scores" in row or name == "dareu":
                    write_lines(out / "log.jsonl", log + done)
                if name == "dareu" and i % 4 == 0 and i < total:
                    write(part, lambda tmp: torch.save({"key": key, "seconds": 0, "log": done, **state}, tmp))
                bar.update()
            bar.close()
            return {**final, "log": done, "seconds": sum(row["seconds"] for row in done[:steps])}

        made = states[name] = stage(path, key, name, make, lambda s: f"ToW {s['log'][steps - 1]['scores']['tow']:.3f}; ", config.reuse)
        if name == "dareu":
            part.unlink(missing_ok=True)
        log += made["log"]
        last_step[name] = made["log"][steps - 1]["step"]
        policy.load_state_dict(made["model"])
        results[name] = made["result"]
        likelihood[name] = likelihood_scores(policy, yardstick, results[name][0]["retain"], likelihood["retrained"])

    # 6. Files.
    scores = {name: {**result[0], **likelihood[name][0]} for name, result in results.items()}
    seconds = {name: state["seconds"] for name, state in states.items()}
    seconds["total"] = time.perf_counter() - began + sum(state["seconds"] for state in states.values() if state["reused"])
    write_lines(out / "log.jsonl", log)
    write_lines(out / "samples.jsonl", [
        {"prompt": r.prompt, "reference": r.response,
         **{name: {"response": texts[i], "attribution": each[i]} for name, (_, texts, each) in results.items()}}
        for i, r in enumerate(split.forget)])
    versions = {"python": platform.python_version(), **{m.__name__: m.__version__ for m in (torch, tiktoken, numpy)}}
    owners = {name: [i for i, r in enumerate(split.forget) if r.owner == name] for name in split.forget_owners}
    by_owner = {name: {owner: sum(each[i] for i in rows) / len(rows) for owner, rows in owners.items()} for name, (_, _, each) in results.items()}
    summary = {"dataset": config.data, "owners": len(split.owners), "forget": split.forget_owners, "seed": config.seed, "device": device,
               "config": asdict(config), "versions": versions, "classifier_accuracy": accuracy, "models": scores,
               "attribution_by_owner": by_owner, "steps": last_step, "seconds": seconds}
    write_json(out / "results.json", summary)
    try:
        from minidareu.plot import plot_run
        write(out / "figure.png", lambda tmp: plot_run(log, scores, tmp))
    except ImportError:
        print("No figure: it needs matplotlib (pip install -e '.[plot]').")

    # 7. What came of it.
    print_table({name: result[0] for name, result in results.items()})
    print_table({name: likelihood[name][0] for name in results})
    print("(model utility: of the retain set alone, where TOFU takes real authors and world facts too)")
    for i in range(0, len(split.forget), max(1, len(split.forget) // 3))[:3]:
        print(f"\nforget: {split.forget[i].prompt}\n  {'reference':<11}{split.forget[i].response}")
        for name, (_, texts, each) in results.items():
            print(f"  {name:<11}{texts[i]}  [attribution {each[i]:.2f}]")
    print(f"\nretain: {yardstick.retain[0].prompt}\n  {'reference':<11}{yardstick.retain[0].response}")
    for name, model in models.items():
        print(f"  {name:<11}{respond(model, yardstick.retain[:1], yardstick)[2][0]}")
    print(f"\nIn {out}/: {', '.join(name for name in FILES if (out / name).exists())}")


if __name__ == "__main__":
    run_main(main, "train.py")
