"""A step that runs the captured pass, with the fused kernel of Adam called directly."""

import contextlib
import math
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import torch
from torch import Tensor

from ppl_vae.core.errors import NumericalError
from ppl_vae.graphs.captured import Captured
from ppl_vae.programs.scores import Batch
from ppl_vae.programs.state import buffers_kept
from ppl_vae.training.step import Step, Trainer, Undone

AGREE = {torch.float32: 1e-3, torch.float64: 1e-8}
"""How far the captured gradient may be from the program's own, as a share of its norm."""


class Differs(NumericalError):
    """The captured pass differs from the programs' own by more than rounding; the message says by how much."""


class Begun(NamedTuple):
    """A step whose numbers are not read yet, and all that repeats it at the same weights."""

    numbers: Tensor
    batch: Batch
    noise: dict[str, Tensor]
    learning_rate: float
    rate_weight: float


@dataclass
class CapturedTrainer(Trainer):
    """A `Trainer` whose pass is captured. Its steps and checkpoints are those of `Trainer`, up to rounding.

    The pass is compared with the programs' own at the first step and at the steps 1, 2, 4, 8, … of the training, at the
    same noise, so that a program whose Python changes from step to step is found.

    Args:
        captured: the pass of the same pair and objective.
        falls_back: where they differ, go on with the programs as they are, from this step on.
        eager_from: after so many steps the programs run as they are; None: never.
        ahead: how many steps may have begun before the numbers of the first are read. A step that is not finite stops
            all after it on the device itself, so that more than 1 saves nothing but the waiting.
        taken: how many steps the training has taken.
        agreed: how many it had taken when both agreed last.
    """

    captured: Captured | None = None
    falls_back: bool = False
    eager_from: int | None = None
    ahead: int = 1
    taken: int = 0
    compared: bool = False
    agreed: int = 0
    begun: list[Begun] = field(default_factory=list)

    def __post_init__(self) -> None:
        super().__post_init__()
        device = next((p.device for p in self.parameters.values()), None)
        self.stopped = torch.zeros((), dtype=torch.bool, device=device) if self.ahead > 1 else None

    def step(self, batch: Batch, share: float = 1.0) -> Step:
        """One gradient step.

        Raises:
            NumericalError: as `Trainer.step`; or the captured pass differs from that of the programs.
            Undone: such a step was begun before.
        """
        if self.eager_from is not None and self.taken >= self.eager_from:
            seen = super().step(batch, share)
        else:
            try:
                seen = self.captured_step(batch) if self.world.alone else self.captured_together(batch, share)
            except Differs as error:
                self.fall_back(error)
                seen = super().step(batch, share)
        self.taken += 1
        return seen

    def fall_back(self, error: Differs) -> None:
        """Take the steps from here on by the programs as they are. Raises `NumericalError` where that is not wished."""
        if not self.falls_back:
            why = "Does a statement do another thing in each step? Fit with --compile off"
            raise NumericalError(f"{error}. {why}") from error
        self.eager_from = self.taken
        where = f"from step {self.taken + 1} on the programs are trained as they are, not compiled"
        if self.taken > self.agreed:
            where += f"; the steps from {self.agreed + 1} on may have followed another loss"
        warnings.warn(f"{where}: {error}", stacklevel=5)

    def captured_step(self, batch: Batch) -> Step:
        """One gradient step by the captured pass.

        Raises:
            NumericalError, Undone: as `step`.
            Differs: weights, buffers and noise are as before the step.
        """
        assert self.captured is not None
        looked_at = self.looked_at()
        if looked_at or len(self.begun) >= self.ahead:
            self.settle()
        before = self.noise.state()
        self.noise.begin()
        try:
            if looked_at:
                self.compare(batch)
                self.compared, self.agreed = True, self.taken + 1
            numbers, gradients = self.captured(batch, self.rate_weight, self.stopped)
            seen = Step(*numbers.tolist()) if self.stopped is None else None  # which waits for the device
            if seen is not None and not all(map(math.isfinite, seen)):
                self.noise.restore(before)
                self.explain(batch)
        except BaseException:
            self.noise.restore(before)
            raise
        self.adam(gradients, numbers[-1] if seen is None else seen.gradient_norm)
        if seen is not None:
            return seen
        assert self.stopped is not None
        self.begun.append(Begun(numbers, batch, before, self.learning_rate, self.rate_weight))
        return Step(*numbers.double().masked_fill(self.stopped, 0).unbind())  # type: ignore[arg-type]

    def captured_together(self, batch: Batch, share: float) -> Step:
        """One gradient step by the captured pass, of a batch of which this process has a share. Raises as `step`."""
        assert self.captured is not None
        before = self.noise.state()
        with contextlib.ExitStack() as stack:
            stack.callback(self.noise.restore, before)
            self.noise.begin()
            if self.looked_at():
                with self.world.agreed():
                    if share:
                        self.compare(batch)
                self.compared, self.agreed = True, self.taken + 1
            kept = buffers_kept(*self.with_buffers)
            stack.enter_context(kept)
            numbers, gradients = self.captured(batch, self.rate_weight)

            def explain() -> None:
                self.noise.restore(before)
                self.noise.begin()
                self.explain(batch)

            seen, gradients = self.reduced(numbers, gradients, share, kept, explain)
            stack.pop_all()
        self.adam(gradients, seen.gradient_norm)
        return seen

    def looked_at(self) -> bool:
        """Is the captured pass compared with that of the programs at this step, 1, 2, 4, 8, …?"""
        return not self.compared or self.taken & (self.taken + 1) == 0  # 0, 1, 3, 7, ...

    def explain(self, batch: Batch) -> None:
        """Raise what is not finite, at the present weights and noise, by the programs as they are.

        Raises:
            NumericalError: the number that it is.
            Differs: all are finite.
        """
        with buffers_kept(*self.with_buffers):
            self.backward(batch)
        raise Differs("the captured pass gives a number that is not finite, where the programs do not")

    def settle(self) -> None:
        """Read the numbers of the steps that were begun.

        Raises:
            Undone: one of them is not finite. All is as before that step.
        """
        begun, self.begun = self.begun, []
        finite = torch.stack([each.numbers for each in begun]).isfinite().all(1).tolist() if begun else []
        if all(finite):
            return
        assert self.stopped is not None
        undone = begun[finite.index(False) :]
        first = undone[0]
        self.stopped.zero_()
        self.taken -= len(undone)
        self.learning_rate, self.rate_weight = first.learning_rate, first.rate_weight
        self.noise.restore(first.noise)
        error = None
        try:
            try:
                self.explain(first.batch)
            except Differs as differs:
                self.fall_back(differs)
        except NumericalError as found:
            error = found
        self.noise.restore(first.noise)
        raise Undone(len(undone), sum(len(each.batch[0]) for each in undone), error)

    def compare(self, batch: Batch) -> None:
        """Compare the captured pass with the programs' own at the present noise, which stays where it is.

        Raises:
            Differs: by more than rounding.
        """
        assert self.captured is not None
        noise = self.noise.state()
        with buffers_kept(*self.with_buffers):
            own = self.backward(batch)
        self.noise.restore(noise)
        with buffers_kept(*self.with_buffers):
            numbers, gradients = self.captured(batch, self.rate_weight)
        self.noise.restore(noise)
        share = AGREE.get(gradients[0].dtype, 1e-2)
        pairs = zip(gradients, self.parameters.values(), strict=True)
        away = math.hypot(*((g if p.grad is None else g - p.grad).norm().item() for g, p in pairs))
        ours = numbers.tolist()
        size = max(own.gradient_norm, 1e-3 * abs(own.value) / len(batch[0]))  # a gradient can be all rounding
        far = any(abs(a - b) > share * max(1.0, abs(b)) for a, b in zip(ours, own, strict=True))
        if far or not away <= share * size:
            raise Differs(
                f"the captured pass differs from the programs' own: the gradient by {away:.3g} of its norm "
                f"{own.gradient_norm:.3g}, the value is {ours[0]:.7g} in place of {own.value:.7g}"
            )

    def load(self, tensors: Mapping[str, Tensor]) -> None:
        super().load(tensors)
        self.taken = max((int(state["step"]) for state in self.optimizer.state.values()), default=0)

    @torch.no_grad()
    def adam(self, gradients: Sequence[Tensor], norm: Tensor | float) -> None:
        """The step of `torch.optim.Adam(fused=True)` from gradients that are not those of `backward`.

        Where steps are begun ahead, the kernel itself leaves out those that are stopped.
        """
        parameters: list[Tensor] = list(self.parameters.values())
        state = self.optimizer.state
        for p in parameters:
            if p not in state:
                zero = torch.zeros((), dtype=torch.float32, device=p.device)
                state[p] = {"step": zero, "exp_avg": torch.zeros_like(p), "exp_avg_sq": torch.zeros_like(p)}
        first, second, steps = ([state[p][key] for p in parameters] for key in ("exp_avg", "exp_avg_sq", "step"))
        if self.clip is not None and isinstance(norm, Tensor):
            share = (self.clip / norm.double()).clamp(max=1).to(gradients[0].dtype)
            gradients = torch._foreach_mul(list(gradients), share)
        elif self.clip is not None and norm > self.clip:
            gradients = torch._foreach_mul(list(gradients), self.clip / norm)
        bad = None if self.stopped is None else self.stopped.float()
        torch._foreach_add_(steps, 1 if bad is None else 1 - bad)
        torch._fused_adam_(
            parameters, list(gradients), first, second, [], steps,
            lr=self.learning_rate, beta1=0.9, beta2=0.999, weight_decay=0.0, eps=1e-8, amsgrad=False, maximize=False,
            found_inf=bad,
        )  # fmt: skip
