"""Exact attribution, which the classifier stands in for: leave an owner out, train again, and see what the response has lost.

    A_o(y | x) = (log p(y | x; theta) - log p(y | x; theta_-o)) / |y|      theta: the target model; theta_-o: trained without o

At toy scale this can be computed for every owner:

    python -m minidareu.exact              all owners of the default dataset; exact.json, exact.npz and the models in runs/exact-authors

theta and theta_-o differ by the luck of training too, so the same difference between two models of the *same* data, theta and theta'
of another seed, is measured beside it: the noise floor. The command goes on where it was cut.
"""

import os
import time
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import replace
from functools import partial
from itertools import combinations
from multiprocessing import get_context
from pathlib import Path

import numpy
import torch
import torch.nn.functional as F
from tqdm import tqdm

from .attribution import forget_posterior
from .cli import make_parser, run_main
from .config import parse, stage_key
from .dareu import chosen, log_policy
from .data import InputError, write, write_json
from .experiment import load_weights, pick_device, prepare, stage
from .model import GPT, generate_in_chunks, pack
from .pretrain import train_lm


@torch.no_grad()
def response_logp(model, prompts, responses):
    """log p of each token of each response, given its prompt: lists of ids -> (B, longest response), zero after a response's end."""
    idx, mask = pack(prompts, responses, model.wte.weight.device)
    logp = chosen(log_policy(model, idx, mask)[0], idx, mask)
    length = mask.sum(1, keepdim=True)
    inside = torch.arange(int(length.max()), device=idx.device) < length
    return torch.zeros_like(inside, dtype=logp.dtype).masked_scatter(inside, logp[mask.bool()])


def exact_attribution(target, without, prompts, responses):
    """log p(y_1..t | x; target) - log p(y_1..t | x; without) after t = 0, 1, ... tokens of each response: (B, longest + 1).

    As a reward with beta = 1 it makes `without` itself the best policy: E_pi[log without - log target] - KL(pi || target)
    = -KL(pi || without).
    """
    ratio = response_logp(target, prompts, responses) - response_logp(without, prompts, responses)
    return F.pad(ratio.cumsum(1), (1, 0))


def rewarded(config, y):
    """The attribution that a run rewards, a function of prompts and responses as `dareu.rollout` takes it. y: Yardstick."""
    if config.reward == "exact":
        return partial(exact_attribution, y.target, y.retrained)
    return partial(forget_posterior, y.classifier if config.mask_prompt else y.classifier_response, y.forget_owners)


def mean_logp(model, prompts, responses, chunk=256):
    """log p(y | x) / |y| of each response: (B,). An empty response has 0."""
    rows = [response_logp(model, prompts[i:i + chunk], responses[i:i + chunk]).sum(1) for i in range(0, len(prompts), chunk)]
    return torch.cat(rows).cpu() / torch.tensor([max(1, len(y)) for y in responses])


def model_path(out, seed, left_out=()):
    """Where the model of a training seed lies that was trained without the owners `left_out` (indices); without any: the target model."""
    return out / f"seed{seed}" / (f"without-{'-'.join(map(str, left_out))}.pt" if left_out else "target.pt")


def train_one(path, key, gpt_config, sequences, recipe, reuse, threads):
    """The checkpoint at `path`, made unless it is there; recipe: what `train_lm` takes after the sequences. Runs in a process of its own."""
    torch.set_num_threads(threads)

    def make():
        return {"model": train_lm(gpt_config, sequences, *recipe, name=None).state_dict()}

    return stage(path, key, None, make, reuse=reuse)["seconds"]


def train_models(e, out, jobs, device, workers=None, reuse=None):
    """A model for each (training seed, owners left out) of `jobs`, side by side, at `model_path`. Returns the seconds that each took."""
    c, seconds = e.config, []
    workers = workers or (os.cpu_count() if device == "cpu" else 1)
    with ProcessPoolExecutor(workers, get_context("spawn")) as pool:
        futures = []
        for seed, left_out in jobs:
            path, names = model_path(out, seed, left_out), [e.split.owners[i] for i in left_out]
            path.parent.mkdir(parents=True, exist_ok=True)
            sequences = e.sequences([r for r in e.train if r.owner not in names])
            key, recipe = stage_key(replace(c, seed=seed), ["data", "model"], sequences), (c.epochs, c.batch_size, c.lr, seed, device)
            futures.append(pool.submit(train_one, path, key, e.gpt_config, sequences, recipe, reuse, max(1, os.cpu_count() // workers)))
        bar = tqdm(total=len(futures), desc="models", disable=None)
        for future in as_completed(futures):
            seconds.append(future.result())
            bar.set_postfix(seconds_each=f"{sum(seconds) / len(seconds):.0f}", refresh=False)
            bar.update()
        bar.close()
    return seconds


def load_model(e, path, device):
    """Raises InputError where there is none of the experiment's sizes."""
    return load_weights(GPT(e.gpt_config).to(device), path, mend="run python -m minidareu.exact with the flags of the run")


def attribution_matrix(e, out, prompts, responses, device):
    """Exact attribution of each response to each owner by the models in `out`, a mean over seeds: (owners, N); and the noise of one
    seed: (pairs of seeds, N), the same difference between two target models. Raises InputError where a model is missing."""
    def score(*name):
        return mean_logp(load_model(e, model_path(out, *name), device), prompts, responses)

    target = {seed: score(seed) for seed in sorted(int(folder.name[4:]) for folder in out.glob("seed*"))}
    whole = [seed for seed in target if model_path(out, seed, [0]).exists()]
    rows = [torch.stack([target[seed] - score(seed, [i]) for seed in whole]).mean(0)
            for i in tqdm(range(len(e.split.owners)), desc="scores", disable=None)]
    return torch.stack(rows), torch.stack([target[a] - target[b] for a, b in combinations(target, 2)])


def summary(attribution, noise, owners):
    """Figures of a matrix (owners, N) whose column j is a response to a prompt about owners[j] (N,), beside the noise (pairs, N)."""
    n_owners, columns = len(attribution), torch.arange(len(owners))
    by_owner = torch.stack([attribution[:, owners == o].mean(1) for o in range(n_owners)], 1)  # (owner left out, owner asked about)
    own = attribution[owners, columns]
    return {"own": own.mean().item(), "others": ((attribution.sum(0) - own) / (n_owners - 1)).mean().item(),
            "top1": (attribution.argmax(0) == owners).float().mean().item(),
            "noise": noise.abs().mean().item(), "noise_95": noise.abs().flatten().quantile(0.95).item(),
            "above_noise": (own > noise.abs().flatten().quantile(0.95)).float().mean().item(), "by_owner": by_owner.tolist()}


def main(argv=None):
    parser = make_parser(__doc__, prog="python -m minidareu.exact",
                         epilog="The flags of train.py for the data and the language model are taken too, --reuse among them.")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0], help="the attribution is a mean over these trainings (default: 0)")
    parser.add_argument("--floor-seeds", type=int, nargs="+", default=[1, 2], help="more target models, for the noise (default: 1 2)")
    parser.add_argument("--workers", type=int, help="models trained side by side (default: one a core, on a GPU one)")
    parser.add_argument("--out", type=Path, help="folder of the models and results (default: runs/exact-<dataset>)")
    args, rest = parser.parse_known_args(argv)
    config = parse(["--seed", str(args.seeds[0]), *rest], __doc__)
    device, began = pick_device(config.device), time.perf_counter()
    e = prepare(config)
    out = args.out or Path(f"runs/exact-{Path(config.data).stem}")
    floor_seeds = [seed for seed in args.floor_seeds if seed not in args.seeds]
    if len(args.seeds) + len(floor_seeds) < 2:
        raise InputError("--floor-seeds: one target model shows no noise; give another seed")
    jobs = [(seed, []) for seed in [*args.seeds, *floor_seeds]] + [(seed, [i]) for seed in args.seeds for i in range(len(e.split.owners))]
    seconds = train_models(e, out, jobs, device, args.workers, config.reuse)

    target = load_model(e, model_path(out, args.seeds[0]), device)
    prompts, owners = [e.pairs[r][0] for r in e.train], torch.tensor([e.split.owners.index(r.owner) for r in e.train])
    torch.manual_seed(config.seed)
    sets = {"training responses": [e.pairs[r][1] for r in e.train],
            "target's samples": generate_in_chunks(target, prompts, e.max_new_tokens, 1.0, e.tokenizer.eot_token)}
    arrays, found = {"owners": owners.numpy()}, {}
    for name, responses in sets.items():
        attribution, noise = attribution_matrix(e, out, prompts, responses, device)
        found[name] = summary(attribution, noise, owners)
        arrays |= {name: attribution.numpy(), f"{name}, noise": noise.numpy()}
    found = {"dataset": config.data, "owners": e.split.owners, "seeds": args.seeds, "floor_seeds": floor_seeds, **found,
             "seconds": {"models": sum(seconds), "total": time.perf_counter() - began}}
    write_json(out / "exact.json", found)
    write(out / "exact.npz", lambda tmp: numpy.savez_compressed(open(tmp, "wb"), **arrays))
    heads = {"own": "own owner", "others": "other owners", "noise": "noise", "noise_95": "95% of it", "above_noise": "own above", "top1": "top-1 own"}
    print(f"\nExact attribution, nats a token{'':<14}" + "".join(f"{head:>14}" for head in heads.values()))
    for name in sets:
        print(f"{name:<44}" + "".join(f"{found[name][key]:>14.3f}" for key in heads))
    print(f"\n{len(seconds)} models in {found['seconds']['total']:.0f} s. In {out}/: exact.json, exact.npz (matrix, owners x responses).")


if __name__ == "__main__":
    run_main(main, "minidareu.exact")
