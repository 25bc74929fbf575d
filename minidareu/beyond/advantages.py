"""How alike are two rewards? The advantages that DareU's first batch gets under each.

    python -m minidareu.beyond.advantages --run runs/authors-seed0

One rollout of the original model: the same responses, with the classifier's attribution and with
each control in its place. Printed is the correlation of their advantages over all tokens, for
several gamma and lambda of GAE, and that of the classifier's with the token's position. Near 1 the
control pushes the same tokens as the classifier does, and a run with it shows little.
"""

from dataclasses import replace
from functools import partial
from pathlib import Path

import torch
from torch import Tensor

from .. import dareu
from ..attribution import OwnerClassifier, prefix_attribution
from ..files import InputError
from ..model import GPT
from ..report.markdown import short, table
from ..run.cli import make_parser, run_main
from ..run.flags import CONTROLS
from ..run.prepare import Run, open_run, pick_device
from ..run.stages import load_classifier, load_model
from .controls import controlled

GAMMAS, LAMBDAS = [0.5, 0.7, 0.9, 0.97, 0.99], [1.0, 0.95, 0.5]


def first_advantages(
    run: Run, original: GPT, classifier: OwnerClassifier, reward: str
) -> tuple[Tensor, Tensor]:
    """A_t of all tokens of the responses to the forget prompts, and their positions: (tokens,)."""
    torch.manual_seed(run.config.seed)  # the same responses under each reward
    config = replace(run.config, reward=reward)
    learner = dareu.make_learner(original.snapshot().requires_grad_(True), config)
    attribute = controlled(partial(prefix_attribution, classifier), reward)
    queries = run.queries(run.split.forget)
    ro = dareu.rollout(learner, original, attribute, queries, limits=run.limits)
    inside = ro.batch.mask > 0
    position = ro.batch.mask.cumsum(dim=1)
    return ro.advantages[inside], position[inside]


def correlations(run: Run, original: GPT, classifier: OwnerClassifier) -> dict[str, float]:
    """{control, or "position": correlation with the advantages under the run's own reward}."""
    design = "slices" if run.config.reward in CONTROLS else run.config.reward
    own, position = first_advantages(run, original, classifier, design)
    others = {name: first_advantages(run, original, classifier, name)[0] for name in CONTROLS}
    others["position"] = position
    found = {}
    for name, other in others.items():
        found[name] = torch.corrcoef(torch.stack([own, other]))[0, 1].item()
    return found


def open_for_rollout(folder: Path, device: str) -> tuple[Run, GPT, OwnerClassifier]:
    """A finished run, its original model and DareU's classifier. Raises InputError."""
    run = open_run(folder, device)
    original = load_model(run, run.path("original"), run.keys)
    return run, original, load_classifier(run)


def main(argv=None):
    parser = make_parser(__doc__, prog="python -m minidareu.beyond.advantages")
    parser.add_argument("--run", type=Path, required=True, help="folder of a finished run")
    parser.add_argument("--device", default="auto", choices=["auto", "cuda", "mps", "cpu"])
    args = parser.parse_args(argv)
    run, original, classifier = open_for_rollout(args.run, pick_device(args.device))
    if run.config.algorithm == "reinforce":
        raise InputError(f"{args.run}: REINFORCE has no lambda of GAE; give a run with PPO")
    rows = []
    for lam in LAMBDAS:
        for gamma in GAMMAS:
            run.config = replace(run.config, gamma=gamma, gae_lambda=lam)
            found = correlations(run, original, classifier)
            rows.append([str(gamma), str(lam), *map(short, found.values())])
    print("\n".join(table(["gamma", "lambda", *found], rows)))


if __name__ == "__main__":
    run_main(main, "minidareu.beyond.advantages")
