"""The figure of a run (needs matplotlib, the `plot` extra): takes only numbers, writes the file."""

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt  # noqa: E402

# Lines that can be told apart in grey too.
STYLES = "k-o r--s b-.^ g:v m--D c-.< y:> k:P r:X b--* g-.p y--h c:d".split()
CURVES = {"forget": "tab:red", "retain": "tab:blue", "test": "tab:green"}


def curve(log, models, method):
    """Steps, and the scores at each: the original model's at 0."""
    scored = [row for row in log if row["method"] == method and "scores" in row]
    steps = [0] + [row["step"] for row in scored]
    return steps, [models["original"]] + [row["scores"] for row in scored]


def plot_run(log, models, path):
    """ToW of every method along its updates; and each method's scores beside the retrained model's.

    log: the dicts of `log.jsonl`; models: those of `results.json`.
    """
    methods = list(dict.fromkeys(row["method"] for row in log))
    detailed = methods[:2]
    figure, axes = plt.subplots(
        1, 1 + len(detailed), figsize=(5 + 5 * len(detailed), 4.2), layout="constrained"
    )
    for method, style in zip(methods, STYLES * len(methods), strict=False):
        steps, scores = curve(log, models, method)
        axes[0].plot(steps, [s["tow"] for s in scores], style, ms=4, label=method)
    axes[0].set(title="Tug-of-War", ylabel="ToW (1 is perfect)")
    for ax, method in zip(axes[1:], detailed, strict=True):
        steps, scores = curve(log, models, method)
        for (name, color), marker in zip(CURVES.items(), "os^", strict=True):
            values = [s[name] for s in scores]
            ax.plot(steps, values, "-" + marker, color=color, ms=4, label=name)
            ax.axhline(models["retrained"][name], ls="--", lw=1, color=color)
        recalls = [s["fact_recall"] for s in scores]
        if None not in recalls:
            ax.plot(steps, recalls, ":d", color="tab:purple", ms=4, label="fact recall")
            ax.axhline(models["retrained"]["fact_recall"], ls="--", lw=1, color="tab:purple")
        ax.plot([], [], "k--", lw=1, label="retrained model")
        ax.set(title=f"{method} beside the retrained model", ylabel="ROUGE-L and fact recall")
    for ax in axes:
        ax.set(xlabel="updates (0: original model)", ylim=(-0.02, 1.04))
        ax.grid(alpha=0.3)
        ax.legend(fontsize=8, loc="best")
    figure.savefig(path, dpi=150, format="png")
    plt.close(figure)
