"""Exact attribution, which the classifier stands in for: leave an owner out, train again, and see
what the response has lost.

    A_o(y | x) = (log p(y | x; theta) - log p(y | x; theta_-o)) / |y|
    theta: the original model; theta_-o: trained without owner o

At toy scale this can be computed for every owner:

    python -m minidareu.beyond.exact       all owners of the default data; exact.json, exact.npz and
                                           the models in runs/exact-authors

theta and theta_-o differ by the luck of training too. So the same difference between two models of
the *same* data, trained by different seeds, is measured beside it: the noise floor. The command
goes on where it was cut.
"""

import re
import time
from dataclasses import replace
from itertools import combinations
from pathlib import Path

import numpy
import torch
import torch.nn.functional as F
from tqdm import tqdm

from ..files import InputError, write, write_json
from ..model import chosen, log_probs, pack
from ..run.cli import make_parser, positive, run_main, seed_number
from ..run.flags import parse
from ..run.pool import side_by_side
from ..run.prepare import prepare
from ..run.stages import check_key, find_kept, keep, load_model, pretrain_key
from ..run.training import language_model, workers_for
from ..scores.chunks import generate_in_chunks, response_log_probs

MEND = "name another folder, or run python -m minidareu.beyond.exact with the flags of the run"
COLUMNS = {
    "own": "own owner",
    "others": "other owners",
    "noise": "noise",
    "noise_95": "95% of it",
    "above_noise": "own above",
    "top1": "top-1 own",
}


@torch.no_grad()
def exact_attribution(original, without, prompts, responses):
    """log p(y[:t] | x; original) - log p(y[:t] | x; without) after t = 0, 1, ... tokens.

    Lists of ids -> (B, longest + 1). As a reward with beta = 1 it makes `without` itself the best
    policy: E_pi[log without - log original] - KL(pi || original) = -KL(pi || without).
    """
    batch = pack(prompts, responses, original.device)
    with_owner = chosen(log_probs(original, batch), batch)
    without_owner = chosen(log_probs(without, batch), batch)
    return F.pad((with_owner - without_owner).cumsum(dim=1), (1, 0))


def mean_logp(model, prompts, responses):
    """log p(y | x) / |y| of each response: (N,). An empty response has 0."""
    rows = response_log_probs(model, prompts, responses)
    return torch.stack([row.sum() / max(1, len(row)) for row in rows]).cpu()


def model_path(out, seed, left_out=()):
    """Where the model of a seed lies that was trained without the owners `left_out` (indices)."""
    name = f"without-{'-'.join(map(str, left_out))}" if left_out else "original"
    return out / f"seed{seed}" / f"{name}.pt"


def training_of(run, seed, left_out=()):
    """How the model of a seed is trained without some owners: rows, settings, and its key."""
    names = [run.split.owners[i] for i in left_out]
    rows = run.ended([r for r in run.train if r.owner not in names])
    config = replace(run.config, seed=seed)
    return rows, config.training, pretrain_key(config, rows)


def train_models(run, out, jobs, workers=None, reuse=None):
    """A model for each (seed, owners left out) of `jobs`, side by side, at `model_path`.

    Returns the seconds that each took. Raises InputError for a foreign model that is there.
    """
    todo, keys, seconds = {}, {}, []
    for seed, left_out in jobs:
        path = model_path(out, seed, left_out)
        path.parent.mkdir(parents=True, exist_ok=True)
        rows, training, keys[path] = training_of(run, seed, left_out)
        check_key(path, keys[path], MEND)
        kept = find_kept(path, keys[path], reuse)
        if kept:
            seconds.append(kept["seconds"])
        else:
            todo[path] = (language_model, run.gpt_config, rows, training, run.device, {})
    bar = tqdm(total=len(todo), desc="models", disable=None)
    workers = workers or workers_for(run.device, len(todo))
    for path, state in side_by_side(todo, workers):
        seconds.append(keep(path, keys[path], state)["seconds"])
        bar.set_postfix(seconds_each=f"{sum(seconds) / len(seconds):.0f}", refresh=False)
        bar.update()
    bar.close()
    return seconds


def load_exact(run, out, seed, left_out=()):
    """A model that `train_models` has left. Raises InputError for one of other data, another split,
    other sizes or other code."""
    path, (_, _, key) = model_path(out, seed, left_out), training_of(run, seed, left_out)
    check_key(path, key, MEND)
    return load_model(run, path, mend=MEND)


def attribution_matrix(run, out, prompts, responses):
    """Exact attribution of each response to each owner by the models in `out`.

    Returns a mean over seeds, (owners, N), and the noise of one seed: the same difference between
    two original models, (pairs of seeds, N). Raises InputError where a model is missing.
    """

    def score(seed, left_out=()):
        return mean_logp(load_exact(run, out, seed, left_out), prompts, responses)

    names = [re.fullmatch(r"seed(\d+)", folder.name) for folder in out.iterdir()]
    seeds = sorted(int(name[1]) for name in names if name)
    original = {seed: score(seed) for seed in seeds}
    complete = [seed for seed in seeds if model_path(out, seed, [0]).exists()]
    rows = []
    for i in tqdm(range(len(run.split.owners)), desc="scores", disable=None):
        differences = [original[seed] - score(seed, [i]) for seed in complete]
        rows.append(torch.stack(differences).mean(dim=0))
    noise = [original[a] - original[b] for a, b in combinations(seeds, 2)]
    return torch.stack(rows), torch.stack(noise)


def summary(attribution, noise, owners):
    """Figures of a matrix (owners, N) whose column j answers a prompt about owners[j] (N,).

    noise: (pairs, N).
    """
    n_owners, columns = len(attribution), torch.arange(len(owners))
    own = attribution[owners, columns]
    noise_95 = noise.abs().flatten().quantile(0.95).item()
    # (owner left out, owner asked about)
    by_owner = torch.stack([attribution[:, owners == o].mean(dim=1) for o in range(n_owners)], 1)
    return {
        "own": own.mean().item(),
        "others": ((attribution.sum(dim=0) - own) / (n_owners - 1)).mean().item(),
        "top1": (attribution.argmax(dim=0) == owners).float().mean().item(),
        "noise": noise.abs().mean().item(),
        "noise_95": noise_95,
        "above_noise": (own > noise_95).float().mean().item(),
        "by_owner": by_owner.tolist(),
    }


def main(argv=None):
    parser = make_parser(
        __doc__,
        prog="python -m minidareu.beyond.exact",
        epilog="Flags of train.py for data and language model are taken too, --reuse among them.",
    )
    parser.add_argument(
        "--seeds", type=seed_number, nargs="+", default=[0], help="trainings to average"
    )
    parser.add_argument(
        "--floor-seeds",
        type=seed_number,
        nargs="+",
        default=[1, 2],
        help="original models for the noise",
    )
    parser.add_argument(
        "--workers", type=positive, help="models side by side (default: one a core)"
    )
    parser.add_argument("--out", type=Path, help="folder (default: runs/exact-<dataset>)")
    args, rest = parser.parse_known_args(argv)
    config = parse(["--seed", str(args.seeds[0]), *rest], __doc__)
    began = time.perf_counter()
    run = prepare(config)
    out = args.out or Path(f"runs/exact-{Path(config.data).stem}")
    floor_seeds = [seed for seed in args.floor_seeds if seed not in args.seeds]
    if len(args.seeds) + len(floor_seeds) < 2:
        raise InputError("--floor-seeds: one original model shows no noise; give another seed")
    jobs = [(seed, []) for seed in [*args.seeds, *floor_seeds]]
    jobs += [(seed, [i]) for seed in args.seeds for i in range(len(run.split.owners))]
    seconds = train_models(run, out, jobs, workers=args.workers, reuse=config.reuse)

    original = load_exact(run, out, args.seeds[0])
    prompts, references, owners = run.labelled(run.train)
    owners = torch.tensor(owners)
    torch.manual_seed(config.seed)
    samples = generate_in_chunks(original, prompts, temperature=1.0, **run.limits)
    sets = {"training responses": references, "original model's samples": samples}
    arrays, found = {"owners": owners.numpy()}, {}
    for name, responses in sets.items():
        attribution, noise = attribution_matrix(run, out, prompts, responses)
        found[name] = summary(attribution, noise, owners)
        arrays |= {name: attribution.numpy(), f"{name}, noise": noise.numpy()}
    total = time.perf_counter() - began
    found = {
        "dataset": config.data,
        "owners": run.split.owners,
        "seeds": args.seeds,
        "floor_seeds": floor_seeds,
        **found,
        "seconds": {"models": sum(seconds), "total": total},
    }
    write_json(out / "exact.json", found)
    write(out / "exact.npz", lambda tmp: numpy.savez_compressed(open(tmp, "wb"), **arrays))
    heads = "".join(f"{title:>13}" for title in COLUMNS.values())
    print(f"\n{'nats a token':<25}{heads}")
    for name in sets:
        print(f"{name:<25}" + "".join(f"{found[name][key]:>13.3f}" for key in COLUMNS))
    print(f"\n{len(seconds)} models in {total:.0f} s. In {out}/: exact.json, exact.npz.")


if __name__ == "__main__":
    run_main(main, "minidareu.beyond.exact")
