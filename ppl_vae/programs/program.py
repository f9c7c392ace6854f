"""A plain Pyro function as an `nn.Module`, and which program of a pair owns which tensor."""

import contextlib
import sys
import weakref
from collections.abc import Iterator
from operator import attrgetter
from typing import Any

import pyro
import torch
from pyro import poutine
from torch import Tensor, nn
from torch.distributions import transform_to
from torch.distributions.constraints import Constraint

from ppl_vae.core.errors import InputError
from ppl_vae.programs.layout import takes_samples
from ppl_vae.programs.scores import Batch, ProgramLike
from ppl_vae.programs.state import buffers_kept


class Program(nn.Module):
    """A Pyro function as a module that owns its parameters.

    `fn` is run once on `example`. The modules that it gives to `pyro.module`, and its free `pyro.param`s as
    unconstrained `nn.Parameter`s, become part of this module, which from then on answers these statements itself. So
    Pyro's global parameter store is not used, and `parameters()`, `state_dict()` and `to()` work as in any module.

    Args:
        fn: a function or method `fn(*batch)` made of Pyro statements.
        example: a batch; it is used only to run `fn` once.
    """

    def __init__(self, fn: ProgramLike, example: Batch) -> None:
        super().__init__()
        self.fn = [fn]  # in a list: a module stored as an attribute would be registered whole
        self.vectorized = takes_samples(fn)
        self.constraints: dict[str, Constraint] = {}
        found = _Find()
        with pyro.get_param_store().scope(), poutine.block(), torch.no_grad(), found, found.kept:
            trace = poutine.trace(fn).get_trace(*example)
        self.owned = nn.ModuleDict({name.replace(".", "_"): module for name, module in found.modules.items()})
        self.free = nn.ParameterDict()
        for name, constraint in found.constraints.items():
            self.constraints[name] = constraint
            value = transform_to(constraint).inv(trace.nodes[name]["value"].detach())
            self.free[name.replace(".", "_")] = nn.Parameter(value.clone())

    def forward(self, *batch: Tensor) -> Any:
        with _Answer(self):
            return self.fn[0](*batch)

    def param(self, name: str) -> Tensor | None:
        """The constrained value of one `pyro.param`, or None if this program does not own it."""
        module, divider, key = name.partition("$$$")
        if divider and module.replace(".", "_") in self.owned:
            # looked up each time: load_state_dict(assign=True) replaces the parameter
            value = unconstrained = attrgetter(key)(self.owned[module.replace(".", "_")])
        elif name in self.constraints:
            unconstrained = self.free[name.replace(".", "_")]
            value = transform_to(self.constraints[name])(unconstrained)
        else:
            return None
        # SVI reads this attribute of a param site
        value.unconstrained = weakref.ref(unconstrained)
        return value

    def share(self, other: "Program") -> None:
        """Use the other program's free `pyro.param`s of the same name, since in Pyro one name is one parameter."""
        for name in self.constraints.keys() & other.constraints.keys():
            self.free[name.replace(".", "_")] = other.free[name.replace(".", "_")]


class _Answer(poutine.messenger.Messenger):
    def __init__(self, program: Program) -> None:
        super().__init__()
        self.program = program

    def _pyro_param(self, msg: dict) -> None:
        if (value := self.program.param(msg["name"])) is not None:
            msg["value"], msg["done"] = value, True


class _Find(poutine.messenger.Messenger):
    """Collect free params, and the modules that are given to `pyro.module`.

    `pyro.module` sends no message of its own, so that the module is read from its stack frame.
    """

    def __init__(self) -> None:
        super().__init__()
        self.modules: dict[str, nn.Module] = {}
        self.kept = contextlib.ExitStack()
        self.constraints: dict[str, Constraint] = {}

    def _pyro_param(self, msg: dict) -> None:
        frame = sys._getframe()
        while frame is not None and frame.f_code is not pyro.module.__code__:
            frame = frame.f_back  # type: ignore[assignment]
        if frame is None:  # the first statement of a param names its constraint, later ones need not
            self.constraints.setdefault(msg["name"], msg["kwargs"]["constraint"])
        elif frame.f_locals["name"] not in self.modules:
            module = self.modules[frame.f_locals["name"]] = frame.f_locals["nn_module"]
            self.kept.enter_context(buffers_kept(module))


def owned(model: nn.Module, guide: nn.Module, borrower: str = "guide") -> Iterator[tuple[str, Tensor]]:
    """Every parameter and buffer of the pair, each once, named `model.…` or `guide.…` after its owner.

    Args:
        borrower: `model` or `guide`: the program that may use tensors of the other without owning them.
    """
    programs = {"model": model, "guide": guide}
    lender = "guide" if borrower == "model" else "model"
    seen: set[int] = set()
    for kind in (lender, borrower):
        state = programs[kind].state_dict(keep_vars=True)
        for name, tensor in state.items():
            if id(tensor) not in seen:
                seen.add(id(tensor))
                yield f"{kind}.{name}", tensor


def owner_of(name: str) -> str:
    """The owner of a tensor that `owned` names: `model` or `guide`; for another name, what stands before its dot."""
    return name.partition(".")[0]


def parameters(model: nn.Module, guide: nn.Module, borrower: str = "guide") -> dict[str, nn.Parameter]:
    """The parameters of the pair that are trained, each once, by the names of `owned`."""
    return {
        name: tensor
        for name, tensor in owned(model, guide, borrower)
        if isinstance(tensor, nn.Parameter) and tensor.requires_grad
    }


def load_owned(model: nn.Module, guide: nn.Module, state: dict[str, Tensor], borrower: str = "guide") -> None:
    """Copy the `model.…` and `guide.…` tensors of a saved state into the pair, in place.

    Raises:
        InputError: the names or shapes differ from those of the pair.
    """
    mine = dict(owned(model, guide, borrower))
    state = {name: t for name, t in state.items() if owner_of(name) in ("model", "guide")}
    if strange := sorted(set(mine) ^ set(state)):
        raise InputError(
            f"the saved state and the programs differ in {', '.join(strange[:4])}: give the programs that were saved"
        )
    for name, tensor in mine.items():
        if tensor.shape != state[name].shape:
            raise InputError(
                f"{name} has the shape {tuple(tensor.shape)}, but was saved with {tuple(state[name].shape)}: give the "
                "programs the settings that they were saved with"
            )
    with torch.no_grad():
        for name, tensor in mine.items():
            tensor.copy_(state[name])
