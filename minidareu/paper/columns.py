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
    if column == "by the cost model":
        n_rows, passes = results["rows"], results["passes"]["retrained"]
        rows = forward_rows(results["config"], n_rows["forget"], n_rows["retain"], passes)
        return rows[model] / rows["retrained"] if model in rows else None
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


def forward_rows(config, n_forget, n_retain, passes):
    """{stage: rows that pass forward} by the cost model of App. G; a backward pass counts as two.

    Retraining reads D_R in so many passes. DareU draws and scores B_f, then makes S_PPO updates on
    B_f and B_r. DareU+ does so at each update.
    """
    c = config
    batches = -(-n_forget // c["forget_batch"])
    steps = batches * c["ppo_steps"]
    drawn = 3 * n_forget + batches * c["retain_batch"]  # a response, its log-probabilities twice
    learned = 3 * steps * (c["forget_batch"] + c["retain_batch"])
    plus_update = (2 + 3) * c["forget_batch"] + (1 + 3) * c["retain_batch"]
    return {
        "retrained": 3 * passes * n_retain,
        "dareu": c["data_epochs"] * (drawn + learned),
        "dareu_plus": c["plus_updates"] * plus_update,
    }
