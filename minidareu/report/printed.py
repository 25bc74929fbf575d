"""What a run prints."""

import sys
import unicodedata
from collections import defaultdict

import regex

from ..data import Record, Split
from ..run.folder import FILES

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
WIDTH = 100  # columns


def data_warnings(split: Split) -> list[str]:
    """What is likely a mistake in the data, a line each: names that are nearly the same, and texts
    of the forget set that stand outside of it too."""
    warnings = []
    spellings = defaultdict(list)
    for name in split.owners:
        spellings[folded(name)].append(name)
    for names in spellings.values():
        if len(names) > 1:
            same = " and ".join(map(ascii_where_unseen, names))
            warnings.append(f"{same} count as different owners; are they one?")
    forget = {content(r): r for r in split.forget}
    both = [r for r in split.retain + split.test if content(r) in forget]
    if both:
        other = forget[content(both[0])]
        warnings.append(
            f"{len(both)} rows of other owners have the same prompt and response as a row of the "
            f"forget set (line {both[0].line} as line {other.line}); they can't be forgotten "
            "while these stay"
        )
    return warnings


def content(r: Record) -> tuple[str, str]:
    """Prompt and response, alike for texts that differ in Unicode's form, case or spaces alone."""
    return folded(r.prompt), folded(r.response)


def folded(text: str) -> str:
    """A text, so that all that look the same are the same: without what can't be seen, and without
    Unicode's forms, case, and how much space there is."""
    seen = regex.sub(r"\p{Default_Ignorable_Code_Point}", "", unicodedata.normalize("NFKC", text))
    return " ".join(seen.casefold().split())


def ascii_where_unseen(text: str) -> str:
    """A text in quotes, with a code for each character that can't be seen."""

    def code(match):
        return f"\\u{ord(match[0]):04x}"

    return regex.sub(r"\p{Default_Ignorable_Code_Point}", code, repr(text))


def print_data(run):
    split = run.split
    print(
        f"{len(split.owners)} owners; to be forgotten: {', '.join(split.forget_owners)}.\n"
        f"{len(split.forget)} forget, {len(split.retain)} retain, {len(split.test)} test rows. "
        f"Device: {run.device}.",
        flush=True,
    )
    for warning in data_warnings(split):
        print(f"warning: {warning}", file=sys.stderr, flush=True)


def print_stage(title, state):
    kept = ", kept from an earlier run" if state["kept"] else ""
    print(f"{title}: {state['seconds']:.0f} s{kept}", flush=True)


def cell(value):
    """A score as text of at most 9 characters."""
    if value is None:
        return "-"
    return f"{value:.3f}" if abs(value) < 10_000 else f"{value:.1e}"


def print_table(evaluations, names):
    """One aligned line a model. names: {score: title}."""
    first = max(map(len, evaluations)) + 1
    widths = [max(len(title), 8) + 1 for title in names.values()]
    heads = zip(names.values(), widths, strict=True)
    print("\n" + " " * first + "".join(f"{title:>{width}}" for title, width in heads))
    for model, evaluation in evaluations.items():
        cells = [cell(evaluation.scores[name]) for name in names]
        row = zip(cells, widths, strict=True)
        print(f"{model:<{first}}" + "".join(f"{text:>{width}}" for text, width in row))


def print_scores(evaluations, all_scores=False):
    """The table of a run; with `all_scores` further tables of at most 100 columns."""
    print_table(evaluations, SHOWN)
    if not all_scores:
        return
    rest = [name for name in evaluations["original"].scores if name not in SHOWN]
    titles = {name: name.replace("mia_", "MIA ").replace("_", " ") for name in rest}
    for i in range(0, len(rest), 5):
        print_table(evaluations, {name: titles[name] for name in rest[i : i + 5]})
    print("(model utility: of the retain set alone; TOFU's has real authors and world facts too)")


def print_ceiling(evaluations):
    """Say so where the luck of training holds down the ToW of every method: where the one retrained
    model answers the test set otherwise than the original model does."""
    original, retrained = evaluations["original"].scores, evaluations["retrained"].scores
    distance = abs(original["test"] - retrained["test"])
    if distance > 0.1 and "second_retrained" not in evaluations:
        print(
            f"\nThe retrained model's test score is {retrained['test']:.3f}, the original model's "
            f"{original['test']:.3f}: a method that leaves the test set as it is has a ToW of at "
            f"most {1 - distance:.3f}. --second-retrained shows how much of that is luck."
        )


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
