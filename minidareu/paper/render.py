"""A table as Markdown: ours beside the paper's, and what its trend is."""

import json
from pathlib import Path
from textwrap import fill

from ..report.markdown import spread, table
from .columns import middle
from .verdict import compare

REPORTED = json.loads((Path(__file__).parent / "reported.json").read_text(encoding="utf-8"))


def reported(name):
    """{column: {row: the paper's number}} of a table; empty where the paper gives none."""
    columns = {}
    for label, row in REPORTED.get(name, {}).items():
        for column, value in row.items():
            columns.setdefault(column, {})[label] = value
    return columns


def told(name, column, values):
    """Of the paper's {row: value} those that are not set by construction: the retrained model's
    ToW is 1, and Table 18's accuracies are chosen."""
    if column in ("ToW", "ToW*", "ToW_para"):
        return {label: value for label, value in values.items() if label != "retraining"}
    return {} if (name, column) == ("table18", "accuracy") else values


def verdicts(name, rows):
    """Lines on whether each column has the paper's order, and on what the paper claims in words.

    rows: {label: {column: values, one a seed}}.
    """
    expected = reported(name) | REPORTED["claims"].get(name, {})
    lines = []
    for column, values in expected.items():
        ours = {label: row[column] for label, row in rows.items() if column in row}
        lines.append(compare(column, ours, told(name, column, values)))
    for column, other in REPORTED["together"].get(name, {}).items():
        medians = {label: middle(row[other]) for label, row in rows.items() if other in row}
        known = {label: value for label, value in medians.items() if value is not None}
        ours = {label: row[column] for label, row in rows.items() if column in row}
        lines.append(compare(f"{column} beside {other}", ours, known, source=f"by our {other}"))
    return [line for line in lines if line]


def render(found):
    """Lines of Markdown of what a table's JSON file holds."""
    name, rows = found["name"], found["rows"]
    columns = list(dict.fromkeys(column for row in rows.values() for column in row))
    paper = reported(name)
    head, lines = [""], []
    for column in columns:
        head += [column, "paper"] if column in paper else [column]
    for label, row in rows.items():
        cells = [label]
        for column in columns:
            cells.append(spread(row[column]) if column in row else "")
            if column in paper:
                value = paper[column].get(label)
                cells.append("" if value is None else f"{value:g}")
        lines.append(cells)
    text = [f"### {found['title']}", "", found["question"]]
    text += table(head, lines)
    lines = verdicts(name, rows)
    if lines:
        text += ["", *(fill(f"- {line}", 118, subsequent_indent="  ") for line in lines)]
    if found.get("example"):
        text += ["", "```text", *found["example"], "```"]
    return [*text, ""]
