"""Pictures of the paper's figures in miniature (need matplotlib, the `plot` extra).

Each function takes what a figure's JSON file holds; curves are medians over seeds.
"""

from ..report.plot import line_style, new_figure
from .columns import middle


def save(figure, axes, path, legend=True):
    for ax in axes:
        ax.grid(alpha=0.3)
        if legend:
            ax.legend(fontsize=7)
    figure.savefig(path, dpi=130, format="png")


def plot_likelihoods(found, path):
    figure, ax = new_figure(1, 1, size=(6, 3.6))
    for (label, values), style in zip(found["points"].items(), ("-", "--", ":", "-."), strict=True):
        ax.hist(values, bins=24, histtype="step", lw=1.6, ls=style, label=label)
    ax.set(title="Log-likelihood of the forget set's references", xlabel="a token", ylabel="rows")
    save(figure, [ax], path)


def plot_reward(found, path):
    rows = found["rows"]
    figure, ax = new_figure(1, 1, size=(8, 3.6))
    for column, style in zip(("DA after it", "chi", "reward"), ("k--o", "b:s", "r-^"), strict=True):
        ax.plot([row[column][0] for row in rows.values()], style, ms=4, label=column)
    ax.set_xticks(range(len(rows)), [label.split(" ", 1)[-1] for label in rows], rotation=60)
    ax.set(title=found["example"][0], ylim=(-1.05, 1.05))
    save(figure, [ax], path)


def plot_masking(found, path):
    rows = found["rows"]
    figure, ax = new_figure(1, 1, size=(5, 3.6))
    for suffix, style in (("", "-o"), (", DareU", "--s")):
        rouge = [middle(row[f"ROUGE{suffix}"]) for row in rows.values()]
        attribution = [middle(row[f"attribution{suffix}"]) for row in rows.values()]
        ax.plot(rouge, attribution, style, ms=4, label=f"answers of {suffix[2:] or 'the original'}")
        for x, y, k in zip(rouge, attribution, rows, strict=True):
            ax.annotate(k, (x, y), fontsize=7)
    ax.set(title="k words masked", xlabel="ROUGE-L recall", ylabel="attribution")
    save(figure, [ax], path)


def plot_transforms(found, path):
    rows = found["rows"]
    figure, ax = new_figure(1, 1, size=(5, 3.6))
    for column, style in zip(next(iter(rows.values())), ("b:", "k-", "r--", "g-."), strict=True):
        ax.plot([float(b) for b in rows], [row[column][0] for row in rows.values()], style)
        ax.lines[-1].set_label(column)
    ax.set(title="chi", xlabel="attribution b", ylabel="chi(b)")
    save(figure, [ax], path)


def plot_requests(found, path):
    figure, axes = new_figure(1, 3, size=(12, 4))
    for ax, score in zip(axes, ("D_F", "D_R", "ToW"), strict=True):
        for i, (label, row) in enumerate(found["rows"].items()):
            columns = [column for column in row if column.startswith(f"{score}, ")]
            x = range(1, len(columns) + 1)
            values = [middle(row[column]) for column in columns]
            ax.plot(x, values, **line_style(i), label=label)
        ax.set(title=f"{score}, of all forgotten so far", xlabel="request", ylim=(-0.02, 1.04))
        ax.set_xticks(x)
    handles = axes[0].get_legend_handles_labels()
    figure.legend(*handles, loc="outside lower center", ncols=11, fontsize=8)
    save(figure, axes, path, legend=False)


def plot_relearning(found, path):
    figure, ax = new_figure(1, 1, size=(6, 4))
    for i, (label, row) in enumerate(found["rows"].items()):
        columns = [column for column in row if column.startswith("step ")]
        steps = [int(column.split()[-1]) for column in columns]
        values = [middle(row[column]) for column in columns]
        ax.plot(steps, values, **line_style(i), label=label)
    ax.set(title="Relearning the forget set", xlabel="steps", ylabel="gain of D_F's ROUGE-L")
    save(figure, [ax], path)


PICTURES = {
    "fig2": plot_likelihoods,
    "fig3": plot_reward,
    "fig4": plot_masking,
    "fig5": plot_transforms,
    "fig6": plot_requests,
    "fig7": plot_relearning,
}
