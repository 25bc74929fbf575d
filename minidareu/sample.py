"""Ask the models of a finished run: target, retrained and unlearned model side by side, each response with the owner it is attributed to.

    python -m minidareu.sample --run runs/authors-seed0 "Where was Lena Hale born?"
    python -m minidareu.sample --run runs/authors-seed0 --file prompts.txt --json
    python -m minidareu.sample --run runs/authors-seed0                              asks for prompts, until an empty line

The score behind an owner is the classifier's posterior, on what the response adds to its prompt.
"""

import json
import sys

import torch

from .attribution import response_posterior
from .cli import make_parser, run_main
from .data import InputError, layout, read_text
from .experiment import load_run, pick_device
from .model import generate_in_chunks


def answer(e, models, classifier, prompts, temperature=0.0):
    """Texts -> for each prompt {"prompt": ..., model name: {"response", "owner", "score", "forget"}}; `forget`: p(forget owners).

    Raises InputError for a prompt that leaves no room for a response."""
    ids = [e.tokenizer.encode_ordinary(layout(prompt, "")[0]) for prompt in prompts]
    for x, prompt in zip(ids, prompts):
        if len(x) > e.gpt_config.block_size - 8:
            raise InputError(f"prompt {prompt[:40]!r}...: makes {len(x)} tokens, and the context is {e.gpt_config.block_size}; shorten it")
    rows = [{"prompt": prompt} for prompt in prompts]
    for name, model in models.items():
        responses = generate_in_chunks(model, ids, e.max_new_tokens, temperature, e.tokenizer.eot_token)
        posterior = response_posterior(classifier, ids, responses)
        scores, owners = posterior.max(-1)
        forget = posterior[:, e.forget_owners].sum(-1)
        for row, y, score, owner, share in zip(rows, responses, scores.tolist(), owners.tolist(), forget.tolist()):
            row[name] = {"response": e.tokenizer.decode(y).strip(), "owner": e.split.owners[owner], "score": score, "forget": share}
    return rows


def show(row, forgotten):
    """One prompt's answers as lines, a model each; an owner that was forgotten has a star."""
    print(f"\n{row['prompt']}")
    for name, said in row.items():
        if name != "prompt":
            print(f"  {name:<11}{said['response']}  [{said['owner']}{'*' if said['owner'] in forgotten else ''} {said['score']:.2f}]")
    sys.stdout.flush()


def main(argv=None):
    parser = make_parser(__doc__, prog="python -m minidareu.sample")
    parser.add_argument("prompt", nargs="?", help="what to ask")
    parser.add_argument("--run", required=True, help="folder of a finished run")
    parser.add_argument("--file", help="a file of prompts, one a line")
    parser.add_argument("--json", action="store_true", help="print one JSON object a prompt")
    parser.add_argument("--temperature", type=float, default=0.0, help="of sampling; 0 is greedy (default)")
    parser.add_argument("--seed", type=int, default=0, help="of sampling")
    parser.add_argument("--device", default="auto", choices=["auto", "cuda", "mps", "cpu"])
    args = parser.parse_args(argv)
    if not 0 <= args.temperature < float("inf"):
        raise InputError(f"--temperature: {args.temperature} is out of range; give at least 0")
    if args.prompt is not None and args.file:
        raise InputError("--file: given beside a prompt; give one of them")
    prompts = None  # asked for
    if args.file or args.prompt is not None:
        prompts = [line.strip() for line in (read_text(args.file).split("\n") if args.file else [args.prompt]) if line.strip()]
        if not prompts:
            raise InputError(f"{args.file or 'the prompt'}: is empty; give a prompt" + (" a line" if args.file else ""))
    e, models, (classifier, _) = load_run(args.run, pick_device(args.device))
    torch.manual_seed(args.seed)
    printed = (lambda row: print(json.dumps(row, ensure_ascii=False), flush=True)) if args.json else lambda row: show(row, e.split.forget_owners)
    if prompts:
        for row in answer(e, models, classifier, prompts, args.temperature):
            printed(row)
        return
    terminal = sys.stdin.isatty()
    if terminal:
        print(f"Forgotten (*): {', '.join(e.split.forget_owners)}. An empty line ends.")
    while True:
        try:
            prompt = input("\n> " if terminal else "").strip()
        except EOFError:
            break
        if not prompt:
            if terminal:
                break
            continue
        try:
            printed(answer(e, models, classifier, [prompt], args.temperature)[0])
        except InputError as error:
            if not terminal:
                raise
            print(error)


if __name__ == "__main__":
    run_main(main, "minidareu.sample")
