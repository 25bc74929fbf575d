"""One response explained, token by token: what its rewards are made of, and what updates do to it.

    python -m minidareu.explain --run runs/authors-seed0
    python -m minidareu.explain --run runs/authors-seed0 "Where was Tomas Moreau born?"

DareU has made its S_PPO updates on a first batch of forget prompts. In the second, the prompt is
answered by pi_old, which is still the original model; then come the updates on that batch. DareU+
answers by its own policy and makes one update. Nothing is written.
"""

import random
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor, nn

from .. import dareu, rl
from ..attribution import prefix_attribution
from ..beyond import dareu_plus
from ..beyond.added import AddedClassifier, forget_attribution
from ..cli import make_parser, run_main
from ..data import prompt_text
from ..files import InputError
from ..model import GPT, chosen, frozen, generate, log_probs, pack, packed_log_probs, with_end
from ..prepare import pick_device
from ..run import load_classifier, load_model, open_run

WHY_DAREU = (
    "The reward of a token is the mean of chi(DA) so far; where DA is above .65, chi is -1. The "
    "return adds up what is still to come, so early tokens have the lowest, and those that pi was "
    "less sure of move first."
)
WHY_PLUS = (
    "All tokens share one reward: by how much the whole answer raised the attribution of what it "
    "adds to the prompt. An answer that tells more than the batch's mean goes down."
)


@dataclass
class Explained:
    """A response and what each of its T tokens comes to: {title: (T,)}."""

    tokens: list[int]
    columns: dict[str, Tensor]


def forget_rows(run, prompt) -> list:
    """(prompt ids, owner index) of the forget rows, the prompt asked about first.

    Raises InputError.
    """
    rows = [(run.pairs[r][0], run.split.owners.index(r.owner)) for r in run.split.forget]
    texts = [r.prompt for r in run.split.forget]
    if prompt is None:
        return rows
    if prompt in texts:
        asked = rows[texts.index(prompt)]
    else:
        named = [name for name in run.split.forget_owners if name in prompt]
        if not named:
            names = ", ".join(run.split.forget_owners)
            raise InputError(
                f"prompt {prompt!r}: names no forgotten owner; ask about one of {names}"
            )
        asked = (
            run.tokenizer.encode_ordinary(prompt_text(prompt)),
            run.split.owners.index(named[0]),
        )
    return [asked, *(row for row in rows if row != asked)]


def explain_dareu(run, original: GPT, classifier, rows) -> Explained:
    """DareU's second batch, which begins with the first of `rows`."""
    c, retain = run.config, [run.pairs[r] for r in run.split.retain]
    torch.manual_seed(c.seed)
    rng = random.Random(c.seed)
    policy = frozen(original).requires_grad_(True)
    value_head = nn.Linear(policy.config.n_embd, 1, device=run.device)
    nn.init.zeros_(value_head.weight)
    nn.init.zeros_(value_head.bias)
    optimizer = torch.optim.AdamW([*policy.parameters(), *value_head.parameters()], lr=c.rl_lr)
    attribute = partial(prefix_attribution, classifier)

    def roll_out(batch):
        return dareu.rollout(
            policy, original, value_head, attribute, rows=batch, limits=run.limits, c=c
        )

    def update(ro):
        kept = dareu.retain_batch(original, retain, c.retain_batch, run.limits, rng=rng, c=c)
        with torch.no_grad():
            original_logp = packed_log_probs(original, kept)
        for _ in range(dareu.updates_per_batch(c)):
            rl.descend(optimizer, dareu.policy_loss(policy, value_head, ro, c)[0])
            distillation = dareu.distillation_loss(policy, original_logp, kept)
            rl.descend(optimizer, c.distill_coef * distillation)

    size = min(c.forget_batch, len(rows))
    update(roll_out(rng.sample(rows, size)))
    ro = roll_out([rows[0], *rng.sample(rows[1:], size - 1)])
    before = token_values(
        run, policy, original, classifier=classifier, value_head=value_head, ro=ro, owner=rows[0][1]
    )
    update(ro)
    T = len(before["pi_old"])
    with torch.no_grad():
        after = chosen(log_probs(policy, ro.batch, c.temperature), ro.batch)[0, :T]
    ratio = (after - ro.old_logp[0, :T]).exp()
    clipped = ((ratio - 1).abs() > c.clip).float()
    tokens = ro.batch.response[0, :T].tolist()
    return Explained(tokens, before | {"pi after": after.exp(), "clipped": clipped})


@torch.no_grad()
def token_values(run, policy, original, classifier, value_head, ro, owner):
    """The columns that hold before the updates on a rollout, of its first response. `pi` and
    `pi_old` are probabilities; whatever `dareu.rollout` keeps to itself is computed again."""
    c, batch, T = run.config, ro.batch, int(ro.batch.mask[0].sum())
    logp_all = log_probs(policy, batch, c.temperature)
    old_logp_all = log_probs(original, batch, c.temperature)
    kl = (rl.kl(logp_all, old_logp_all) * batch.mask)[:1, :T]
    values = value_head(dareu.response_hidden(policy, batch)).squeeze(2)[0, :T]
    y = [token for token in batch.response[0, :T].tolist() if token != run.limits["eos_id"]]
    attribution = prefix_attribution(classifier, [[]], [y], [owner])  # it reads y alone
    attribution = attribution[:, torch.arange(T + 1).clamp(max=attribution.size(1) - 1)]
    length = torch.tensor([T], device=kl.device)
    settings = {"lengths": length, "slices": c.slices, "c_seg": c.c_seg, "eps": c.chi_eps}
    prefix_mean = dareu.token_rewards(attribution, kl, kl_coef=0.0, **settings)[0]
    rewards = dareu.token_rewards(attribution, kl, kl_coef=c.kl_coef, **settings)[0]
    ends = dareu.slice_ends(T, c.slices)
    return {
        "pi_old": chosen(old_logp_all, batch)[0, :T].exp(),
        "pi": chosen(logp_all, batch)[0, :T].exp(),
        "KL": kl[0],
        "DA": attribution[0, ends],
        "chi": dareu.transform(attribution, c.c_seg, c.chi_eps)[0, ends],
        "prefix mean": prefix_mean,
        "reward": rewards,
        "return": ro.returns[0, :T],
        "V": values,
        "advantage": ro.advantages[0, :T],
    }


def explain_plus(run, original: GPT, classifier, rows) -> Explained:
    """DareU+'s first update, on a batch that begins with the first of `rows`."""
    c, retain = run.config, [run.pairs[r] for r in run.split.retain]
    torch.manual_seed(c.seed)
    rng = random.Random(c.seed)
    policy = frozen(original).requires_grad_(True)
    optimizer = torch.optim.AdamW(policy.parameters(), lr=c.plus_lr, weight_decay=0)
    batch_rows = [rows[0], *rng.sample(rows[1:], min(c.forget_batch, len(rows)) - 1)]
    prompts = [x for x, _ in batch_rows]
    responses = generate(policy, prompts, temperature=c.plus_temperature, **run.limits)
    batch = pack(prompts, with_end(policy, prompts, responses, **run.limits), run.device)
    attribution = forget_attribution(classifier, prompts, responses, run.forget_owners)
    rewards = dareu_plus.response_rewards(
        attribution, log_ratio=torch.zeros_like(batch.mask), kl_coef=c.plus_kl_coef
    )
    advantages = rl.whiten((rewards - rewards.mean())[:, None] * batch.mask, batch.mask)
    logp = chosen(log_probs(policy, batch, c.plus_temperature), batch)
    kept = dareu.retain_batch(original, retain, c.plus_retain_batch, run.limits, rng=rng, c=c)
    with torch.no_grad():
        kept_logp = packed_log_probs(original, kept)
    distillation = dareu.distillation_loss(policy, kept_logp, kept)
    loss = rl.reinforce_loss(logp, advantages, batch.mask)
    rl.descend(optimizer, loss + c.plus_distill_coef * distillation)
    T = int(batch.mask[0].sum())
    with torch.no_grad():
        after = chosen(log_probs(policy, batch, c.plus_temperature), batch)[0, :T]
    at = torch.arange(1, T + 1).clamp(max=attribution.size(1) - 1)
    columns = {
        "pi": logp[0, :T].detach().exp(),
        "attribution": attribution[0, at],
        "reward": rewards[:1].expand(T),
        "advantage": advantages[0, :T],
        "pi after": after.exp(),
    }
    return Explained(batch.response[0, :T].tolist(), columns)


def token_texts(run, tokens):
    """Tokens as they are printed."""
    ends = run.limits["eos_id"]
    return [
        "<end>" if token == ends else repr(run.tokenizer.decode([token]))[1:-1] for token in tokens
    ]


def print_table(run, explained):
    """One line a token."""
    texts = token_texts(run, explained.tokens)
    first = max(map(len, texts)) + 1
    widths = [max(len(title), 6) + 1 for title in explained.columns]
    titles = zip(explained.columns, widths, strict=True)
    print(" " * first + "".join(f"{title:>{width}}" for title, width in titles))
    for t, text in enumerate(texts):
        cells = zip(explained.columns.values(), widths, strict=True)
        print(f"{text:<{first}}" + "".join(f"{x[t].item():>{width}.2f}" for x, width in cells))


def print_words(run, explained, why):
    """Which tokens the updates pushed down most, and up, and why."""
    before, after = explained.columns["pi"], explained.columns["pi after"]
    change = after - before
    words = [text.strip() or "a space" for text in token_texts(run, explained.tokens)]
    advantage, order = explained.columns["advantage"], change.argsort().tolist()

    def named(indices):
        return ", ".join(f"{words[t]} ({before[t]:.2f} to {after[t]:.2f})" for t in indices)

    down = [t for t in order[:3] if change[t] < -0.005]
    up = [t for t in order[::-1][:3] if change[t] > 0.005]
    print(f"\nPushed down: {named(down) or 'no token by .005 or more'}.")
    print(f"Pushed up: {named(up) or 'no token by .005 or more'}.")
    against = [t for t in down if advantage[t] > 0] + [t for t in up if advantage[t] < 0]
    if against:
        moved = ", ".join(words[t] for t in against)
        print(f"Against their own advantage: {moved}. Other answers and the retain rows push too.")
    negative = (advantage < 0).float().mean().item()
    print(f"{negative:.0%} of its tokens have a negative advantage. {why}")


def main(argv=None):
    parser = make_parser(__doc__, prog="python -m minidareu.explain")
    parser.add_argument("prompt", nargs="?", help="of a forgotten owner (default: the first)")
    parser.add_argument("--run", required=True, help="folder of a finished run")
    parser.add_argument("--device", default="auto", choices=["auto", "cuda", "mps", "cpu"])
    args = parser.parse_args(argv)
    run = open_run(args.run, pick_device(args.device))
    original = load_model(run, run.path("original"))
    rows = forget_rows(run, args.prompt)
    print(f"prompt: {run.tokenizer.decode(rows[0][0]).strip()}\n")
    explained = explain_dareu(run, original, load_classifier(run), rows)
    print(f"DareU: before and after {dareu.updates_per_batch(run.config)} updates\n")
    print_table(run, explained)
    print_words(run, explained, WHY_DAREU)
    added = load_classifier(run, "added", AddedClassifier)
    explained = explain_plus(run, original, added, rows)
    print("\nDareU+: before and after one update\n")
    print_table(run, explained)
    print_words(run, explained, WHY_PLUS)


if __name__ == "__main__":
    run_main(main, "minidareu.explain")
