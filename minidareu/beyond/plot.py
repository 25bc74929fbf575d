"""Figures of the audit (need matplotlib, the `plot` extra)."""

import textwrap
from statistics import median

from ..report.plot import line_style, new_figure

LABELS = {"classifier": "classifier", "judge": "judge", "another seed": "exact, another seed"}


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


def plot_proxy(audits, path):
    """The classifier beside exact attribution: sample by sample, along the updates of DareU+, its
    calibration, and owner by owner if that is known.

    audits: as above. Samples, reliability and owners are the first one's; correlations are medians.
    """
    first = audits[0]["proxy"]
    rows = 2 if "owners" in first else 1
    figure, axes = new_figure(rows, 3, size=(12, 3.8 * rows), squeeze=False)
    plot_agreement(axes[0][0], axes[0][1], audits)
    reliability = axes[0][2]
    reliability.plot([0, 1], [0, 1], "k--", lw=1)
    x, y, _ = zip(*first["reliability"], strict=True)
    reliability.plot(x, y, "-o", ms=4, label="unseen wordings")
    if "owners" in first:
        x, y, _ = zip(*first["owners"]["reliability"], strict=True)
        reliability.plot(x, y, "-x", ms=4, label="samples: exact top-1")
        plot_owners(figure, axes[1], audits)
    reliability.set(title="Calibration", xlabel="confidence", ylabel="share correct")
    reliability.set(xlim=(0, 1.02), ylim=(0, 1.04))
    for ax in axes[0]:
        ax.grid(alpha=0.3)
        ax.legend(fontsize=8)
    figure.savefig(path, dpi=150, format="png")


def plot_agreement(samples, along, audits):
    """Attributions of the policy's samples, and rank correlations along the updates."""
    first = audits[0]["proxy"]
    updates = [name for name in first["agreement"] if name.startswith("DareU+, update")]
    for (name, label), style in zip(LABELS.items(), "o+s", strict=True):
        if name == "classifier" and updates:
            exact, values = first["scatter"]["exact"], first["scatter"][name]
            samples.plot(exact, values, style, ms=3, alpha=0.4, label=label)
        columns = []
        for update in updates:
            found = [audit["proxy"]["agreement"] for audit in audits]
            columns.append([f[update]["spearman"][name] for f in found if update in f])
        along.plot(range(len(columns)), medians(columns), "-" + style, label=label)
    samples.set(title="The policy's samples", xlabel="exact attribution, nats a token")
    samples.set(ylabel="classifier's attribution")
    along.set(title="Rank correlation with the exact one", xlabel="update of DareU+")
    along.set(ylabel="Spearman", ylim=(-0.4, 1.04))
    along.set_xticks(range(len(updates)), [name.split()[-1] for name in updates])


def plot_owners(figure, axes, audits):
    """Maps of attribution, owner by owner, and responses that were made to mislead."""
    first = audits[0]["proxy"]
    maps = {"exact": "exact attribution, nats a token", "classifier": "classifier's attribution"}
    for ax, (name, title) in zip(axes, maps.items(), strict=False):
        image = ax.imshow(first["owners"][name], cmap="viridis", vmin=0)
        figure.colorbar(image, ax=ax, shrink=0.8)
        ax.set(title=title, xlabel="owner asked about", ylabel="attributed to owner")
    bars, kinds = axes[2], list(first["probes"])
    for offset, name in ((-0.2, "classifier"), (0.2, "judge")):
        values = medians([[a["proxy"]["probes"][kind][name] for a in audits] for kind in kinds])
        bars.barh([i + offset for i in range(len(kinds))], values, 0.38, label=LABELS[name])
    exact = medians([[a["proxy"]["probes"][kind]["exact"] for a in audits] for kind in kinds])
    labels = [
        f"{textwrap.fill(kind, 22)}\n(exact {value:.2f})"
        for kind, value in zip(kinds, exact, strict=True)
    ]
    bars.set_yticks(range(len(kinds)), labels, fontsize=7)
    bars.invert_yaxis()
    bars.set(title="Responses made to mislead", xlabel="attribution", xlim=(0, 1.04))
    bars.legend(fontsize=8, loc="lower right")
