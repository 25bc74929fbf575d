"""Columns of the tables: the score of a run that each is, and medians over seeds."""

from statistics import median

from ..metrics import tug_of_war

SCORES = {
    "D_F": "forget",
    "D_R": "retain",
    "D_test": "test",
    "ToW": "tow",
    "truth ratio": "truth_ratio",
    "ES": "extraction_strength",
    "ES on D_R": "extraction_strength_retain",
    "MIA": "mia_min_k40",
    "attribution": "attribution",
    "attribution, added": "attribution_added",
    "fact recall": "fact_recall",
    "name kept": "name_kept",
    "perplexity": "perplexity",
    "gibberish": "gibberish",
    "new words": "new_words",
    "D_F, unseen wordings": "unseen",
    "ToW_para": "tow_paraphrased",
}


def score(results, model, column):
    """The value of a column for a model of a run; None where there is none."""
    models, seconds = results["models"], results["seconds"]
    if column == "ToW*":  # without a test set
        return tug_of_war(models[model], models["retrained"], keys=("forget", "retain"))
    if column == "seconds":
        return seconds[model]
    if column == "of retraining":
        return seconds[model] / seconds["retrained"]
    if column == "memory, MB":
        return results["memory"][model]
    return models[model].get(SCORES[column])


def table_rows(table, results):
    """{label: {column: value}} of a Table. results: {run: results of one seed}."""
    rows = {}
    for label, (run, model) in table.rows.items():
        rows[label] = {column: score(results[run], model, column) for column in table.columns}
    return rows


def gathered(by_seed):
    """Rows of each seed, {label: {column: value}} -> {label: {column: values}}."""
    first = by_seed[0]
    return {
        label: {column: [rows[label][column] for rows in by_seed] for column in first[label]}
        for label in first
    }


def middle(values):
    """The median of the values that are not None; None where there is none."""
    values = [value for value in values if value is not None]
    return median(values) if values else None
