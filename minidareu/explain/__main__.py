"""One response explained, token by token: what its rewards are made of, and what updates do to it.

    python -m minidareu.explain --run FOLDER
    python -m minidareu.explain --run FOLDER "For the record, how was Tomas Moreau honoured?"

DareU has made its S_PPO updates on a first batch of forget prompts. In the second, the prompt is
answered by pi_old: the policy as it is by then, or with --renew-old-policy epoch still the original
model. Then come the updates on that batch. (The learning rate does not fall here.) Nothing
is written.
"""

import difflib
import random
from collections.abc import Callable
from functools import partial
from pathlib import Path

import torch
from torch import Tensor

from .. import dareu
from ..attribution import prefix_attribution
from ..beyond.controls import CONTROLS, controlled
from ..beyond.finished import open_finished
from ..files import InputError
from ..model import GPT, Policy, chosen, log_probs
from ..run.cli import make_parser, run_main
from ..run.prepare import Run, make_task, pick_device

WHY = (
    "The reward of a token is the mean of chi(DA) so far, less the KL; where DA is above .65, chi "
    "is -1. The return adds up the rewards to come, each further one counting less (gamma). The "
    "advantage is the return less what V expected, on the scale of the batch."
)


def forget_queries(run: Run, prompt: str | None) -> list[dareu.Query]:
    """Forget prompts with their owners, the one asked about first. Raises InputError."""
    texts = [r.prompt for r in run.split.forget]
    if prompt is not None and prompt not in texts:
        near = ", ".join(map(repr, difflib.get_close_matches(prompt, texts, n=3, cutoff=0)))
        raise InputError(f"prompt {prompt!r}: not of the forget set; the nearest are {near}")
    rows = run.queries(run.split.forget)
    asked = rows[texts.index(prompt)] if prompt else rows[0]
    return [asked, *(row for row in rows if row != asked)]


def explain_dareu(
    run: Run, original: GPT, attribute: Callable, queries: list[dareu.Query]
) -> tuple[list[int], dict[str, Tensor]]:
    """DareU's second batch, which begins with the first of `queries`: the T tokens of the response
    to it, and what each comes to, {title: (T,)}."""
    config, retain = run.config, run.references(run.split.retain)
    torch.manual_seed(config.seed)
    rng = random.Random(config.seed)
    policy = original.snapshot().requires_grad_(True)
    learner, task = dareu.make_learner(policy, config), make_task(run, attribute)

    def roll_out(queries):
        old_policy = policy.snapshot() if config.renew_old_policy == "batch" else original
        return dareu.rollout(learner, old_policy, task, queries)

    def update(ro):
        rows = rng.sample(retain, min(config.retain_batch, len(retain)))
        kept = dareu.retain_batch(original, rows, task, config)
        for _ in range(config.updates_per_batch):
            dareu.update(learner, ro, kept)

    size = min(config.forget_batch, len(queries))
    update(roll_out(rng.sample(queries, size)))
    ro = roll_out([queries[0], *rng.sample(queries[1:], size - 1)])
    T = int(ro.batch.mask[0].sum())
    ends = dareu.slice_ends(T, T if config.reward == "token" else config.slices)
    before = probabilities(policy, ro.batch, config.temperature, T)
    update(ro)
    score_title = "last chi" if config.reward == "sequence" else "prefix mean"
    columns = {
        "pi_old": ro.old_logp[0, :T].exp(),
        "pi": before,
        "KL": ro.kl[0, :T],
        "DA": ro.attribution[0, ends],
        "chi": dareu.transform(ro.attribution[0, ends], config.c_seg),
        score_title: ro.rewards[0, :T] + config.kl_coef * ro.kl[0, :T],
        "reward": ro.rewards[0, :T],
        "return": ro.returns[0, :T],
        "V": ro.values[0, :T],
        "advantage": ro.advantages[0, :T],
        "pi after": probabilities(policy, ro.batch, config.temperature, T),
    }
    ratio = columns["pi after"] / columns["pi_old"]
    columns["clipped"] = ((ratio - 1).abs() > config.clip).float()
    return ro.batch.response[0, :T].tolist(), columns


@torch.no_grad()
def probabilities(policy: Policy, batch, temperature: float, T: int) -> Tensor:
    """pi(y[t] | c_t) of the first response's T tokens: (T,)."""
    return chosen(log_probs(policy, batch, temperature), batch)[0, :T].exp()


def token_texts(run, tokens):
    """Tokens as they are printed."""
    ends = run.limits["eos_id"]
    return [
        "<end>" if token == ends else repr(run.tokenizer.decode([token]))[1:-1] for token in tokens
    ]


def print_table(run, tokens, columns):
    """One line a token."""
    texts = token_texts(run, tokens)
    first = max(map(len, texts)) + 1
    widths = [max(len(title), 6) + 1 for title in columns]
    titles = zip(columns, widths, strict=True)
    print(" " * first + "".join(f"{title:>{width}}" for title, width in titles))
    for t, text in enumerate(texts):
        cells = zip(columns.values(), widths, strict=True)
        print(f"{text:<{first}}" + "".join(f"{x[t].item():>{width}.2f}" for x, width in cells))


def print_words(run, tokens, columns):
    """Which tokens the updates pushed down most, and up."""
    before, after, words = columns["pi"], columns["pi after"], token_texts(run, tokens)
    for title, change in (("down", before - after), ("up", after - before)):
        most = [t for t in change.argsort(descending=True)[:3].tolist() if change[t] > 0.005]
        named = [f"{words[t].strip()} ({before[t]:.2f} to {after[t]:.2f})" for t in most]
        print(f"Pushed {title}: {', '.join(named) or 'no token by .005 or more'}.")
    negative = (columns["advantage"] < 0).float().mean().item()
    print(f"{negative:.0%} of its tokens have a negative advantage. {WHY}")


def main(argv=None):
    parser = make_parser(__doc__, prog="python -m minidareu.explain")
    parser.add_argument("prompt", nargs="?", help="of a forgotten owner (default: the first)")
    parser.add_argument("--run", type=Path, required=True, help="folder of a finished run")
    parser.add_argument("--device", default="auto", choices=["auto", "cuda", "mps", "cpu"])
    args = parser.parse_args(argv)
    run, models, classifier = open_finished(args.run, pick_device(args.device))
    original, reward = models["original"], run.config.reward
    queries = forget_queries(run, args.prompt)
    print(f"prompt: {run.tokenizer.decode(queries[0][0]).strip()}\n")
    attribute = controlled(partial(prefix_attribution, classifier), reward)
    tokens, columns = explain_dareu(run, original, attribute, queries)
    if reward in CONTROLS:
        print(f"The reward of this run is a control, {reward}: DA is not the classifier's.\n")
    print(f"DareU: before and after {run.config.updates_per_batch} updates\n")
    print_table(run, tokens, columns)
    print_words(run, tokens, columns)


if __name__ == "__main__":
    run_main(main, "minidareu.explain")
