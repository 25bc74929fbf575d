"""DareU on a pretrained language model: what train.py does, on a model of transformers with LoRA.

python -m minidareu.llm --model FOLDER --n-forget 2
python -m minidareu.llm --model Qwen/Qwen3-0.6B --data mine.jsonl --forget "Ann Lee"
accelerate launch -m minidareu.llm --model ...          several GPUs, each with rows of its own

A name that is no folder is fetched from the hub. The flags of train.py may be given too, but those
of the small GPT; the defaults are the paper's (App. E.1) where it says one.
"""

import copy
import shutil
import sys
import tempfile
from contextlib import redirect_stdout
from functools import partial
from pathlib import Path

from ..attribution import prefix_attribution, train_classifier
from ..beyond.controls import controlled
from ..files import InputError, write_json
from ..report.printed import SHOWN, print_data, print_outcome, print_samples
from ..report.written import write_results
from ..run.cli import make_parser, run_main
from ..run.flags import parse
from ..run.folder import LLM_FILE, open_folder
from ..run.methods import METHODS, method_names
from ..run.prepare import make_task, prepare
from ..run.stages import fitted, kept_updates, new_classifier
from ..scores.evaluation import evaluate_fully, make_evaluator
from .loading import ADAPTER, check_same_tokens, load_policy, load_tokenizer, read_model
from .processes import process
from .tuning import fine_tune

# The paper's (App. E.1), then what it does not say: |B_r|, DareU+'s learning rate, no curve.
DEFAULTS = ["--epochs", "5", "--batch-size", "16", "--lr", "1.5e-4", "--rl-lr", "1.5e-4"]
DEFAULTS += ["--data-epochs", "1", "--ppo-steps", "20"]
DEFAULTS += ["--baseline-lr", "1.5e-4", "--retain-batch", "32", "--plus-lr", "3e-4", "--no-curve"]


def read_flags(argv):
    """The options of this floor, and the Config of the rest. Raises InputError."""
    parser = make_parser(__doc__, prog="python -m minidareu.llm")
    add = parser.add_argument
    add("--model", help="pretrained model: a folder, one of a GGUF file too, or a name on the hub")
    add("--original", help="a model that has read all owners already, in the place of --model")
    add("--retrained", help="one that has read all but the forget owners; default: trained here")
    add("--lora-rank", type=int, default=8, help="r (default: 8); 0 trains all parameters")
    add("--lora-alpha", type=int, default=16, help="adapters count alpha / r (default: 16)")
    add("--lora-dropout", type=float, default=0.05, help="in fine-tuning alone (default: 0.05)")
    add("--bf16", action="store_true", help="weights in bfloat16")
    add("--checkpointing", action="store_true", help="less memory, for more time")
    add("--chat", action="store_true", help="prompts by the model's chat template")
    add("--merge", action="store_true", help="write whole models too, beside the adapters")
    options, rest = parser.parse_known_args(argv)
    config = parse([*DEFAULTS, *rest], __doc__)
    if bool(options.model) == bool(options.original):
        raise InputError("--model: give it, or --original, a model that has read all owners")
    if options.original and config.retrained and not options.retrained:
        raise InputError(
            "--original: a retrained model can't be made from one that has read all owners; give "
            "--retrained too, or --no-retrained"
        )
    if options.lora_rank < 0 or not 0 <= options.lora_dropout < 1:
        raise InputError("--lora-rank, --lora-dropout: give at least 0, and for dropout below 1")
    if options.lora_rank == 0 and (options.merge or process().num_processes > 1):
        raise InputError("--lora-rank 0: has no adapters to merge, and wants one process")
    if options.lora_rank == 0 and options.bf16:
        raise InputError("--lora-rank 0: loses small updates in bfloat16; leave out --bf16")
    config.out = config.out or f"runs/{Path(config.data).stem}-llm-seed{config.seed}"
    if "scrn" in config.methods.split(",") or config.from_run:
        raise InputError("--methods scrn, --from: for the small GPT alone; leave it out")
    return options, config


def base_place(run, options) -> str:
    """The folder, or the name on the hub, of the model that the adapters are on. Where --original
    is an adapter, it is the merged model, which is written beside them."""
    place = options.original or options.model
    if (Path(place) / ADAPTER).exists():
        read_model(place, options.bf16).save_pretrained(str(run.folder / "base"))
        place = str(run.folder / "base")
    return str(Path(place).resolve()) if Path(place).exists() else place


def write_adapters(run, options, models, start):
    """A folder for each model, as peft writes its adapter; on request whole models too."""
    place = base_place(run, options)
    for name, model in models.items():
        if options.lora_rank == 0 or getattr(options, name, None):
            continue  # somebody else's model
        adapter = start.copy(trains=False, name=name)
        adapter.load_state_dict(model.state_dict())
        start.base.peft.peft_config[name].base_model_name_or_path = place
        how = {"selected_adapters": [name], "save_embedding_layers": False}
        start.base.peft.save_pretrained(str(run.folder), **how)
        if not run.stages[name]["kept"]:  # what was merged of an earlier model goes
            shutil.rmtree(run.folder / f"{name}-merged", ignore_errors=True)
        if options.merge:
            whole = read_model(str(run.folder / name), options.bf16)
            whole.save_pretrained(str(run.folder / f"{name}-merged"))
            run.tokenizer.tokenizer.save_pretrained(str(run.folder / f"{name}-merged"))


def prepare_run(options, config):
    """The run, and the model that it begins with. Raises InputError."""
    place = options.original or options.model
    tokenizer = load_tokenizer(place, options.chat)
    if options.retrained:
        check_same_tokens(tokenizer, options.retrained)
    run = prepare(config, tokenizer)
    run.identity["llm"] = True  # a folder is of one kind
    paths = ("model", "original", "retrained", "merge")  # weights count, not where they lie
    run.facts = {name: value for name, value in vars(options).items() if name not in paths}
    if process().num_processes > 1:
        run.device = str(process().device)
    if not process().is_main_process:  # the others work in a folder that is thrown away
        run.config.reuse, run.folder = config.reuse or str(run.folder), Path(tempfile.mkdtemp())
    return run, load_policy(place, run, options)


def tuned(run, name, start, records):
    """A copy of a model that was fine-tuned on records, or, without any, as it is."""
    fit = partial(fine_tune, rows=run.ended(records), training=run.config.training)
    return fitted(run, name, copy.deepcopy(start), fit).snapshot()


def main(argv=None):
    options, config = read_flags(argv)
    names = method_names(config)
    run, start = prepare_run(options, config)
    first = process().is_main_process
    in_folder = open_folder(run.folder, run.identity, config.overwrite)
    with in_folder, redirect_stdout(sys.stdout if first else None):
        print_data(run)
        original = tuned(run, "original", start, [] if options.original else run.train)
        models = {"original": original}
        if options.retrained:
            other = load_policy(options.retrained, run, options)
            models["retrained"] = tuned(run, "retrained", other, [])
        elif config.retrained:
            models["retrained"] = tuned(run, "retrained", start, run.split.retain)
        rows, training = run.labelled(run.train), config.classifier_training
        fit = partial(train_classifier, rows=rows, training=training)
        classifier = fitted(run, "classifier", new_classifier(run), fit)
        classifier.requires_grad_(False)

        evaluator = make_evaluator(run, models, classifier)
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
        write_json(run.folder / LLM_FILE, vars(options))
        if first:
            write_adapters(run, options, models, start)


if __name__ == "__main__":
    run_main(main, "minidareu.llm")
