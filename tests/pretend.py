"""A device that is not there: its tensors lie in memory like all others, and refuse to meet them.

    python tests/pretend.py train.py --data ...      a command of the project on it
    python tests/pretend.py train.py ... then ...    several, one after the other

So a `.to(device)` that is missing is an error here as it is on a GPU.
"""

import runpy
import sys

import torch
from torch.overrides import TorchFunctionMode
from torch.utils import _pytree as pytree
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.backend_registration import _setup_privateuseone_for_python_backend

NAME = "pretend"
_setup_privateuseone_for_python_backend(NAME)
torch.pretend.get_rng_state = lambda device: torch.empty(0)  # its random numbers are the CPU's
torch.pretend.set_rng_state = lambda state, device: None
MAY_MEET = {"aten.copy_.default", "aten._to_copy.default"}


class Far(torch.Tensor):
    """A tensor of the pretended device. `near` holds its numbers."""

    @staticmethod
    def __new__(cls, near):
        return torch.Tensor._make_wrapper_subclass(
            cls,
            near.size(),
            strides=near.stride(),
            storage_offset=near.storage_offset(),
            dtype=near.dtype,
            device=torch.device(NAME, 0),
            requires_grad=near.requires_grad,
        )

    def __init__(self, near):
        self.near = near.detach()

    def __reduce_ex__(self, protocol):  # in a checkpoint it is a tensor like all others
        return self.near.__reduce_ex__(protocol)

    def tolist(self):
        return self.near.tolist()

    def __repr__(self):
        return f"Far({self.near})"

    @classmethod
    def __torch_dispatch__(cls, func, types, args=(), kwargs=None):
        return run(func, args, kwargs or {})


def is_far(device):
    return device is not None and torch.device(device).type == NAME


def run(func, args, kwargs):
    """An operation on the near tensors, its result far where its tensors or its `device` are."""
    tensors = [x for x in pytree.tree_leaves((args, kwargs)) if isinstance(x, torch.Tensor)]
    far = [x for x in tensors if isinstance(x, Far)]
    near = [x for x in tensors if not isinstance(x, Far) and x.dim() > 0]
    # A GPU too takes an index that lies in memory.
    indexed = str(func) == "aten.index.Tensor" and isinstance(args[0], Far)
    if far and near and str(func) not in MAY_MEET and not indexed:
        raise RuntimeError(f"{func}: tensors on two devices, {NAME} and cpu")
    to = kwargs.get("device")
    result_is_far = is_far(to) if to is not None else bool(far)
    if str(func) == "aten.copy_.default":
        result_is_far = isinstance(args[0], Far)
    kwargs = {**kwargs, "device": "cpu"} if is_far(to) else kwargs
    near_args, near_kwargs = pytree.tree_map_only(Far, lambda x: x.near, (args, kwargs))
    result = func(*near_args, **near_kwargs)
    same = {id(x.near): x for x in far}  # an operation in place gives its own tensor back

    def wrap(x):
        return same.get(id(x)) if id(x) in same else Far(x)

    return pytree.tree_map_only(torch.Tensor, wrap, result) if result_is_far else result


class Everywhere(TorchDispatchMode):
    """Catches what makes or moves tensors, whose arguments are none of the device's yet."""

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        return run(func, args, kwargs or {})


class FromLists(TorchFunctionMode):
    """Lists become tensors past all dispatch, in `torch.tensor` and as an index: here they are made
    near and moved."""

    def __torch_function__(self, func, types, args=(), kwargs=None):
        kwargs = kwargs or {}
        if func is torch.tensor and is_far(kwargs.get("device")):
            return torch.tensor(*args, **{**kwargs, "device": "cpu"}).to(NAME)
        if func is torch.Tensor.__getitem__ and isinstance(args[0], Far):
            parts = args[1] if isinstance(args[1], tuple) else (args[1],)
            index = [torch.tensor(x).to(NAME) if isinstance(x, list) else x for x in parts]
            args = (args[0], tuple(index))
        return func(*args, **kwargs)


def main():
    """Run commands of the project with this device as the only one; attacks are short."""
    from minidareu.beyond import attacks
    from minidareu.run import prepare

    attacks.SAMPLES, attacks.RELEARNED = 2, {"half of D_F": (0.5, 2)}
    prepare.pick_device = lambda name: NAME
    with Everywhere(), FromLists():
        rest = sys.argv[1:]
        while rest:
            end = rest.index("then") if "then" in rest else len(rest)
            sys.argv, rest = rest[:end], rest[end + 1 :]
            print("pretend:", *sys.argv, file=sys.stderr)
            if sys.argv[0].endswith(".py"):
                runpy.run_path(sys.argv[0], run_name="__main__")
            else:
                runpy.run_module(sys.argv[0], run_name="__main__", alter_sys=True)


if __name__ == "__main__":
    main()
