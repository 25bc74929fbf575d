"""Ask the models of a finished run: original, retrained and unlearned models side by side, each
response with the owner that DareU's classifier attributes it to.

    python -m minidareu.sample --run runs/authors-seed0 "Where was Lena Hale born?"
    python -m minidareu.sample --run runs/authors-seed0 --json < prompts.txt    one a line
    python -m minidareu.sample --run runs/authors-seed0                         asks for prompts
"""

import json
import sys
from contextlib import suppress
from pathlib import Path

import torch

from .beyond.finished import open_finished
from .files import InputError
from .run.cli import make_parser, run_main, seed_number
from .run.folder import LLM_FILE
from .run.prepare import pick_device
from .scores.chunks import generate_in_chunks, response_posterior


def answer(run, models, classifier, prompts, temperature=0.0):
    """Texts -> for each prompt {"prompt": ..., model: {"response", "owner", "score", "forget"}}.

    owner: the most likely one, score: its posterior, forget: p(forget owners). Raises InputError
    for a prompt that leaves no room for a response.
    """
    ids = [run.prompt_ids(prompt) for prompt in prompts]
    rows = [{"prompt": prompt} for prompt in prompts]
    for name, model in models.items():
        responses = generate_in_chunks(model, ids, temperature=temperature, **run.limits)
        posterior = response_posterior(classifier, ids, responses)
        for row, y, p in zip(rows, responses, posterior, strict=True):
            row[name] = {
                "response": run.tokenizer.decode(y).strip(),
                "owner": run.split.owners[p.argmax()],
                "score": p.max().item(),
                "forget": p[run.forget_owners].sum().item(),
            }
    return rows


def show(row, forgotten):
    """One prompt's answers as lines, a model each; an owner that was forgotten has a star."""
    print(f"\n{row['prompt']}")
    for name, answered in row.items():
        if name != "prompt":
            star = "*" if answered["owner"] in forgotten else ""
            owner = f"{answered['owner']}{star} {answered['score']:.2f}"
            print(f"  {name:<12}{answered['response']}  [{owner}]")
    sys.stdout.flush()


def asked_prompts(prompt):
    """Lists of prompts to be answered together: the one that is given, or all lines of standard
    input; on a terminal one after another, until an empty line. Raises InputError."""
    if prompt is not None or not sys.stdin.isatty():
        try:
            lines = sys.stdin.read().split("\n") if prompt is None else [prompt]
        except UnicodeDecodeError as e:
            raise InputError(f"standard input: is not {e.encoding}; give it as UTF-8") from None
        prompts = [line.strip() for line in lines if line.strip()]
        if not prompts:
            raise InputError("the prompt: is empty; give one, or a line of standard input for each")
        yield prompts
        return
    with suppress(EOFError):
        while line := input("\n> ").strip():
            yield [line]


def main(argv=None):
    parser = make_parser(__doc__, prog="python -m minidareu.sample")
    parser.add_argument("prompt", nargs="?", help="what to ask")
    parser.add_argument("--run", type=Path, required=True, help="folder of a finished run")
    parser.add_argument("--json", action="store_true", help="print one JSON object a prompt")
    parser.add_argument("--temperature", type=float, default=0.0, help="0 is greedy (default)")
    parser.add_argument("--seed", type=seed_number, default=0, help="of sampling")
    parser.add_argument("--device", default="auto", choices=["auto", "cuda", "mps", "cpu"])
    args = parser.parse_args(argv)
    if args.temperature != 0 and not 0.01 <= args.temperature < float("inf"):
        raise InputError(
            f"--temperature: {args.temperature} is out of range; give 0, or at least 0.01"
        )
    run, models, classifier = open_models(args.run, pick_device(args.device))
    torch.manual_seed(args.seed)
    for prompts in asked_prompts(args.prompt):
        for row in answer(run, models, classifier, prompts, temperature=args.temperature):
            if args.json:
                print(json.dumps(row, ensure_ascii=False), flush=True)
            else:
                show(row, run.split.forget_owners)


def open_models(folder, device):
    """The run, its models by name, its classifier: of train.py, or of a pretrained model. Raises
    InputError."""
    if (folder / LLM_FILE).exists():
        from .llm import loading  # an extra

        return loading.open_models(folder, device)
    return open_finished(folder, device)


if __name__ == "__main__":
    run_main(main, "minidareu.sample")
