"""The figure of a run (needs matplotlib, the `plot` extra). Takes only numbers and writes only the file."""

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt


def plot_run(log, models, path):
    """Scores along the RL iterations: ToW and attribution on the left; forget, retain and test beside the retrained model's.

    log: the dicts of `log.jsonl`; models: those of `results.json`. Line styles and markers differ, so it reads in grey.
    """
    points = [(0, models["target"])] + [(row["iteration"], row["scores"]) for row in log if "scores" in row]
    x = [iteration for iteration, _ in points]
    figure, (left, right) = plt.subplots(1, 2, figsize=(10, 4), layout="constrained")
    left.plot(x, [scores["tow"] for _, scores in points], "k-o", label="Tug-of-War (1 is perfect)")
    left.plot(x, [scores["attribution"] for _, scores in points], "--s", color="tab:red", label="attribution, greedy responses")
    left.plot([row["iteration"] for row in log], [row["attribution"] for row in log], ":", color="tab:red", label="attribution, rollouts")
    left.set(title="Unlearning", ylabel="score (0 to 1)")
    for name, style, color in (("forget", "-o", "tab:red"), ("retain", "-s", "tab:blue"), ("test", "-^", "tab:green")):
        right.plot(x, [scores[name] for _, scores in points], style, color=color, label=name)
        right.axhline(models["retrained"][name], ls="--", lw=1, color=color)
    right.plot([], [], "k--", lw=1, label="retrained model")
    right.set(title="Beside the retrained model", ylabel="ROUGE-L recall (0 to 1)")
    for axes in (left, right):
        axes.set(xlabel="RL iteration (0: target model)", ylim=(-0.02, 1.04))
        axes.grid(alpha=0.3)
        axes.legend(fontsize=8)
    figure.savefig(path, dpi=150, format="png")
    plt.close(figure)
