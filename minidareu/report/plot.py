"""Pictures (they need matplotlib, the `plot` extra), and the figure of a run."""

import math
import os
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path

from ..files import write

# Lines that can be told apart in grey too, each of a colour of its own.
COLORS = (
    "black tab:red tab:blue tab:green tab:purple tab:cyan tab:orange tab:brown tab:pink tab:olive "
    "tab:gray navy lime"
).split()
MARKERS, DASHES = "os^vD<>PX*phd", ["-", "--", "-.", ":"]
CURVES = {"forget": "tab:red", "retain": "tab:blue", "test": "tab:green"}


def line_style(i: int) -> dict:
    """Keywords of the i-th line of a picture."""
    return {
        "color": COLORS[i % len(COLORS)],
        "marker": MARKERS[i % len(MARKERS)],
        "linestyle": DASHES[i % len(DASHES)],
        "markersize": 4,
    }


def new_figure(rows: int, columns: int, size: tuple[float, float], **settings):
    """A figure of `size` inches, and its axes as matplotlib's `subplots` gives them.

    It is drawn into a file alone: whatever windows or notebooks the user has stay as they are.
    """
    os.environ.pop("MPLBACKEND", None)  # a notebook's shell names what may not be installed here
    from matplotlib.figure import Figure

    figure = Figure(figsize=size, layout="constrained")
    return figure, figure.subplots(rows, columns, **settings)


def draw(path: Path, plot: Callable, *values) -> None:
    """Write a picture by plot(*values, path), where matplotlib is there."""
    if find_spec("matplotlib") is None:
        print(f"No {path.name}: pictures need matplotlib (pip install -e '.[plot]').")
        return
    write(path, lambda temporary: plot(*values, temporary))


def curve(log, models, method):
    """Steps, and the scores at each: the original model's at 0."""
    scored = [row for row in log if row["method"] == method and "scores" in row]
    steps = [0] + [row["step"] for row in scored]
    return steps, [models["original"]] + [row["scores"] for row in scored]


def plot_run(log, models, path):
    """ToW of every method along its updates; and two methods' scores beside the retrained model's.

    Without a retrained model there is no ToW: fact recall is in its place.

    log: the dicts of `log.jsonl`; models: those of `results.json`.
    """
    methods, retrained = list(dict.fromkeys(row["method"] for row in log)), models.get("retrained")
    main, title, label = "tow", "Tug-of-War", "ToW (1 is perfect)"
    if retrained is None:
        main, title, label = "fact_recall", "Facts still told", "fact recall"
    detailed = sorted(methods, key=lambda name: not name.startswith("dareu"))[:2]
    columns = 1 + len(detailed)
    figure, axes = new_figure(1, columns, size=(5 * columns, 4.6), squeeze=False)
    axes = axes[0]
    for i, method in enumerate(methods):
        steps, scores = curve(log, models, method)
        values = [s[main] for s in scores]  # a gap where there is none
        axes[0].plot(steps, values, **line_style(i), label=method)
    axes[0].set(title=title, ylabel=label)
    for ax, method in zip(axes[1:], detailed, strict=True):
        steps, scores = curve(log, models, method)
        for (name, color), marker in zip(CURVES.items(), "os^", strict=True):
            values = [s[name] for s in scores]
            ax.plot(steps, values, "-" + marker, color=color, ms=4, label=name)
            if retrained:
                ax.axhline(retrained[name], ls="--", lw=1, color=color)
        recalls = [s["fact_recall"] for s in scores]
        if None not in recalls:
            ax.plot(steps, recalls, ":d", color="tab:purple", ms=4, label="fact recall")
            if retrained:
                ax.axhline(retrained["fact_recall"], ls="--", lw=1, color="tab:purple")
        title = method
        if retrained:
            ax.plot([], [], "k--", lw=1, label="retrained model")
            title = f"{method}: perplexity {models[method]['perplexity'] or math.inf:.2f}"
            title += f" (retrained {retrained['perplexity']:.2f})"
        ax.set(title=title, ylabel="ROUGE-L and fact recall")
    for ax in axes:
        ax.set(xlabel="updates (0: original model)", ylim=(-0.02, 1.04))
        ax.grid(alpha=0.3)
        ax.legend(fontsize=7, ncols=5, loc="upper center", bbox_to_anchor=(0.5, -0.14))
    figure.savefig(path, dpi=150, format="png")
