"""Exact attribution, which the classifier stands in for: leave an owner out, train again, and see
what the response has lost.

    A_o(y | x) = (log p(y | x; theta) - log p(y | x; theta_-o)) / |y|
    theta: the original model; theta_-o: trained without owner o

    python -m minidareu.beyond.exact       all owners of the default data, into runs/exact

theta and theta_-o differ by the luck of training too. So the same difference between two original
models, trained by different seeds, stands beside it: the noise. Goes on where it was cut.
"""

import os
from functools import partial
from itertools import combinations
from pathlib import Path

import torch
from torch import Tensor

from ..data import Ids
from ..files import write_json
from ..model import GPT
from ..pretrain import train_lm
from ..run.cli import make_parser, positive, run_main
from ..run.flags import Config, parse
from ..run.pool import side_by_side
from ..run.prepare import prepare
from ..run.stages import fitted, new_gpt
from ..scores.chunks import generate_in_chunks, response_log_probs

NOISE_SEEDS = 2  # further original models


def model_without(config: Config, out: Path, more: int, left_out: str | None) -> GPT:
    """A language model that never read an owner; None: it read all. more: added to the seed."""
    run = prepare(config)
    run.config.seed += more
    run.folder = out / f"seed{run.config.seed}"
    run.folder.mkdir(parents=True, exist_ok=True)
    rows = run.ended([r for r in run.train if r.owner != left_out])
    name = f"without-{run.split.owners.index(left_out)}" if left_out else "original"
    fit = partial(train_lm, rows=rows, training=run.config.training)
    return fitted(run, name, new_gpt(run), fit)


def mean_logp(model: GPT, prompts: list[Ids], responses: list[Ids]) -> Tensor:
    """log p(y | x) / |y| of each response: (N,). An empty response has 0."""
    rows = response_log_probs(model, prompts, responses)
    return torch.stack([row.sum() / max(1, len(row)) for row in rows]).cpu()


def summary(attribution: Tensor, noise: Tensor, owners: Tensor) -> dict:
    """Figures of a matrix (owners, N) whose column j answers a prompt about owners[j] (N,).

    noise: (pairs of original models, N).
    """
    n_owners, columns = len(attribution), torch.arange(len(owners))
    own = attribution[owners, columns]
    noise_95 = noise.abs().flatten().quantile(0.95).item()
    # (owner left out, owner asked about)
    by_owner = torch.stack([attribution[:, owners == o].mean(dim=1) for o in range(n_owners)], 1)
    return {
        "own owner": own.mean().item(),
        "other owners": ((attribution.sum(dim=0) - own) / (n_owners - 1)).mean().item(),
        "noise": noise.abs().mean().item(),
        "95% of it": noise_95,
        "own above": (own > noise_95).float().mean().item(),
        "top-1 own": (attribution.argmax(dim=0) == owners).float().mean().item(),
        "by owner": by_owner.tolist(),
    }


def main(argv=None):
    parser = make_parser(
        __doc__,
        prog="python -m minidareu.beyond.exact",
        epilog="Flags of train.py for data and language model are taken too.",
    )
    parser.add_argument(
        "--workers", type=positive, default=os.cpu_count(), help="models side by side"
    )
    parser.add_argument("--out", type=Path, default=Path("runs/exact"), help="folder of the models")
    args, rest = parser.parse_known_args(argv)
    config = parse(rest, __doc__)
    run = prepare(config)
    config.reuse = None
    jobs = {
        ("without", name): (model_without, config, args.out, 0, name) for name in run.split.owners
    }
    for more in range(NOISE_SEEDS + 1):
        jobs["original", more] = (model_without, config, args.out, more, None)
    models = side_by_side(jobs, args.workers, "models")

    original = models["original", 0]
    prompts, references, indices = run.labelled(run.train)
    owners = torch.tensor(indices)
    torch.manual_seed(config.seed)
    samples = generate_in_chunks(original, prompts, temperature=1.0, **run.limits)
    found = {}
    for title, responses in {"references": references, "original's answers": samples}.items():
        logp = {label: mean_logp(model, prompts, responses) for label, model in models.items()}
        originals = [logp["original", more] for more in range(NOISE_SEEDS + 1)]
        without = torch.stack([logp["without", name] for name in run.split.owners])
        noise = torch.stack([a - b for a, b in combinations(originals, 2)])
        found[title] = summary(originals[0] - without, noise, owners)
    write_json(args.out / "exact.json", {"owners": run.split.owners, **found})
    columns = [name for name in found["references"] if name != "by owner"]
    print(f"\n{'nats a token':<20}" + "".join(f"{name:>14}" for name in columns))
    for title, figures in found.items():
        print(f"{title:<20}" + "".join(f"{figures[name]:>14.3f}" for name in columns))


if __name__ == "__main__":
    run_main(main, "minidareu.beyond.exact")
