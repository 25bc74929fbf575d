"""Ask the models of a finished run on a pretrained model, side by side.

    python -m minidareu.llm.ask --run runs/smol "Where was Lena Hale born?"
    python -m minidareu.llm.ask --run runs/smol                 asks for prompts

Each response stands with the owner that the run's classifier attributes it to.
"""

import json
from argparse import Namespace
from dataclasses import replace
from pathlib import Path

from ..files import InputError
from ..run.cli import run_main
from ..run.folder import LLM_FILE, read_config, read_keys
from ..run.prepare import check_same_data
from ..run.stages import load_classifier, load_weights
from ..sample import ask, read_flags
from .__main__ import prepare_run
from .loading import load_policy
from .policy import LLM


def open_models(folder: str, device: str):
    """The Run of a finished run's folder, its models by name, and its classifier. Raises
    InputError."""
    config = replace(read_config(folder), device=device, out=folder)
    try:
        options = Namespace(**json.loads((Path(folder) / LLM_FILE).read_text(encoding="utf-8")))
    except OSError:
        raise InputError(f"{folder}: of the small GPT; ask it by minidareu.sample") from None
    run, start = prepare_run(options, config)
    check_same_data(run, folder)
    run.keys = read_keys(folder)
    other = load_policy(options.retrained_model, run, options) if options.retrained_model else start
    models: dict[str, LLM] = {}
    for name in run.models:
        model = (other if name == "retrained" else start).snapshot()
        models[name] = load_weights(model, run.path(name), run.keys)
    return run, models, load_classifier(run)


def main(argv=None):
    args = read_flags(argv, __doc__, "python -m minidareu.llm.ask")
    ask(*open_models(args.run, args.device), args)


if __name__ == "__main__":
    run_main(main, "minidareu.llm.ask")
