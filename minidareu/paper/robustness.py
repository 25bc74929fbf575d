"""Does it hold? Paraphrases in the retain set (Table 17), one request after another (Figure 6), and
relearning (Figure 7)."""

from dataclasses import replace
from statistics import mean

from ..beyond import attacks
from ..beyond.finished import open_evaluator
from ..data import load_records
from ..files import InputError, write_lines
from ..metrics import mean_rouge
from ..run.folder import read_results
from ..run.pool import Job, run as run_job
from ..run.requests import pick_owners
from ..scores.evaluation import respond
from .columns import score
from .tables import OURS, PAPER, methods

REQUESTS = 5  # one owner each
RELEARNING_LR, RELEARNING_STEPS = 1e-4, [0, 5, 10, 20, 30, 40, 50]
COLUMNS = ["D_F", "D_R", "D_test", "ToW", "fact recall", "name kept"]


def write_overlap(records, forgotten, path):
    """The dataset, and for each forget row its prompt with the response's paraphrase, which belongs
    to an owner of its own that is retained. Raises InputError where a row has no paraphrase."""
    rows = [
        {"owner": r.owner, "prompt": r.prompt, "response": r.response, "split": r.split}
        for r in records
    ]
    for r in records:
        if r.owner in forgotten and r.split == "train":
            if not r.paraphrase:
                raise InputError(
                    f"table17: line {r.line} of the data has no paraphrase; add one to each row, "
                    "or leave this table out"
                )
            row = {"owner": "paraphrases", "prompt": r.prompt, "response": r.paraphrase}
            rows.append(row | {"split": "train"})
    write_lines(path, rows)


def overlap(case):
    """Table 17: every method where D_R holds paraphrases of D_F."""
    forgotten = read_results(case.folders["main"])["forget"]
    data = case.out / f"overlap-seed{case.seed}.jsonl"
    write_overlap(load_records(case.data), forgotten, data)
    flags = ["--data", data, "--seed", case.seed, *case.flags, "--forget", ",".join(forgotten)]
    flags += methods(PAPER, OURS)
    results = run_job(Job(case.out / f"overlap-seed{case.seed}", flags))
    rows = {
        label: {column: score(results, model, column) for column in COLUMNS}
        for label, model in (PAPER | OURS).items()
    }
    return {"table17": rows}


def requests(case):
    """Figure 6: owners that ask one after another; every method begins with its own model."""
    records = load_records(case.data)
    owners = list(dict.fromkeys(r.owner for r in records))
    if len(owners) <= REQUESTS:
        raise InputError(f"fig6: {case.data} has {len(owners)} owners, it takes {REQUESTS + 1}")
    names = pick_owners(owners, None, REQUESTS, fraction=None, seed=case.seed, forgotten=[])
    base = ["--data", case.data, "--seed", case.seed, *case.flags]
    rows = {label: {} for label in PAPER | OURS}
    begin = ["--reuse", case.folders["main"]]
    for i, name in enumerate(names, 1):
        folder = case.out / f"request{i}-seed{case.seed}"
        flags = [*base, *methods(PAPER, OURS), "--forget", name, *begin]
        results = run_job(Job(folder, flags))
        begin = ["--from", folder]
        for label, model in (PAPER | OURS).items():
            for column in ("D_F", "D_R", "ToW"):
                rows[label][f"{column}, {i}"] = score(results, model, column)
    own = [f"D_F, {i}" for i in range(1, REQUESTS + 1)]
    for row in rows.values():
        distances = [abs(row[column] - rows["retraining"][column]) for column in own]
        row["distance of D_F to retraining"] = mean(distances)
    return {"fig6": rows}


def forget_rouge(model, records, evaluator):
    """D_F's ROUGE of a model."""
    return mean_rouge(respond(model, records, evaluator).texts, records)


def relearn(case):
    """Figure 7: how much D_F's ROUGE gains while a model is trained on D_F again."""
    run, models, evaluator = open_evaluator(case.folders["main"], "cpu")
    pairs, forget = run.references(run.split.forget), run.split.forget
    config = replace(run.config, baseline_lr=RELEARNING_LR, seed=case.seed)
    rows = {}
    for label, name in (PAPER | OURS).items():
        curve = attacks.relearn(
            models[name],
            pairs,
            forget,
            evaluator,
            config=config,
            steps=RELEARNING_STEPS,
            score=forget_rouge,
        )
        begin = curve[0][1]
        rows[label] = {f"step {step}": rouge - begin for step, rouge in curve}
        lost = 1 - begin
        regained = dict(curve).get(10, begin) - begin
        rows[label]["share of what it lost, step 10"] = regained / lost if lost > 0.05 else None
    return {"fig7": rows}
