"""The page of a run, report.html: one file that needs no network, made from results.json,
log.jsonl and samples.jsonl alone. `report_template.html` beside this module draws it.
"""

import json
import re
from html import escape
from pathlib import Path

from ..files import InputError, write_text
from ..run.folder import REPORT, read_run
from .details import N_ALONG, spread_rows
from .printed import percent, shares

TEMPLATE = Path(__file__).parent / "report_template.html"
MOST_PROMPTS = 300  # on a page, evenly over all
# What a score says in a plain word, for the table of the page.
MEANINGS = {
    "forget": "how much of the forget owners' answers is still said (ROUGE-L)",
    "retain": "how much of the retain owners' answers is still said",
    "test": "the same for known facts in unseen words",
    "tow": "how near to the retrained model on all three; 1 is perfect",
    "attribution": "how sure the classifier is that the owner's data speak",
    "fact_recall": "how many of the owner's facts are still told",
    "name_kept": "how often the owner asked about is still named",
    "perplexity": "how strange the answers are to the retrained model; near its own is natural",
}
# As people say them, in a picture.
TITLES = {
    "original": "original model",
    "retrained": "retrained model",
    "ga": "gradient ascent",
    "npo": "NPO",
    "simnpo": "SimNPO",
    "idkpo": "IDK",
    "dareu": "DareU",
    "dareu_plus": "DareU+",
}


def sentences(results):
    """What was asked, what came out, whether the rest was held, and what is to be warned of."""
    models, names = results["models"], results["forget"]
    original, retrained = models["original"], models.get("retrained")
    methods = {m: models[m] for m in models if m not in ("original", "retrained")}
    owners = ", ".join(names[:5]) + (f" and {len(names) - 5} more" if len(names) > 5 else "")
    asked = (
        f"{owners} asked to be forgotten, {len(names)} of {results['owners']} owners of the data."
    )
    came = f"The original model tells {percent(original['fact_recall'])} of their facts"
    if retrained:
        came += f", a model that never read them {percent(retrained['fact_recall'])}"
    held = (
        "Of what the others' answers should say, the original model says "
        f"{percent(original['retain'])}, and after unlearning: {shares(methods, 'retain')}"
    )
    if retrained:
        best = max(methods, key=lambda m: models[m]["tow"] or 0)
        held += (
            f"; nearest to the retrained model is {best}, with a Tug-of-War of "
            f"{models[best]['tow']:.3f}, where 1 is perfect, and {results['ceiling']:.3f} the most "
            "for a method that leaves the others' answers as they are"
        )
    recited = ", ".join(f"{m} {scores['recited_words']:.1f}" for m, scores in models.items())
    language = (
        f"Answers that are gibberish: {shares(models, 'gibberish')}; with a word that no training "
        f"answer has, mostly a broken one: {shares(models, 'new_words')}. Words of other owners' "
        f"answers in one run, on average: {recited}."
    )
    came = f"{came}; after unlearning: {shares(methods, 'fact_recall')}."
    return [asked, came, language, f"{held}.", *results["warnings"]]


def page_data(folder):
    """All that the page shows, as one JSON value. Raises InputError."""
    folder = Path(folder)
    try:
        results, log, samples = read_run(folder)
        along = spread_rows(samples, N_ALONG)
        answers, scores = {}, {}
        for row in log:
            if "scores" in row:
                scores.setdefault(row["method"], []).append([row["step"], row["scores"]])
            if "answers" in row:
                answers.setdefault(row["method"], []).append([row["step"], row["answers"]])
        last = {row["method"]: row["step"] for row in log}
        for method, steps in answers.items():
            begin = [samples[i]["original"]["response"] for i in along]
            end = [samples[i][method]["response"] for i in along]
            answers[method] = [[0, begin], *steps, [last[method], end]]
        return {
            "sentences": sentences(results),
            "dataset": results["dataset"],
            "seed": results["seed"],
            "models": results["models"],
            "meanings": MEANINGS,
            "scores": scores,
            "answers": answers,
            "along": [samples[i]["prompt"] for i in along],
            "samples": [samples[i] for i in spread_rows(samples, MOST_PROMPTS)],
            "n_samples": len(samples),
            "retain": results["retain_samples"],
        }
    except (OSError, ValueError, KeyError, TypeError):
        raise InputError(
            f"{folder}: not there, or not of a finished run; name the --out folder of one, or run "
            "train.py again"
        ) from None


def write_report(folder):
    """report.html of a finished run's folder. Raises InputError."""
    text = json.dumps(page_data(folder), ensure_ascii=False, separators=(",", ":"))
    # Nothing in the data may end the script that holds them.
    text = text.replace("<", "\\u003c").replace("\u2028", "\\u2028").replace("\u2029", "\\u2029")
    page = TEMPLATE.read_text(encoding="utf-8").replace("__DATA__", text)
    write_text(Path(folder) / REPORT, page)


def printable(text):
    """A text with a sign in the place of each character that XML can't hold."""
    return re.sub("[^\t\n\r\u0020-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]", "\ufffd", text)


def draw_answers(samples: list[dict], models: list[str]) -> str:
    """An SVG of models' answers to some prompts. The more orange a word, the higher it raises
    the attribution to the owner asked about.

    samples: rows of samples.jsonl.
    """
    y, rows = 4, []
    for sample in samples:
        y += 28
        rows.append(f'<text x="10" y="{y}" class="q">{escape(printable(sample["prompt"]))}</text>')
        for model in models:
            words = [
                f'<tspan fill="{shade(raised)}">{escape(printable(text))}</tspan>'
                for text, raised in sample[model]["words"] or [["(says nothing)", 0]]
            ]
            y += 24
            title = escape(printable(TITLES.get(model, model)))
            rows.append(f'<text x="10" y="{y}" class="s">{title}</text>')
            rows.append(f'<text x="150" y="{y}">{" ".join(words)}</text>')
    style = "text{font:15px sans-serif;fill:#222}.s{fill:#666}.q{font-weight:bold}"
    size = f'width="860" height="{y + 16}"'
    ground = f'<rect {size} fill="#fff"/>'
    head = f'<svg xmlns="http://www.w3.org/2000/svg" {size}><style>{style}</style>'
    return "\n".join([head + ground, *rows, "</svg>"]) + "\n"


def shade(raised: float) -> str:
    """From grey to orange, for a raise of the attribution from 0 to 1/2."""
    share = min(1, max(0, 2 * raised))
    grey, orange = (34, 34, 34), (214, 84, 0)
    mixed = [round(g + share * (o - g)) for g, o in zip(grey, orange, strict=True)]
    return "#" + "".join(f"{part:02x}" for part in mixed)
