"""All methods by name. Each is called alike: unlearn(policy, task, config) yields a dict of figures
after each update, and makes `policy`, a copy of the original model, forget.

A method of one's own joins as METHODS["mine"] = unlearn.
"""

from collections.abc import Callable

from .. import baselines, dareu, newton
from ..beyond import dareu_plus
from ..files import InputError
from .flags import Config

METHODS: dict[str, Callable] = {
    "dareu": dareu.unlearn,
    "dareu_plus": dareu_plus.unlearn,
    "scrn": newton.unlearn,
    **baselines.METHODS,
}


def method_names(config: Config) -> list[str]:
    """The names of --methods, each once. Raises InputError."""
    names = list(dict.fromkeys(name.strip() for name in config.methods.split(",")))
    for name in names:
        if name not in METHODS:
            raise InputError(
                f"--methods: no method is called {name!r}; choose from {', '.join(METHODS)}"
            )
    config.methods = ",".join(names)
    return names
