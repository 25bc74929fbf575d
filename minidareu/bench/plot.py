"""The picture of the cost as the data grow (needs matplotlib, the `plot` extra)."""

from statistics import median

from ..report.plot import new_figure

LINES = {
    "retrained": ("retraining", "k--o"),
    "dareu": ("DareU", "b-s"),
    "dareu_plus": ("DareU+", "r-^"),
}
TICKS = [1, 2, 5, 10, 20, 50, 100]  # seconds


def plot_growth(figures, path):
    """Seconds along the number of owners, two forgotten; and along those forgotten, of 80.

    figures: {(owners, forgotten): what `growth.measure` found, one a seed}.
    """
    by_owners = {n: runs for (n, forgotten), runs in figures.items() if forgotten == 2}
    by_forgotten = {m: runs for (owners, m), runs in figures.items() if owners == 80}
    figure, axes = new_figure(1, 2, size=(9, 3.6), sharey=True)
    plot_seconds(axes[0], by_owners, "owners, two forgotten")
    plot_seconds(axes[1], by_forgotten, "forgotten, of 80 owners")
    axes[0].set_ylabel("seconds")
    axes[0].legend()
    figure.savefig(path, dpi=130, format="png")


def plot_seconds(ax, runs, title):
    """Seconds of each stage along x. runs: {x: what `growth.measure` found, one a seed}."""
    x = sorted(runs)
    for name, (label, style) in LINES.items():
        seconds = [median(run[name]["seconds"] for run in runs[n]) for n in x]
        ax.plot(x, seconds, style, ms=5, label=label)
    ax.set(xscale="log", yscale="log", xlabel=title)
    ax.set_xticks(x, x)
    ax.set_yticks(TICKS, TICKS)
    ax.minorticks_off()
    ax.grid(alpha=0.3)
