"""Is the trend the paper's? Computed from the numbers, never written by hand.

Every pair of rows that both have is compared: the paper says which of the two is higher. A pair is
*told apart* by us where all seeds of the one are above all seeds of the other.
"""

from itertools import combinations

from .columns import middle


def sign(a, b):
    return (a > b) - (a < b)


def told_apart(a, b):
    """1 where all values of a are above all of b, -1 where below, 0 where they overlap."""
    if min(a) > max(b):
        return 1
    return -1 if max(a) < min(b) else 0


def count_pairs(ours, paper):
    """How many pairs of rows are ordered as in the paper, the other way, and not told apart.

    ours: {label: values, one a seed}; paper: {label: value}. A tie in the paper says nothing and
    is not counted.
    """
    same = other = open_ = 0
    for a, b in combinations([label for label in paper if label in ours], 2):
        expected = sign(paper[a], paper[b])
        if expected == 0:
            continue
        found = told_apart(ours[a], ours[b])
        same += found == expected
        other += found == -expected
        open_ += found == 0
    return same, other, open_


def compare(column, ours, paper, source="in the paper"):
    """One line on whether a column has the paper's order. None where two rows can't be compared.

    Arguments as in `count_pairs`; rows with a missing value are left out. source: whose order it
    is, where it is not the paper's.
    """
    ours = {label: values for label, values in ours.items() if None not in values}
    same, other, open_ = count_pairs(ours, paper)
    pairs = same + other + open_
    if not pairs:
        return None
    if same == pairs:
        word = "the same order"
    elif other == pairs:
        word = "the reversed order"
    elif same > pairs / 2:
        word = "mostly the same order"
    elif other > pairs / 2:
        word = "mostly the reversed order"
    else:
        word = "undecided"
    # Kendall's tau of the medians, over the pairs that the paper orders.
    medians = {label: [middle(values)] for label, values in ours.items()}
    agree, disagree, _ = count_pairs(medians, paper)
    tau = (agree - disagree) / pairs
    return (
        f"{column}: {word}. Of {pairs} pairs {same} as {source}, {other} the other way, {open_} "
        f"within the spread of the seeds; rank correlation of the medians {tau:.2f}."
    )
