"""What a run prints."""

import json
import sys
import unicodedata
from collections import defaultdict

from ..data import Split
from ..metrics import tug_of_war
from ..run.folder import FILES, RESULTS

# What a run prints of each model; --all-scores prints the rest.
SHOWN = {
    "forget": "forget",
    "retain": "retain",
    "test": "test",
    "tow": "ToW",
    "attribution": "attribution",
    "fact_recall": "fact recall",
    "name_kept": "name kept",
    "perplexity": "perplexity",
}
KNOWS = 0.97  # of a score, from which on a model knows its rows
BY_HEART = 1 / 3  # test over retain, below which a model knows its rows and nothing beside them
RECITES = 1.25  # times the retrained model's recited words, from which on a model recites more


def data_warnings(split: Split) -> list[str]:
    """What is likely a mistake in the data, a line each: names that are nearly the same, and texts
    of the forget set that stand outside of it too."""
    warnings = []
    spellings = defaultdict(list)
    for name in split.owners:
        spellings[folded(name)].append(name)
    for names in spellings.values():
        if len(names) > 1:
            same = " and ".join(map(repr, names))  # repr shows such characters
            warnings.append(f"{same} count as different owners; are they one?")
    forget = {(folded(r.prompt), folded(r.response)): r for r in split.forget}
    others = [(r, (folded(r.prompt), folded(r.response))) for r in split.retain + split.test]
    both = [(r, forget[content]) for r, content in others if content in forget]
    if both:
        row, other = both[0]
        warnings.append(
            f"{len(both)} rows of other owners have the same prompt and response as a row of the "
            f"forget set (line {row.line} as line {other.line}); they can't be forgotten "
            "while these stay"
        )
    return warnings


def folded(text: str) -> str:
    """A text without what one does not see: format characters, Unicode's forms, case, and how
    much space there is."""
    normal = unicodedata.normalize("NFKC", text).casefold()
    return " ".join("".join(c for c in normal if unicodedata.category(c) != "Cf").split())


def print_data(run):
    split = run.split
    print(
        f"{len(split.owners)} owners; to be forgotten: {', '.join(split.forget_owners)}.\n"
        f"{len(split.forget)} forget, {len(split.retain)} retain, {len(split.test)} test rows. "
        f"Device: {run.device}.",
        flush=True,
    )
    print_warnings(data_warnings(split) + folder_warnings(run))


def folder_warnings(run) -> list[str]:
    """A line on the models that the results in the run's folder have, and the new ones will not."""
    path = run.folder / RESULTS
    try:
        earlier = json.loads(path.read_text(encoding="utf-8"))["models"]
    except (OSError, ValueError, KeyError):  # none, or none that can be read
        return []
    gone = ", ".join(name for name in earlier if name not in run.models)
    if not gone:
        return []
    return [f"{gone}: in {path}, and not in this run, whose results take their place"]


def print_warnings(warnings):
    for warning in warnings:
        print(f"warning: {warning}", file=sys.stderr, flush=True)


def cell(value):
    """A score as text of at most 9 characters."""
    if value is None:
        return "-"
    return f"{value:.3f}" if abs(value) < 10_000 else f"{value:.1e}"


def print_table(models, names):
    """One aligned line for each of {model: scores}. names: {score: title}."""
    first = max(map(len, models)) + 1
    widths = [max(len(title), 8) + 1 for title in names.values()]
    heads = zip(names.values(), widths, strict=True)
    print("\n" + " " * first + "".join(f"{title:>{width}}" for title, width in heads))
    for model, scores in models.items():
        cells = [cell(scores[name]) for name in names]
        row = zip(cells, widths, strict=True)
        print(f"{model:<{first}}" + "".join(f"{text:>{width}}" for text, width in row))


def print_scores(models, all_scores=False):
    """The table of {model: scores}, `name kept` in it only where a reference names its owner; with
    `all_scores` further tables of at most 100 columns."""
    names = dict(SHOWN)
    if models["original"]["name_kept"] is None:
        names.pop("name_kept")
    print_table(models, names)
    if not all_scores:
        return
    rest = [name for name in models["original"] if name not in SHOWN]
    titles = {name: name.replace("mia_", "MIA ").replace("_", " ") for name in rest}
    for i in range(0, len(rest), 5):
        print_table(models, {name: titles[name] for name in rest[i : i + 5]})
    print("(model utility: of the retain set alone; TOFU's has real authors and world facts too)")


def ceiling(evaluations):
    """The most ToW for a method that leaves the answers of the retain and the test set as they are;
    None without a retrained model.

    It is below 1 where the luck of training has put the retrained model's answers elsewhere.
    """
    if "retrained" not in evaluations:
        return None
    original, retrained = evaluations["original"].scores, evaluations["retrained"].scores
    return tug_of_war({**original, "forget": retrained["forget"]}, retrained)


def run_warnings(evaluations):
    """What the scores should be read with, a line each: an original model that does not know what
    it has read, and a retrained model that is no yardstick."""
    warnings, original = [], evaluations["original"].scores
    told = {name: original[name] for name in ("forget", "retain")}
    if min(told.values()) < KNOWS:
        figures = " and ".join(f"{value:.3f} of its {name} rows" for name, value in told.items())
        warnings.append(
            f"the original model tells {figures} (ROUGE-L), so there is less to be forgotten or "
            "kept; more passes (--epochs) or a wider model (--n-embd) would help"
        )
    if original["test"] < BY_HEART * original["retain"]:
        warnings.append(
            f"the original model tells {original['retain']:.3f} of its retain rows and "
            f"{original['test']:.3f} of the test rows: it knows its rows by heart, and little "
            "language beside them; more rows that say the same in other words would help"
        )
    most = ceiling(evaluations)
    if most is not None and most < 0.9:
        warnings.append(
            f"no method that leaves the answers to the others as they are can have a ToW above "
            f"{most:.3f}, as the retrained model, trained on fewer rows, answers them otherwise"
        )
    if "retrained" in evaluations:
        usual = evaluations["retrained"].scores["recited_words"]
        for name, evaluation in evaluations.items():
            recited = evaluation.scores["recited_words"]
            if recited > RECITES * usual:
                warnings.append(
                    f"{name}: its answers to forget prompts recite {recited:.1f} words of other "
                    f"owners' rows in one run, the retrained model's {usual:.1f}"
                )
    return warnings


def percent(value) -> str:
    return "an unknown share" if value is None else f"{value:.0%}"


def shares(models, score) -> str:
    """A score that is a share, of each of {model: scores}, in percent."""
    return ", ".join(f"{name} {percent(scores[score])}" for name, scores in models.items())


def print_outcome(evaluations, all_scores):
    """The table of a run, the most that a method could have, and what to read it with."""
    models = {name: evaluation.scores for name, evaluation in evaluations.items()}
    print_scores(models, all_scores)
    print(f"(answers that are gibberish: {shares(models, 'gibberish')})")
    print(f"(with a word of no training answer: {shares(models, 'new_words')})")
    if any(scores["empty"] for scores in models.values()):
        print(f"(empty ones: {shares(models, 'empty')})")
    most = ceiling(evaluations)
    if most is not None:
        print(f"(ToW: {most:.3f} at most, with the original model's retain and test)")
    print_warnings(run_warnings(evaluations))


def print_samples(run, evaluations, count=3):
    """Some forget prompts with every model's response and its attribution, and where files are."""
    forget = run.split.forget
    for i in range(0, len(forget), max(1, len(forget) // count))[:count]:
        print(f"\nforget: {forget[i].prompt}\n  {'reference':<12}{forget[i].response}")
        for name, evaluation in evaluations.items():
            text, attribution = evaluation.responses.texts[i], evaluation.attributions[i]
            print(f"  {name:<12}{text}  [attribution {attribution:.2f}]")
    there = [name for name in FILES if (run.folder / name).exists()]
    there += sorted(path.name for path in run.folder.glob("*.pt"))
    print(f"\nIn {run.folder}/: {', '.join(there)}")
