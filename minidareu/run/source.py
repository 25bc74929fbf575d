"""Which source files a function runs through: a stage whose code was edited has to run again."""

import ast
import functools
import hashlib
import importlib.util
import inspect
import sys
import sysconfig
from pathlib import Path

PACKAGE = __name__.split(".")[0]
INSTALLED = [Path(sysconfig.get_path(name)) for name in ("stdlib", "purelib", "platlib")]


@functools.cache
def origin(module):
    """The source file of a module of this package or of the user's own; None for all others."""
    try:
        spec = importlib.util.find_spec(module)
    except (ImportError, ValueError, AttributeError):
        return None
    if spec is None or not (spec.origin or "").endswith(".py"):
        return None
    path = Path(spec.origin).resolve()
    own = module.split(".")[0] == PACKAGE
    installed = any(path.is_relative_to(folder.resolve()) for folder in INSTALLED)
    return path if own or not installed else None


@functools.cache
def imported(source, package):
    """Names of modules that a source text imports, relative ones made absolute."""
    names = []
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            names += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            parts = package.split(".")
            above = parts[: len(parts) - node.level + 1] if node.level else []
            base = ".".join([*above, *filter(None, [node.module])])
            names += [base, *(f"{base}.{alias.name}" for alias in node.names)]
    return tuple(names)


def source_files(module, path=None, found=None):
    """{module name: file} of a module and of all that it imports, installed packages aside."""
    found = {} if found is None else found
    path = path or origin(module)
    if path is None or path in found.values():
        return found
    found[module] = path
    package = module if path.name == "__init__.py" else module.rpartition(".")[0]
    for name in imported(path.read_text(encoding="utf-8"), package):
        source_files(name, found=found)
    return found


def source_digest(*functions) -> str | None:
    """A digest of all source files that these functions run through.

    None where that can't be known: a lambda, a closure, a partial, a callable object, or a function
    that was typed in.
    """
    digest = hashlib.sha256()
    for function in functions:
        plain = inspect.isfunction(function) and not function.__closure__
        if not plain or function.__name__ == "<lambda>":
            return None
        file = getattr(sys.modules.get(function.__module__), "__file__", None)
        if file is None:
            return None
        files = source_files(function.__module__, Path(file).resolve())
        for name, path in sorted(files.items()):
            digest.update(name.encode() + path.read_bytes())
        digest.update(function.__qualname__.encode())
    return digest.hexdigest()
