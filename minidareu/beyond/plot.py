"""Figures of the audit (need matplotlib, the `plot` extra)."""

from statistics import median

from ..report.plot import line_style, new_figure


def medians(columns):
    """Median of each list of values, of those that are not None; nan where there is none."""
    known = [[value for value in column if value is not None] for column in columns]
    return [median(column) if column else float("nan") for column in known]


def plot_attacks(audits, path):
    """Relearning from forget rows and from retain rows alone, and fact recall under every other
    attack: medians over audits.

    audits: list of what `audit.json` holds.
    """
    first = audits[0]
    names, kinds = list(first["attacks"]["original"]), list(first["relearning"]["original"])
    shown = (kinds[len(kinds) // 2 - 1], "retain rows")
    figure, axes = new_figure(1, 3, size=(14, 4.6), width_ratios=[1, 1, 1.1])
    for i, model in enumerate(first["attacks"]):
        for ax, kind in zip(axes, shown, strict=False):
            curves = [dict(audit["relearning"][model][kind]) for audit in audits]
            steps = list(curves[0])
            values = medians([[curve[step] for curve in curves] for step in steps])
            ax.plot(steps, values, **line_style(i), label=model)
            ax.set(title=f"Relearning {kind}", xlabel="steps of fine-tuning")
            ax.set(ylabel="fact recall on the other forget rows", ylim=(-0.02, 1.04))
        values = medians([[a["attacks"][model][name] for a in audits] for name in names])
        dots = {**line_style(i), "linestyle": "none", "markersize": 7}
        axes[2].plot(values, range(len(names)), **dots, alpha=0.7)
    for ax in axes[:2]:
        ax.set_xscale("symlog", base=2, linthresh=1)
        ax.set_xlim(0, 72)
        ax.set_xticks([0, 1, 4, 16, 64], ["0", "1", "4", "16", "64"])
    axes[2].set_yticks(range(len(names)), names)
    axes[2].invert_yaxis()
    axes[2].set(title="Other attacks", xlabel="fact recall", xlim=(-0.02, 1.04))
    for ax in axes:
        ax.grid(alpha=0.3)
    handles = axes[0].get_legend_handles_labels()
    figure.legend(*handles, loc="outside lower center", ncols=7, fontsize=8)
    figure.savefig(path, dpi=150, format="png")
