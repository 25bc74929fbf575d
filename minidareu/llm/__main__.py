"""DareU on a pretrained language model: what train.py does, on a model of transformers with LoRA.

python -m minidareu.llm --model FOLDER --n-forget 2
python -m minidareu.llm --model Qwen/Qwen3-0.6B --data mine.jsonl --forget "Ann Lee"
accelerate launch -m minidareu.llm --model ...          several GPUs, each with rows of its own

A name that is no folder is fetched from the hub. The flags of train.py may be given too, but those
of the small GPT; the defaults are the paper's (App. E.1) where it says one.
"""

import sys
import tempfile
from contextlib import redirect_stdout
from functools import partial
from pathlib import Path

from ..files import InputError, write_json
from ..run.cli import make_parser, run_main
from ..run.flags import flags_of, parse
from ..run.folder import LLM_FILE
from ..run.pool import ROOT
from ..run.prepare import prepare
from ..run.source import source_digest
from ..run.stages import open_folder, stage_key
from .loading import load_policy, load_tokenizer, read_model
from .processes import process
from .tuning import tuned_model

sys.path.insert(0, str(ROOT))  # train.py is no part of the package
from train import unlearn_and_measure  # noqa: E402

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
    if options.lora_rank < 0 or not 0 <= options.lora_dropout < 1:
        raise InputError("--lora-rank, --lora-dropout: give at least 0, and for dropout below 1")
    if options.lora_rank == 0 and (options.merge or process().num_processes > 1):
        raise InputError("--lora-rank 0: has no adapters to merge, and wants one process")
    others = [config.second_retrained, config.from_run]
    if "scrn" in config.methods.split(",") or any(others):
        flags = "--methods scrn, --second-retrained, --from"
        raise InputError(f"{flags}: for the small GPT alone; leave it out")
    return options, config


def language_models(run, options, policies):
    """{stage: (key, function, *arguments)} of the models that read texts, as in train.py."""
    rows, stages = {"original": run.train}, {}
    settings = {name: value for name, value in vars(options).items() if name != "merge"}
    if run.config.retrained:
        rows["retrained"] = run.split.retain
    for name, part in rows.items():
        pairs, flags = run.ended(part), flags_of(run.config, ["data", "model"])
        key = stage_key([settings, flags, pairs], source_digest(tuned_model, load_policy))
        base, given = name if name in policies else "original", getattr(options, name)
        rest = ([] if given else pairs, run.config.training)
        stages[name] = (key, tuned_model, policies[base], base, *rest)
    return stages


def model_of(policies, run, state):
    """The model of a stage: an adapter of its own, frozen."""
    model = policies[state.get("base", "original")].snapshot()
    model.load_state_dict(state["model"])
    return model


def write_adapters(run, options, states, start):
    """A folder for each model, as peft writes its adapter; on request whole models too."""
    for name, state in states.items():
        if options.lora_rank == 0 or "model" not in state or getattr(options, name, None):
            continue  # a classifier, or somebody else's model
        model = start.copy(trains=False, name=name)
        model.load_state_dict(state["model"])
        how = {"selected_adapters": [name], "save_embedding_layers": False}
        start.base.peft.save_pretrained(str(run.folder), **how)
        if options.merge:
            whole = read_model(str(run.folder / name), options.bf16)
            whole.save_pretrained(str(run.folder / f"{name}-merged"))
            run.tokenizer.tokenizer.save_pretrained(str(run.folder / f"{name}-merged"))


def main(argv=None):
    options, config = read_flags(argv)
    place, first = options.original or options.model, process().is_main_process
    run = prepare(config, load_tokenizer(place, options.chat))
    run.workers = 1
    if process().num_processes > 1:
        run.device = str(process().device)
    if not first:  # the others work in a folder that is thrown away
        run.config.reuse, run.folder = config.reuse or str(run.folder), Path(tempfile.mkdtemp())
    places = {"original": place, "retrained": options.retrained}
    policies = {name: load_policy(at, run, options) for name, at in places.items() if at}
    stages = language_models(run, options, policies)
    with open_folder(run), redirect_stdout(sys.stdout if first else None):
        states = unlearn_and_measure(run, {}, stages, partial(model_of, policies))
        write_json(run.folder / LLM_FILE, vars(options))
        if first:
            write_adapters(run, options, states, policies["original"])


if __name__ == "__main__":
    run_main(main, "minidareu.llm")
