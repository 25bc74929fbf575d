"""Numbers and tables as Markdown."""

from statistics import median


def spread(values) -> str:
    """Median and range of the values that are not None."""
    values = [value for value in values if value is not None]
    if not values:
        return "-"
    if len(values) == 1:
        return short(values[0])
    middle, low, high = (short(value) for value in (median(values), min(values), max(values)))
    return f"{middle} ({low} to {high})"


def short(value) -> str:
    """A number with three decimals; a large one without."""
    return f"{value:.3f}" if abs(value) < 100 else f"{value:,.0f}"


def table(head, rows) -> list[str]:
    """Lines of a Markdown table."""
    lines = [head, ["---"] * len(head), *rows]
    return ["", *("| " + " | ".join(cells) + " |" for cells in lines)]
