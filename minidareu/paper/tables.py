"""The paper's tables in miniature: which runs of `train.py` they take, and what they compare.

A table that is a selection of the scores of runs is a `Table`; all others are in `measured.py`.
"""

from dataclasses import dataclass

# The paper's names of the models that its tables compare; then ours.
PAPER = {
    "original": "original",
    "retraining": "retrained",
    "Fine-tune": "finetune",
    "GA": "ga",
    "GDiff": "graddiff",
    "SCRUB": "scrub",
    "SCRN": "scrn",
    "IDK": "idkpo",
    "NPO": "npo",
    "DareU": "dareu",
}
OURS = {"DareU+": "dareu_plus"}
MORE = {
    "KL minimisation": "kl",
    "NPO with retain loss": "npo-retain",
    "SimNPO": "simnpo",
    "RMU": "rmu",
    "UNDIAL": "undial",
}
NO_REFUSALS = {label: model for label, model in PAPER.items() if label != "IDK"}
BOTH = ["--methods", "dareu,dareu_plus"]


def methods(*groups):
    """The flag that runs the methods of these groups."""
    names = [model for group in groups for model in group.values()]
    return ["--methods", ",".join(n for n in names if n not in ("original", "retrained"))]


@dataclass
class Variant:
    """A run of `train.py`, for each seed."""

    flags: list
    data: str = "authors"  # or "abstracts"
    base: str = "main"  # the run whose models it takes over


DEEPER = ["--n-layer", 4, "--n-embd", 64, "--rl-lr", 6e-4, "--plus-lr", 2.2e-3]

# Which settings the paper varies: {table: {row: flags of DareU}}; the default row is in none. Table
# 13 counts in data epochs of the default, 26. Table 14 has the paper's S_PPO and no default row.
SETTINGS: dict[str, dict[str, list]] = {
    "table10": {"sequence": ["--reward", "sequence"], "token": ["--reward", "token"]},
    "table12": {"0.67": ["--rl-lr", 2.7e-4], "1.33": ["--rl-lr", 5.3e-4]},
    "table13": {"2": ["--data-epochs", 52], "3": ["--data-epochs", 78]},
    "table14": {n: ["--ppo-steps", int(n), "--data-epochs", 6] for n in ("15", "20", "25")},
    "table15": {"10": ["--slices", 10], "20": ["--slices", 20]},
    "table16": {"1": ["--distill-coef", 1], "3": ["--distill-coef", 3]},
}
# These are about long responses: those of the authors have hardly more tokens than slices.
LONG = ("table10", "table15")

RUNS = {
    "main": Variant(methods(PAPER, OURS, MORE)),
    "shuffled": Variant([*BOTH, "--reward", "shuffled"]),
    "abstracts": Variant([*methods(NO_REFUSALS, OURS)], "abstracts", "abstracts"),
    "abstracts, shuffled": Variant([*BOTH, "--reward", "shuffled"], "abstracts", "abstracts"),
    "deeper": Variant([*methods(PAPER, OURS), *DEEPER], base="deeper"),
    "abstracts, deeper": Variant(
        [*methods(NO_REFUSALS, OURS), *DEEPER], "abstracts", "abstracts, deeper"
    ),
    "half": Variant([*BOTH, "--n-forget", 1]),
    "twice": Variant([*BOTH, "--n-forget", 4]),
}
for table, rows in SETTINGS.items():
    place = ("abstracts", "abstracts") if table in LONG else ("authors", "main")
    for row, flags in rows.items():
        RUNS[f"{table}, {row}"] = Variant(["--methods", "dareu", *flags], *place)


@dataclass
class Table:
    """Rows and columns of a table that is made of scores alone."""

    title: str
    question: str
    rows: dict[str, tuple[str, str]]  # label: (run, model)
    columns: list[str]

    def runs(self):
        """Names of the runs that it takes."""
        return list(dict.fromkeys(run for run, _ in self.rows.values()))


def rows_of(run, *groups):
    """Rows that are the models of one run."""
    return {label: (run, model) for group in groups for label, model in group.items()}


def size_rows(label, model):
    """Rows of Table 11: a model where half, as many and twice as many owners are forgotten."""
    return {f"{label}half": ("half", model), f"{label}as many": ("main", model)} | {
        f"{label}twice": ("twice", model)
    }


AUTHORS = {
    **rows_of("main", PAPER, OURS),
    "DareU, shuffled": ("shuffled", "dareu"),
    "DareU+, shuffled": ("shuffled", "dareu_plus"),
}
ABSTRACTS_ROWS = {
    **rows_of("abstracts", NO_REFUSALS, OURS),
    "DareU, shuffled": ("abstracts, shuffled", "dareu"),
    "DareU+, shuffled": ("abstracts, shuffled", "dareu_plus"),
}
OURS_TOO = ["fact recall", "perplexity"]


def setting_table(name, title, question, default=None):
    """A table of one setting of DareU. default: the row that is DareU as it is, if there is one."""
    rows = {row: (f"{name}, {row}", "dareu") for row in SETTINGS[name]}
    if default:
        rows[default] = ("abstracts" if name in LONG else "main", "dareu")
    rows = {row: rows[row] for row in sorted(rows, key=lambda text: (len(text), text))}
    return Table(title, question, rows, ["D_F", "D_R", "D_test", "ToW", "attribution", *OURS_TOO])


TABLES = {
    "table2a": Table(
        "Table 2, first half: TOFU",
        "How near does each method come to the retrained model (authors)?",
        {**AUTHORS, **rows_of("main", MORE)},
        ["D_F", "D_R", "D_test", "ToW", "truth ratio", "MIA", *OURS_TOO],
    ),
    "table2b": Table(
        "Table 2, second half: ArXiv",
        "The same on abstracts, where an owner is a topic.",
        ABSTRACTS_ROWS,
        ["D_F", "D_R", "ToW*", "ES", "ES on D_R", "MIA", *OURS_TOO],
    ),
    "table3a": Table(
        "Table 3, first half: TOFU, another model",
        "Does it hold for another language model (four layers, half as wide)?",
        rows_of("deeper", PAPER, OURS),
        ["D_F", "D_R", "D_test", "ToW", "truth ratio", "MIA", *OURS_TOO],
    ),
    "table3b": Table(
        "Table 3, second half: ArXiv, another model",
        "The same on abstracts.",
        rows_of("abstracts, deeper", NO_REFUSALS, OURS),
        ["D_F", "D_R", "ToW*", "ES", "ES on D_R", "MIA", *OURS_TOO],
    ),
    "table4": Table(
        "Table 4: what it costs",
        "How long does each method take, and how much memory?",
        rows_of("main", PAPER, OURS),
        ["seconds", "of retraining", "memory, MB"],
    ),
    "table8": Table(
        "Table 8: all parameters are trained",
        "Does it work without LoRA? (All our runs train every parameter: rows of Table 2.)",
        {label: AUTHORS[label] for label in ("original", "retraining", "DareU", "DareU+")},
        ["D_F", "D_R", "D_test", "ToW", "truth ratio", "MIA"],
    ),
    "table9": Table(
        "Table 9: attribution beside ROUGE",
        "Do attribution and D_F fall together?",
        AUTHORS,
        ["attribution", "attribution, added", "D_F", "fact recall"],
    ),
    "table10": setting_table(
        "table10",
        "Table 10: the design of the reward",
        "Which reward: for the whole sequence, for every token, or for slices?",
        default="slices",
    ),
    "table11": Table(
        "Table 11: the size of D_F",
        "Does it hold for half as many forget owners (1), and for twice as many (4)?",
        size_rows("", "dareu") | size_rows("retraining, ", "retrained"),
        ["D_F", "D_R", "D_test", "ToW", *OURS_TOO],
    ),
    "table12": setting_table(
        "table12",
        "Table 12: the learning rate",
        "How sensitive is it to the learning rate (the default is 1)?",
        default="1",
    ),
    "table13": setting_table(
        "table13", "Table 13: data epochs", "Do more data epochs help?", default="1"
    ),
    "table14": setting_table("table14", "Table 14: S_PPO", "How many PPO steps on a batch?"),
    "table15": setting_table("table15", "Table 15: k", "How many slices?", default="15"),
    "table16": setting_table(
        "table16", "Table 16: lambda_dis", "How much distillation?", default="2"
    ),
    "table19": Table(
        "Table 19: queries in unseen words",
        "Is it forgotten in words too that were never trained on?",
        AUTHORS,
        ["D_F", "D_F, unseen wordings", "ToW", "ToW_para"],
    ),
    "table20": Table(
        "Table 20: gibberish",
        "What share of the answers is no language?",
        AUTHORS,
        ["gibberish", "new words", "perplexity", "ToW"],
    ),
}
