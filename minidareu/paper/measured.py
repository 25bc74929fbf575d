"""Tables and figures that take more than the scores of runs: which function measures each."""

import hashlib
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import torch

from ..run.pool import kept_json
from . import functions, objective, robustness


@dataclass
class Case:
    """What a table or a figure is measured on, for one seed."""

    seed: int
    out: Path  # for further runs
    data: Path
    flags: list  # of every run
    folders: dict[str, Path]  # of the runs that it takes


@dataclass
class Measured:
    """A table or a figure, and the function that measures it: measure(Case) -> {name: rows}."""

    title: str
    question: str
    measure: Callable
    needs: list[str] = field(default_factory=lambda: ["main"])
    first_seed: bool = False  # it is measured for the first seed alone

    def runs(self):
        """Names of the runs of `tables.RUNS` that it takes."""
        return self.needs


MEASURED = {
    "table1": Measured(
        "Table 1: which answer does each objective prefer?",
        "Answers of the original, the retrained and a collapsed model (gradient ascent far too "
        "long), under both objectives.",
        objective.compare_objectives,
    ),
    "table5": Measured(
        "Table 5: two of the three attribution functions",
        "How many of the original model's answers does each give to the owner asked about?",
        functions.compare_functions,
    ),
    "table6": Measured(
        "Table 6: each of them as the reward",
        "Does DareU reach as far with each?",
        functions.compare_functions,
    ),
    "table7": Measured(
        "Table 7: each measured by each",
        "Does de-attribution by one function carry over to the others? (What measures was trained "
        "with another seed than what rewards.)",
        functions.compare_functions,
    ),
    "table17": Measured(
        "Table 17: paraphrases of D_F in D_R",
        "Does it work where the retain set says the same in other words?",
        robustness.overlap,
    ),
    "table18": Measured(
        "Table 18: classifiers that are wrong more often",
        "How far does ToW fall with the classifier's accuracy?",
        functions.compare_noise,
    ),
    "fig2": Measured(
        "Figure 2: log-likelihoods of the forget set",
        "Is there one right likelihood to aim at?",
        objective.log_likelihoods,
    ),
    "fig3": Measured(
        "Figure 3: the rewards of one response",
        "How do token rewards come about, slice by slice? (First seed, first prompt.)",
        objective.one_reward,
        first_seed=True,
    ),
    "fig4": Measured(
        "Figure 4: k words masked",
        "Do attribution and ROUGE fall together as words are taken from an answer?",
        objective.mask_words,
    ),
    "fig5": Measured(
        "Figure 5: chi for several C_seg",
        "What does an attribution become as a reward?",
        objective.transforms,
        needs=[],
        first_seed=True,
    ),
    "fig6": Measured(
        "Figure 6: one request after another",
        "Does every method hold out for five requests?",
        robustness.requests,
    ),
    "fig7": Measured(
        "Figure 7: relearning D_F",
        "How fast does each model learn the forget set again (gain of D_F)?",
        robustness.relearn,
    ),
    "fig8": Measured(
        "Figure 8: the worst answers",
        "What does the answer look like that is least like language?",
        objective.worst_answers,
    ),
}


def measure(function, case, path):
    """What a function measures for a Case, from its file unless something has changed since."""
    torch.set_num_threads(1)
    results = [folder / "results.json" for folder in case.folders.values()]
    files = [case.data, *results]
    digests = [hashlib.sha256(file.read_bytes()).hexdigest() for file in files]
    return kept_json(path, f"{case} {digests}", lambda: function(case))
