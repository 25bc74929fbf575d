"""Figures of a run and of the benchmark (need matplotlib, the `plot` extra): they take only numbers, and write only the file."""

import textwrap
from statistics import median

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt


STYLES = ["k-o", "r--s", "b-.^", "g:v", "m--D", "c-.<", "y:>", "k:P", "r:X", "b--*", "g-.p", "y--h", "c:d"]  # read in grey too


def plot_run(log, models, path):
    """Scores along the optimizer steps: ToW of every method on the left; the first one's scores beside the retrained model's.

    log: the dicts of `log.jsonl`; models: those of `results.json`.
    """
    methods = list(dict.fromkeys(row["method"] for row in log))
    points = {name: [(0, models["target"])] + [(row["step"], row["scores"]) for row in log if row["method"] == name and "scores" in row]
              for name in methods}
    figure, (left, right) = plt.subplots(1, 2, figsize=(10, 4), layout="constrained")
    for name, style in zip(methods, STYLES * len(methods)):
        left.plot([step for step, _ in points[name]], [scores["tow"] for _, scores in points[name]], style, ms=4, label=name)
    left.set(title="Tug-of-War", ylabel="ToW (1 is perfect)")
    first = points[methods[0]]
    x = [step for step, _ in first]
    for name, style, color in (("forget", "-o", "tab:red"), ("retain", "-s", "tab:blue"), ("test", "-^", "tab:green")):
        right.plot(x, [scores[name] for _, scores in first], style, color=color, label=name)
        right.axhline(models["retrained"][name], ls="--", lw=1, color=color)
    right.plot(x, [scores["attribution"] for _, scores in first], ":d", color="tab:purple", label="attribution")
    right.plot([], [], "k--", lw=1, label="retrained model")
    right.set(title=f"{methods[0]} beside the retrained model", ylabel="ROUGE-L recall, attribution (0 to 1)")
    for axes in (left, right):
        axes.set(xlabel="optimizer step (0: target model)", ylim=(-0.02, 1.04))
        axes.grid(alpha=0.3)
    right.legend(fontsize=8, loc=(0.68, 0.12))
    if len(methods) > 1:
        figure.legend(*left.get_legend_handles_labels(), loc="outside lower center", ncols=6, fontsize=8)
    figure.savefig(path, dpi=150, format="png")
    plt.close(figure)


def band(record, method, size):
    """Steps, and least, median and largest ToW over seeds at each of them."""
    curves = [dict(run["models"][method]["curve"]) for run in record[size].values()]
    steps = sorted(set.intersection(*map(set, curves)))
    return steps, *zip(*((min(tow), median(tow), max(tow)) for tow in ([curve[step] for curve in curves] for step in steps)))


def plot_curves(record, methods, path):
    """ToW along the optimizer steps, a panel a method: median and range over seeds, its last step marked; DareU behind it in grey.

    record: what `benchmark.json` holds; the middle size of the forget set is drawn.
    """
    size = sorted(record, key=float)[len(record) // 2]
    rows = -(-len(methods) // 4)
    figure, axes = plt.subplots(rows, min(4, len(methods)), figsize=(11, 2.7 * rows), sharex=True, sharey=True, layout="constrained", squeeze=False)
    for ax, method in zip(axes.flat, methods):
        if method != "dareu" and "dareu" in methods:
            steps, _, middle, _ = band(record, "dareu", size)
            ax.plot(steps, middle, color="0.6", lw=3)
        steps, low, middle, high = band(record, method, size)
        ax.fill_between(steps, low, high, alpha=0.25, color="tab:red", label="range over seeds")
        ax.plot(steps, middle, "-o", ms=3, color="tab:red", label="median")
        tows = [run["models"][method]["tow"] for run in record[size].values()]
        last = next(iter(record[size].values()))["steps"][method]
        ax.plot(last, median(tows), "k*", ms=10, label="its last step")
        ax.set(title=method, ylim=(-0.02, 1.04))
        ax.set_xscale("symlog", base=2, linthresh=4)
        ax.set_xticks([0, 4, 16, 64, 128], ["0", "4", "16", "64", "128"], minor=False)
        ax.grid(alpha=0.3)
    for ax in list(axes.flat)[len(methods):]:
        ax.set_axis_off()
    axes[0, 0].plot([], [], color="0.6", lw=3, label="DareU's median")
    axes[0, 0].legend(fontsize=8, loc="lower right")
    figure.supxlabel("optimizer steps (0: target model)")
    figure.supylabel("Tug-of-War (1 is perfect)")
    figure.savefig(path, dpi=150, format="png")
    plt.close(figure)


def plot_scores(record, methods, path):
    """Final ToW of every seed, its median, and the best ToW on the way; a panel a size of the forget set."""
    sizes = sorted(record, key=float)
    figure, axes = plt.subplots(1, len(sizes), figsize=(11, 0.36 * len(methods) + 1.4), sharex=True, sharey=True, layout="constrained", squeeze=False)
    for ax, size in zip(axes.flat, sizes):
        for y, method in enumerate(reversed(methods)):
            tows, best = ([run["models"][method][score] for run in record[size].values()] for score in ("tow", "best_tow"))
            ax.plot(tows, [y] * len(tows), "o", ms=4, color="tab:blue", alpha=0.6, label="a seed" if y == 0 else None)
            ax.plot(median(tows), y, "k|", ms=14, mew=2, label="median" if y == 0 else None)
            ax.plot(median(best), y, "D", ms=5, mfc="none", color="tab:orange", label="best on the way, median" if y == 0 else None)
        ax.axvline(median(run["models"]["target"]["tow"] for run in record[size].values()), ls="--", lw=1, color="0.5", label="target model")
        ax.set(title=f"{float(size):.0%} of the owners forgotten", xlabel="Tug-of-War", xlim=(0, 1.03))
        ax.grid(alpha=0.3, axis="x")
    axes[0, 0].set_yticks(range(len(methods)), list(reversed(methods)))
    axes[0, 0].legend(fontsize=8, loc="upper left")
    figure.savefig(path, dpi=150, format="png")
    plt.close(figure)


def plot_attacks(audits, path):
    """Relearning from forget rows and from retain rows alone, and fact recall under every other attack: medians over audits.

    audits: list of what `audit.json` holds.
    """
    models, attacks, kinds = list(audits[0]["attacks"]), list(audits[0]["attacks"]["target"]), list(audits[0]["relearning"]["target"])
    figure, axes = plt.subplots(1, 3, figsize=(14, 4.6), layout="constrained", width_ratios=[1, 1, 1.1])
    for name, style in zip(models, STYLES * len(models)):
        for ax, kind in zip(axes, (kinds[len(kinds) // 2 - 1], "retain rows")):
            curves = [audit["relearning"][name][kind] for audit in audits]
            ax.plot([step for step, _ in curves[0]], [median(values) for values in zip(*([value for _, value in curve] for curve in curves))],
                    style, ms=4, label=name)
            ax.set(title=f"Relearning {kind}", xlabel="steps of fine-tuning", ylabel="fact recall on the other forget rows", ylim=(-0.02, 1.04))
        values = [[audit["attacks"][name][attack] for audit in audits if audit["attacks"][name][attack] is not None] for attack in attacks]
        axes[2].plot([median(v) if v else float("nan") for v in values], range(len(attacks)), style[0] + style[-1], ms=7, alpha=0.7)
    for ax in axes[:2]:
        ax.set_xscale("symlog", base=2, linthresh=1)
        ax.set_xlim(0, 72)
        ax.set_xticks([0, 1, 4, 16, 64], ["0", "1", "4", "16", "64"])
    axes[2].set_yticks(range(len(attacks)), attacks)
    axes[2].invert_yaxis()
    axes[2].set(title="Other attacks", xlabel="fact recall", xlim=(-0.02, 1.04))
    for ax in axes:
        ax.grid(alpha=0.3)
    figure.legend(*axes[0].get_legend_handles_labels(), loc="outside lower center", ncols=7, fontsize=8)
    figure.savefig(path, dpi=150, format="png")
    plt.close(figure)


def plot_proxy(audits, path):
    """The classifier beside exact attribution: sample by sample, along the iterations, its calibration, and owner by owner if that is known.

    audits: as above. Samples, reliability and owners are the first one's; correlations are medians.
    """
    first = audits[0]["proxy"]
    labels = {"added": "what a response adds", "response": "whole response", "judge": "judge", "another seed": "exact, another seed"}
    rows = 2 if "owners" in first else 1
    figure, axes = plt.subplots(rows, 3, figsize=(12, 3.8 * rows), layout="constrained", squeeze=False)
    samples, along, reliability = axes[0]
    iterations = [name for name in first["agreement"] if name.startswith("policy, iteration")]
    for (name, label), style in zip(labels.items(), ("o", "x", "+", "s")):
        if name in ("added", "response") and iterations:
            samples.plot(first["scatter"]["exact"], first["scatter"][name], style, ms=3, alpha=0.4, label=label)
        points = [[audit["proxy"]["agreement"][i]["spearman"][name] for audit in audits if i in audit["proxy"]["agreement"]] for i in iterations]
        along.plot(range(len(points)), [median([v for v in p if v is not None] or [float("nan")]) for p in points], "-" + style, label=label)
    samples.set(title="The policy's samples", xlabel="exact attribution, nats a token", ylabel="classifier's attribution")
    along.set(title="Rank correlation with the exact one", xlabel="iteration of DareU", ylabel="Spearman", ylim=(-0.4, 1.04))
    along.set_xticks(range(len(iterations)), [name.split()[-1] for name in iterations])
    reliability.plot([0, 1], [0, 1], "k--", lw=1)
    reliability.plot(*zip(*((sure, right) for sure, right, _ in first["reliability"])), "-o", ms=4, label="unseen wordings")
    if "owners" in first:
        reliability.plot(*zip(*((sure, right) for sure, right, _ in first["owners"]["reliability"])), "-x", ms=4, label="samples: exact top-1")
        for ax, values, title in ((axes[1][0], first["owners"]["exact"], "exact attribution, nats a token"),
                                  (axes[1][1], first["owners"]["classifier"], "classifier's attribution")):
            image = ax.imshow(values, cmap="viridis", vmin=0)
            figure.colorbar(image, ax=ax, shrink=0.8)
            ax.set(title=title, xlabel="owner asked about", ylabel="attributed to owner")
        bars, kinds = axes[1][2], list(first["probes"])
        for offset, name in ((-0.2, "added"), (0.2, "response")):
            bars.barh([i + offset for i in range(len(kinds))], [median(audit["proxy"]["probes"][kind][name] for audit in audits) for kind in kinds],
                      0.38, label=labels[name])
        exact = [median(audit["proxy"]["probes"][kind]["exact"] for audit in audits) for kind in kinds]
        bars.set_yticks(range(len(kinds)), [f"{textwrap.fill(kind, 22)}\n(exact {value:.2f})" for kind, value in zip(kinds, exact)], fontsize=7)
        bars.invert_yaxis()
        bars.set(title="Responses made to mislead", xlabel="classifier's attribution", xlim=(0, 1.04))
        bars.legend(fontsize=8, loc="lower right")
    reliability.set(title="Calibration", xlabel="confidence", ylabel="share correct", xlim=(0, 1.02), ylim=(0, 1.04))
    for ax in axes[0]:
        ax.grid(alpha=0.3)
        ax.legend(fontsize=8)
    figure.savefig(path, dpi=150, format="png")
    plt.close(figure)


def plot_sequence(requests, path):
    """ToW along the requests, and below it the attribution of everyone forgotten so far. requests: what `sequence.json` holds."""
    n, owners = len(requests), [name for r in requests for name in r["owners"]]
    figure, (top, bottom) = plt.subplots(2, 1, figsize=(2.5 + 0.7 * n, 3.2 + 0.3 * len(owners)), layout="constrained", sharex=True,
                                         height_ratios=[2.4, 0.8 + 0.3 * len(owners)])
    x = range(1, n + 1)
    for name, style in (("dareu", "-o"), ("target", "k--s")):
        top.plot(x, [r["models"][name]["tow"] for r in requests], style, ms=4, label=name)
    top.set(title="Tug-of-War, of all forgotten so far", ylabel="ToW (1 is perfect)", ylim=(-0.02, 1.04))
    top.grid(alpha=0.3)
    top.legend(fontsize=8)
    grid = [[r["attribution"].get(owner, float("nan")) for r in requests] for owner in owners]
    image = bottom.imshow(grid, cmap="Reds", vmin=0, vmax=1, aspect="auto", extent=(0.5, n + 0.5, len(owners) - 0.5, -0.5))
    for i, row in enumerate(grid):
        for j, value in enumerate(row):
            if value == value:  # not yet forgotten: nan
                bottom.text(j + 1, i, f"{value:.2f}", ha="center", va="center", fontsize=8, color="white" if value > 0.6 else "black")
    bottom.set(title="attribution of the responses to each forgotten owner's prompts", xlabel="request", xticks=list(x))
    bottom.set_yticks(range(len(owners)), owners, fontsize=8)
    figure.colorbar(image, ax=bottom, label="attribution")
    figure.savefig(path, dpi=150, format="png")
    plt.close(figure)
