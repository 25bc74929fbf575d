"""Figures of many runs (need matplotlib, the `plot` extra)."""

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt  # noqa: E402


def plot_sequence(requests, methods, path):
    """ToW along the requests, and fact recall beside the retrained model's.

    requests: what `sequence.json` holds.
    """
    x = range(1, len(requests) + 1)
    figure, (left, right) = plt.subplots(1, 2, figsize=(10, 4), layout="constrained")
    for name, style in zip([*methods, "original"], ("-o", "-s", "k--^"), strict=False):
        left.plot(x, [r["models"][name]["tow"] for r in requests], style, ms=4, label=name)
    left.set(title="Tug-of-War, of all forgotten so far", ylabel="ToW (1 is perfect)")
    for name, style in zip([*methods, "retrained"], ("-o", "-s", "k--^"), strict=False):
        values = [r["models"][name]["fact_recall"] for r in requests]
        if None not in values:
            right.plot(x, values, style, ms=4, label=name)
    right.set(title="Fact recall, of all forgotten so far", ylabel="fact recall")
    for ax in (left, right):
        ax.set(xlabel="request", ylim=(-0.02, 1.04), xticks=list(x))
        ax.grid(alpha=0.3)
        ax.legend(fontsize=8)
    figure.savefig(path, dpi=150, format="png")
    plt.close(figure)
