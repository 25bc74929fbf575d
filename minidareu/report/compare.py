"""Two runs beside one another: their tables, their curves, and the answers that differ."""

from pathlib import Path

from ..files import InputError
from ..run.folder import read_run
from .plot import curve, draw, line_style, new_figure
from .printed import SHOWN, print_table

FIGURES = {"tow": "ToW", "fact_recall": "fact recall", "attribution": "attribution"}
MOST_ANSWERS = 5


def all_models(runs: dict) -> dict[str, dict]:
    """{"model, run": scores}; a model that both runs have alike is told once."""
    found: dict[str, dict] = {}
    for label, (results, _, _) in runs.items():
        for name, scores in results["models"].items():
            if scores not in found.values():
                found[f"{name}, {label}"] = scores
    return found


def differences(runs: dict) -> list[str]:
    """For each model of both runs that is not the same: how many answers differ, and some."""
    (first, (results, _, rows)), (second, (others, _, other_rows)) = runs.items()
    lines = []
    for name in results["models"]:
        if name not in others["models"] or results["models"][name] == others["models"][name]:
            continue
        pairs = zip(rows, other_rows, strict=True)
        differ = [(x, y) for x, y in pairs if x[name]["response"] != y[name]["response"]]
        lines.append(f"\n{name}: {len(differ)} of {len(rows)} answers differ")
        for x, y in differ[:MOST_ANSWERS]:
            lines.append(f"  {x['prompt']}")
            for label, row in ((first, x), (second, y)):
                lines.append(f"    {label}: {row[name]['response']}")
    return lines


def plot_curves(runs: dict, path: Path) -> None:
    """Scores of each method along its updates: a panel a score, a line a method of a run."""
    figure, axes = new_figure(1, len(FIGURES), size=(5 * len(FIGURES), 4.2))
    lines = [
        (label, method, log, results["models"])
        for label, (results, log, _) in runs.items()
        for method in dict.fromkeys(row["method"] for row in log)
    ]
    for axis, (score, title) in zip(axes, FIGURES.items(), strict=True):
        for i, (label, method, log, models) in enumerate(lines):
            steps, scores = curve(log, models, method)
            values = [s[score] for s in scores]  # a gap where there is none
            axis.plot(steps, values, label=f"{method}, {label}", **line_style(i))
        axis.set(title=title, xlabel="updates (0: original model)", ylim=(-0.02, 1.04))
        axis.grid(alpha=0.3)
    figure.legend(*axes[0].get_legend_handles_labels(), loc="outside lower center", ncols=4)
    figure.savefig(path, dpi=150, format="png")


def compare(folders: list[Path], picture: Path) -> None:
    """Print what two runs of the same data and forget set have in common and what not, and draw
    their curves. Raises InputError."""
    names = [folder.resolve().name for folder in folders]
    labels = names if names[0] != names[1] else map(str, folders)
    runs = {label: read_run(folder) for label, folder in zip(labels, folders, strict=True)}
    prompts = [[row["prompt"] for row in samples] for _, _, samples in runs.values()]
    if len(runs) < 2 or prompts[0] != prompts[1]:
        raise InputError("--compare: give two runs of the same data and forget owners")
    print_table(all_models(runs), SHOWN)
    print("\n".join(differences(runs)))
    draw(picture, plot_curves, runs)
