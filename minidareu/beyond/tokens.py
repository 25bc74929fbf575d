"""Which tokens did a method push down?

The change of log p, from the original to the unlearned model, of the tokens of the forget rows'
references: by place, and by kind of word.

    python -m minidareu.beyond.tokens --run runs/authors-seed0
"""

import math
from pathlib import Path

from ..metrics import word_weights, words
from ..report.markdown import table
from ..run.cli import make_parser, run_main
from ..run.prepare import open_run
from ..run.stages import load_models
from ..scores.chunks import response_log_probs

KINDS = ["first third", "second third", "last third", "name", "fact", "frame"]


def kinds_of_tokens(run, r):
    """For each token of a record's response, the kinds that it belongs to.

    name: of a word that the prompt has. fact: of a word that at most half of the owners use.
    frame: all others.
    """
    weights, known = run.word_weights, set(words(r.prompt))
    ids = run.pairs[r][1]
    kinds, text = [], ""
    response = run.tokenizer.decode(ids)
    for t, token in enumerate(ids):
        place = KINDS[3 * t // len(ids)]
        start = len(text)
        text += run.tokenizer.decode([token])
        word = words(word_at(response, start + 1))
        word = word[0] if word else ""
        if word in known:
            kind = "name"
        elif weights.get(word, 0) >= math.log(2):
            kind = "fact"
        else:
            kind = "frame"
        kinds.append((place, kind))
    return kinds


def word_at(text, position):
    """The word of a text that a character belongs to."""
    start = text.rfind(" ", 0, position) + 1
    end = text.find(" ", position)
    return text[start : end if end >= 0 else len(text)]


def mean_changes(folder):
    """{kind: mean change of log p} of a run's first method, over the forget rows."""
    run = open_run(folder, "cpu")
    run.word_weights = word_weights(run.train)
    models, rows = load_models(run), run.split.forget
    prompts, references, _ = run.labelled(rows)
    before = response_log_probs(models["original"], prompts, references)
    after = response_log_probs(models[run.methods[0]], prompts, references)
    changes = {kind: [] for kind in KINDS}
    for r, old, new in zip(rows, before, after, strict=True):
        for kinds, change in zip(kinds_of_tokens(run, r), (new - old).tolist(), strict=True):
            for kind in kinds:
                changes[kind].append(change)
    return {kind: sum(values) / max(1, len(values)) for kind, values in changes.items()}


def main(argv=None):
    parser = make_parser(__doc__, prog="python -m minidareu.beyond.tokens")
    parser.add_argument("--run", type=Path, nargs="+", required=True, help="finished runs")
    args = parser.parse_args(argv)
    rows = []
    for folder in args.run:
        changes = mean_changes(folder)
        rows.append([folder.name, *(f"{changes[kind]:.2f}" for kind in KINDS)])
    print("\n".join(table(["mean change of log p", *KINDS], rows)))


if __name__ == "__main__":
    run_main(main, "minidareu.beyond.tokens")
