"""One run of DareU, from data to figure.

python train.py                                         40 invented authors; two are forgotten
python train.py --data mine.jsonl --forget "Ann Lee"
python train.py --methods dareu,npo,graddiff            beside loss-based methods
python train.py --from runs/authors-seed0 --forget "Lena Hale"    one more, after that run's
"""

import copy
import inspect
import math
import time
from dataclasses import replace
from functools import partial

from tqdm import tqdm

from minidareu import baselines, dareu, newton
from minidareu.attribution import forget_attribution, prefix_attribution, train_classifier
from minidareu.beyond import dareu_plus, rewards
from minidareu.beyond.controls import controlled
from minidareu.data import load_records
from minidareu.model import GPT
from minidareu.report.details import N_ALONG, spread_rows
from minidareu.report.printed import SHOWN, print_data, print_outcome, print_samples, print_stage
from minidareu.report.written import write_results
from minidareu.run.cli import run_main
from minidareu.run.flags import flags_of, parse
from minidareu.run.folder import read_keys
from minidareu.run.pool import side_by_side
from minidareu.run.prepare import make_task, prepare
from minidareu.run.source import source_digest
from minidareu.run.stages import find_kept, keep, load_model, new_classifier, open_folder
from minidareu.run.stages import pretrain_key, read_checkpoint, stage, stage_key
from minidareu.run.training import language_model, owner_classifier, workers_for
from minidareu.scores.chunks import owner_accuracy
from minidareu.scores.evaluation import evaluate, evaluate_fully, make_evaluator
from minidareu.tokenizer import train_tokenizer


def main(argv=None):
    # 1. Flags, data, tokenizer, and the folder of the run.
    run = prepare(parse(argv, __doc__))
    start = starting_points(run)
    with open_folder(run):
        unlearn_and_measure(run, start, language_models(run), model_of)


def unlearn_and_measure(run, start, stages, model_of):
    """Steps 2 to 6. start: {method: checkpoint} of the run that --from names; stages: those of
    `language_models`; model_of(run, state): a stage's model.

    Returns {stage: checkpoint}.
    """
    began = time.perf_counter()
    print_data(run)

    # 2. The original model reads all owners, the retrained model all but the forget owners.
    # 3. The attribution classifier: Phase 1 of Algorithm 1.
    states = trained_stages(run, {**stages, **owner_classifier_stage(run)})
    models = {name: model_of(run, state) for name, state in states.items() if "model" in state}
    classifier = new_classifier(run)
    classifier.load_state_dict(states["classifier"]["classifier"])
    classifier.requires_grad_(False)

    # 4. What every model is measured with.
    evaluator = make_evaluator(run, models, classifier)
    retrained, evaluations = None, {}
    if run.config.retrained:
        retrained = evaluate_fully(models["retrained"], evaluator)
    evaluations["original"] = evaluate_fully(models["original"], evaluator, retrained)
    if retrained:
        evaluations["retrained"] = retrained
    if run.config.second_retrained:
        second = evaluate_fully(models["second_retrained"], evaluator, retrained)
        evaluations["second_retrained"] = second

    # 5. Unlearning: each method makes a copy of the original model forget.
    log = []
    for name in run.methods:
        states[name] = unlearning_stage(
            run, name, start, states, models=models, classifier=classifier
        )
        models[name] = model_of(run, states[name])
        evaluations[name] = evaluate_fully(models[name], evaluator, retrained)
        curve = {}
        if run.config.curve:
            curve = score_snapshots(
                name, states[name], partial(model_of, run), evaluator, retrained=retrained
            )
        log += scored_log(states[name]["log"], curve, final=evaluations[name])

    # 6. Files, and what came of it.
    seconds = {name: state["seconds"] for name, state in states.items()}
    kept = sum(state["seconds"] for state in states.values() if state["kept"])
    seconds["total"] = time.perf_counter() - began + kept
    accuracy = owner_accuracy(classifier, run.labelled(run.split.test))
    memory = {name: state.get("memory") for name, state in states.items()}
    keys = {name: state["key"] for name, state in states.items()}
    passes = {name: state["passes"] for name, state in states.items() if "passes" in state}
    costs = {"seconds": seconds, "memory": memory, "passes": passes}
    write_results(run, evaluator, evaluations, log, keys=keys, costs=costs, accuracy=accuracy)
    print_outcome(evaluations, run.config.all_scores)
    print_samples(run, evaluations)
    return states


def starting_points(run):
    """{method: checkpoint} of the run that --from names, whose models this run goes on from."""
    if not run.config.from_run:
        return {}
    mend, keys = "run that method there first", read_keys(run.config.from_run)
    paths = {name: run.earlier_path(name) for name in run.methods}
    for path in paths.values():
        load_model(run, path, keys, mend=mend)
    return {name: read_checkpoint(path) for name, path in paths.items()}


def trained_stages(run, stages):
    """{stage: checkpoint} of the language models and the classifiers. None needs another, so those
    that are not kept from before are trained side by side."""
    states = {name: find_kept(run.path(name), key, run.reuse) for name, (key, *_) in stages.items()}
    jobs = {name: job for name, (_, *job) in stages.items() if not states[name]}
    for place, (name, job) in enumerate(jobs.items()):
        job.append({"desc": name, "position": place, "disable": None})  # its progress bar
    workers = run.workers or workers_for(run.device, len(jobs))
    for name, state in side_by_side(jobs, workers):
        states[name] = keep(run.path(name), stages[name][0], state)
    for name, state in states.items():
        print_stage(f"{name} model" if "model" in state else name, state)
    return states


def language_models(run):
    """{stage: (key, function, *arguments)} of the models that are trained on texts."""
    config = run.config
    rows = {"original": run.train}
    if config.retrained:
        rows["retrained"] = run.split.retain
    configs = dict.fromkeys(rows, config)
    if config.second_retrained:
        rows["second_retrained"] = run.split.retain
        configs["second_retrained"] = replace(config, seed=config.seed + 1)
    stages = {}
    for name, part in rows.items():
        pairs, training = run.ended(part), configs[name].training
        key = pretrain_key(configs[name], pairs)
        stages[name] = (key, language_model, run.gpt_config, pairs, training, run.device)
    return stages


def owner_classifier_stage(run):
    """{stage: (key, function, *arguments)} of the attribution classifier."""
    config, rows = run.config, run.labelled(run.train)
    flags = flags_of(config, ["data", "classifier"])
    here = inspect.getsource(owner_classifier_stage)
    source = source_digest(train_classifier, train_tokenizer, load_records)
    key = stage_key(flags, rows, source, here)
    training = config.classifier_training
    return {"classifier": (key, owner_classifier, new_classifier(run), rows, training)}


def model_of(run, state):
    """The model of a stage."""
    model = GPT(run.gpt_config).to(run.device)
    model.load_state_dict(state["model"])
    return model


def unlearning_stage(run, name, start, states, models, classifier):
    """Make a copy of the original model forget by a method, or take it from an earlier run."""
    policy = copy.deepcopy(models["original"])
    if start:
        policy.load_state_dict(start[name]["model"])
    updates, total, source = method_updates(run, name, policy, classifier)

    def make():
        log, snapshots, diverged = [], {}, None
        bar = tqdm(total=total, desc=name, disable=None)
        for row in updates:
            log.append({"method": name, **row})
            if is_evaluation_step(row["step"], total):
                snapshots[row["step"]] = copy.deepcopy(policy.state_dict())
            shown = {key: f"{row[key]:.3f}" for key in ("attribution", "loss") if key in row}
            bar.set_postfix(shown, refresh=False)
            bar.update()
            if any(isinstance(x, float) and not math.isfinite(x) for x in row.values()):
                diverged = row["step"]
                break
        bar.close()
        state = {"model": policy.state_dict(), "log": log, "snapshots": snapshots}
        return {**state, "diverged": diverged}

    earlier = start[name]["key"] if start else ""
    parts = ("original", "classifier")
    before = [states[part]["key"] for part in parts if part in states]
    stages = [name] if name in ("dareu", "dareu_plus") else ["baselines"]
    flags = flags_of(run.config, [*stages, "shared"])
    here = "".join(map(inspect.getsource, (unlearning_stage, method_updates, rewards)))
    key = stage_key([flags, run.identity, before], earlier, source, here)
    state = stage(run.path(name), key, make, reuse=run.config.reuse)
    print_stage(name, state)
    if state["diverged"]:
        print(f"{name}: diverged at update {state['diverged']}; its scores are of what was left")
    return state


def method_updates(run, name, policy, classifier):
    """A method's generator of updates, how many they are, and a digest of the source it runs."""
    config = run.config
    attribute = rewards.dareu_attribution(run, classifier)
    task = make_task(run, attribute, rewards.plus_attribution(run, classifier))
    if name == "dareu":
        source = source_digest(dareu.unlearn, prefix_attribution, controlled)
        return dareu.unlearn(policy, task, config), config.dareu_updates(len(task.forget)), source
    if name == "dareu_plus":
        source = source_digest(dareu_plus.unlearn, forget_attribution, controlled)
        return dareu_plus.unlearn(policy, task, config), config.plus_updates, source
    if name == "scrn":
        source = source_digest(newton.unlearn)
        return newton.unlearn(policy, task, config), newton.OUTER_STEPS, source
    method = baselines.METHODS[name]
    steps = method.steps_of(task, config)
    source = source_digest(method.loss, baselines.LossMethod.__call__)
    facts = source and [source, name, method.lr_of(config), steps, config.batch_size, config.seed]
    return method(policy, task, config), steps, facts


def is_evaluation_step(step, total):
    """After a half, a quarter, an eighth ... of the updates."""
    return step >= 4 and step in {total >> k for k in range(1, 8)}


def score_snapshots(name, state, model_of_state, evaluator, retrained):
    """{step: {"scores", "answers" to some forget prompts}} of a method along the way."""
    curve, shown = {}, spread_rows(evaluator.forget, N_ALONG)
    for step, snapshot in tqdm(state["snapshots"].items(), desc=f"{name}: scores", disable=None):
        model = model_of_state({"model": snapshot})
        evaluation = evaluate(model, evaluator, retrained)
        answers = [evaluation.responses.texts[i] for i in shown]
        curve[step] = {"scores": evaluation.scores, "answers": answers}
    return curve


def scored_log(log, curve, final):
    """A method's log, with its scores along the way and, at its last step, the printed ones."""
    last = {"scores": {name: final.scores[name] for name in SHOWN}}
    curve = {**curve, log[-1]["step"]: last}
    return [{**row, **curve.get(row["step"], {})} for row in log]


if __name__ == "__main__":
    run_main(main, "train.py")
