"""DareU on a pretrained language model: what train.py does, on a model of transformers with LoRA.

python -m minidareu.llm --model FOLDER --n-forget 2
python -m minidareu.llm --model Qwen/Qwen3-0.6B --data mine.jsonl --forget "Ann Lee"

A name that is no folder is fetched from the hub. Defaults: the paper's (App. E.1), where given.
"""

import copy
import sys
from functools import partial
from pathlib import Path

from ..attribution import prefix_attribution, train_classifier
from ..beyond.controls import controlled
from ..files import InputError, write_json
from ..report.printed import SHOWN, print_data, print_outcome, print_samples
from ..report.written import write_results
from ..run.cli import run_main
from ..run.flags import make_flags, to_config
from ..run.folder import LLM_FILE, open_folder
from ..run.methods import METHODS, method_names
from ..run.prepare import make_task
from ..run.stages import fitted, kept_updates, new_classifier
from ..scores.evaluation import evaluate_fully, make_evaluator
from .adapters import write_adapters
from .loading import OPTIONS, prepare_run
from .tuning import fine_tune, trial_step

# The paper's (App. E.1), then what it does not say: |B_r|, and DareU+'s learning rate.
DEFAULTS = "--epochs 5 --batch-size 16 --lr 1.5e-4 --rl-lr 1.5e-4 --data-epochs 1 --ppo-steps 20"
DEFAULTS += " --baseline-lr 1.5e-4 --retain-batch 32 --plus-lr 3e-4"
MOST_ROWS = 64  # of the retain and of the test set that are scored
OF_THE_SMALL_GPT = ("n_layer", "n_embd", "vocab_size", "from_run", "curve")


def read_flags(argv):
    """The options of this floor, a dict, and the Config of the rest. Raises InputError."""
    parser = make_flags(__doc__, "python -m minidareu.llm [flags]", without=OF_THE_SMALL_GPT)
    add = parser.add_argument_group("The pretrained model").add_argument
    add("--model", help="pretrained model: a folder, one of a GGUF file too, or a name on the hub")
    add("--lora-rank", type=int, default=8, help="r [8]")
    add("--lora-alpha", type=int, default=16, help="adapters count alpha / r [16]")
    add("--lora-dropout", type=float, default=0.05, help="in fine-tuning alone [0.05]")
    add("--bf16", action="store_true", help="weights in bfloat16")
    add("--checkpointing", action="store_true", help="less memory, for more time")
    add("--chat", action="store_true", help="prompts by the model's chat template")
    options = parser.parse_args([*DEFAULTS.split(), *(sys.argv[1:] if argv is None else argv)])
    config = to_config({k: v for k, v in vars(options).items() if k not in OPTIONS})
    if not options.model:
        raise InputError("--model: give the folder of a pretrained model, or its name on the hub")
    if options.lora_rank < 1 or not 0 <= options.lora_dropout < 1:
        raise InputError("--lora-rank, --lora-dropout: give at least 1, and from 0 to below 1")
    config.out = config.out or f"runs/{Path(config.data).stem}-llm-seed{config.seed}"
    if "scrn" in config.methods.split(","):
        raise InputError("--methods scrn: for the small GPT alone; leave it out")
    return options, config


def tuned(run, name, start, records):
    """A copy of a model, fine-tuned on records."""
    fit = partial(fine_tune, rows=run.ended(records), training=run.config.training)
    return fitted(run, name, copy.deepcopy(start), fit).snapshot()


def print_estimate(run, start):
    """How long training and unlearning will take at least, by one step on the largest batch."""
    config = run.config
    largest = max(config.batch_size, config.forget_batch, config.retain_batch)
    seconds = trial_step(copy.deepcopy(start), run.ended(run.train), largest)  # a row
    rows = config.epochs * (len(run.train) + len(run.split.retain) * config.retrained)
    n_batches = -(-len(run.request) // config.forget_batch)
    updates = config.data_epochs * n_batches * config.updates_per_batch * ("dareu" in run.methods)
    updates += config.plus_updates * ("dareu_plus" in run.methods)
    rows += updates * (config.forget_batch + config.retain_batch)
    minutes = rows * seconds / 60
    print(f"At least {minutes:.0f} minutes if all is made anew, and scores.", flush=True)


def main(argv=None):
    options, config = read_flags(argv)
    names = method_names(config)
    run, start = prepare_run(options, config)
    with open_folder(run.folder, run.identity, config.overwrite):
        print_data(run)
        print_estimate(run, start)
        original = tuned(run, "original", start, run.train)
        models = {"original": original}
        if config.retrained:
            models["retrained"] = tuned(run, "retrained", start, run.split.retain)
        rows, training = run.labelled(run.train), config.classifier_training
        fit = partial(train_classifier, rows=rows, training=training)
        classifier = fitted(run, "classifier", new_classifier(run), fit)
        classifier.requires_grad_(False)

        likelihoods = config.all_scores
        evaluator = make_evaluator(run, models, classifier, MOST_ROWS, likelihoods=likelihoods)
        gold = evaluate_fully(models["retrained"], evaluator) if config.retrained else None
        evaluations = {"original": evaluate_fully(original, evaluator, gold)}
        if gold:
            evaluations["retrained"] = gold

        attribute = controlled(partial(prefix_attribution, classifier), config.reward)
        task = make_task(run, attribute)
        log = []
        for name in names:
            policy = copy.deepcopy(original)
            for figures in kept_updates(run, name, policy, unlearn=METHODS[name], task=task):
                log.append({"method": name, **figures})
            models[name] = policy.snapshot()
            evaluations[name] = evaluate_fully(models[name], evaluator, gold)
            log[-1]["scores"] = {key: evaluations[name].scores[key] for key in SHOWN}

        write_results(run, evaluator, evaluations, log)
        print_outcome(evaluations, config.all_scores)
        print_samples(run, evaluations)
        write_json(run.folder / LLM_FILE, {name: getattr(options, name) for name in OPTIONS})
        write_adapters(run, options, models, evaluations)


if __name__ == "__main__":
    run_main(main, "minidareu.llm")
