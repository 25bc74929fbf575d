"""The paper's tables in miniature: which runs of `train.py` each compares.

A row of a table is a label and the flags of its run; the paper's own ToW stands beside it.
"""

from dataclasses import dataclass

DAREU = ["--methods", "dareu"]


@dataclass
class Table:
    """A table of the paper: its question, its rows, and the ToW that the paper reports (Llama2,
    TOFU; None where it reports none)."""

    question: str
    variants: dict[str, list]
    reported: dict[str, float]


TABLES = {
    "table10": Table(
        "Which reward: for the whole sequence, for every token, or for slices?",
        {
            "slices": DAREU,
            "sequence": [*DAREU, "--reward", "sequence"],
            "token": [*DAREU, "--reward", "token"],
        },
        {"slices": 0.816, "sequence": 0.655, "token": 0.822},
    ),
    "table12": Table(
        "How sensitive is it to the learning rate (the default 1, as a multiple)?",
        {"1": DAREU, "0.67": [*DAREU, "--rl-lr", 1e-4], "1.33": [*DAREU, "--rl-lr", 2e-4]},
        {"1": 0.816, "0.67": 0.792, "1.33": 0.781},
    ),
    "table13": Table(
        "Do more data epochs help?",
        {"1": DAREU, "2": [*DAREU, "--data-epochs", 2], "3": [*DAREU, "--data-epochs", 3]},
        {"1": 0.816, "2": 0.793, "3": 0.749},
    ),
    "table14": Table(
        "How many PPO steps on a batch?",
        {"20": DAREU, "15": [*DAREU, "--ppo-steps", 15], "25": [*DAREU, "--ppo-steps", 25]},
        {"20": 0.816, "15": 0.791, "25": 0.832},
    ),
    "table15": Table(
        "How many slices?",
        {"15": DAREU, "10": [*DAREU, "--slices", 10], "20": [*DAREU, "--slices", 20]},
        {"15": 0.816, "10": 0.810, "20": 0.825},
    ),
    "table16": Table(
        "How much distillation (lambda_dis)?",
        {"2": DAREU, "1": [*DAREU, "--distill-coef", 1], "3": [*DAREU, "--distill-coef", 3]},
        {"2": 0.816, "1": 0.805, "3": 0.794},
    ),
}
