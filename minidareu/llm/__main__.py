"""DareU on a pretrained language model: what train.py does, on a model of transformers with LoRA.

python -m minidareu.llm --model FOLDER --n-forget 2
python -m minidareu.llm --model Qwen/Qwen3-0.6B --data mine.jsonl --forget "Ann Lee"

A name that is no folder is fetched from the hub. The defaults are the paper's (App. E.1) where it
says one.
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
from ..run.prepare import make_task, prepare
from ..run.stages import fitted, kept_updates, new_classifier
from ..scores.evaluation import evaluate_fully, make_evaluator
from .adapters import write_adapters
from .loading import check_same_tokens, load_policy, load_tokenizer
from .tuning import fine_tune

# The paper's (App. E.1), then what it does not say: |B_r|, and DareU+'s learning rate.
DEFAULTS = ["--epochs", "5", "--batch-size", "16", "--lr", "1.5e-4", "--rl-lr", "1.5e-4"]
DEFAULTS += ["--data-epochs", "1", "--ppo-steps", "20"]
DEFAULTS += ["--baseline-lr", "1.5e-4", "--retain-batch", "32", "--plus-lr", "3e-4"]
MOST_ROWS = 64  # of the retain and of the test set that are scored
OF_THE_SMALL_GPT = ("n_layer", "n_embd", "vocab_size", "from_run", "curve", "retrained")
OPTIONS = ["model", "original", "retrained_model", "lora_rank", "lora_alpha", "lora_dropout"]
OPTIONS += ["bf16", "checkpointing", "chat", "merge"]


def read_flags(argv):
    """The options of this floor, a dict, and the Config of the rest. Raises InputError."""
    parser = make_flags(__doc__, "python -m minidareu.llm [flags]", without=OF_THE_SMALL_GPT)
    add = parser.add_argument_group("The pretrained model").add_argument
    add("--model", help="pretrained model: a folder, one of a GGUF file too, or a name on the hub")
    add("--original", help="a model that has read all owners already, in the place of --model")
    add(
        "--retrained",
        dest="retrained_model",
        metavar="MODEL",
        help="one that has read all but the forget owners; default: trained here",
    )
    add("--no-retrained", dest="retrained", action="store_false", help="no gold standard")
    add("--lora-rank", type=int, default=8, help="r [8]; 0 trains all parameters")
    add("--lora-alpha", type=int, default=16, help="adapters count alpha / r [16]")
    add("--lora-dropout", type=float, default=0.05, help="in fine-tuning alone [0.05]")
    add("--bf16", action="store_true", help="weights in bfloat16")
    add("--checkpointing", action="store_true", help="less memory, for more time")
    add("--chat", action="store_true", help="prompts by the model's chat template")
    add("--merge", action="store_true", help="write whole models too, beside the adapters")
    options = parser.parse_args([*DEFAULTS, *(argv if argv is not None else sys.argv[1:])])
    config = to_config({k: v for k, v in vars(options).items() if k not in OPTIONS})
    if bool(options.model) == bool(options.original):
        raise InputError("--model: give it, or --original, a model that has read all owners")
    if options.original and config.retrained and not options.retrained_model:
        raise InputError(
            "--original: a retrained model can't be made from one that has read all owners; give "
            "--retrained too, or --no-retrained"
        )
    if options.lora_rank < 0 or not 0 <= options.lora_dropout < 1:
        raise InputError("--lora-rank, --lora-dropout: give at least 0, and for dropout below 1")
    if options.lora_rank == 0 and options.merge:
        raise InputError("--merge: with --lora-rank 0 there are no adapters; leave it out")
    if options.lora_rank == 0 and options.bf16:
        raise InputError("--lora-rank 0: loses small updates in bfloat16; leave out --bf16")
    config.out = config.out or f"runs/{Path(config.data).stem}-llm-seed{config.seed}"
    if "scrn" in config.methods.split(","):
        raise InputError("--methods scrn: for the small GPT alone; leave it out")
    return options, config


def prepare_run(options, config):
    """The run, and the model that it begins with. Raises InputError."""
    place = options.original or options.model
    tokenizer = load_tokenizer(place, options.chat)
    if options.retrained_model:
        check_same_tokens(tokenizer, options.retrained_model)
    run = prepare(config, tokenizer)
    run.identity["llm"] = True  # a folder is of one kind
    # What all models depend on. Weights count, not where they lie.
    run.facts = {name: getattr(options, name) for name in OPTIONS[3:-1]}
    return run, load_policy(place, run, options)


def tuned(run, name, start, records):
    """A copy of a model that was fine-tuned on records, or, without any, as it is."""
    fit = partial(fine_tune, rows=run.ended(records), training=run.config.training)
    return fitted(run, name, copy.deepcopy(start), fit).snapshot()


def main(argv=None):
    options, config = read_flags(argv)
    names = method_names(config)
    run, start = prepare_run(options, config)
    with open_folder(run.folder, run.identity, config.overwrite):
        print_data(run)
        original = tuned(run, "original", start, [] if options.original else run.train)
        models = {"original": original}
        if options.retrained_model:
            other = load_policy(options.retrained_model, run, options)
            models["retrained"] = tuned(run, "retrained", other, [])
        elif config.retrained:
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
