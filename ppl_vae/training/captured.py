"""A step that runs the captured pass, with the fused kernel of Adam called directly."""

import math
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from ppl_vae.core.errors import NumericalError
from ppl_vae.graphs.captured import Captured
from ppl_vae.programs.scores import Batch
from ppl_vae.programs.state import buffers_kept
from ppl_vae.training.step import Step, Trainer

AGREE = {torch.float32: 1e-3, torch.float64: 1e-8}
"""How far the captured gradient may be from the program's own, as a share of its norm."""


class Differs(NumericalError):
    """The captured pass differs from the programs' own by more than rounding; the message says by how much."""


@dataclass
class CapturedTrainer(Trainer):
    """A `Trainer` whose pass is captured. Its steps and checkpoints are those of `Trainer`, up to rounding.

    The pass is compared with the programs' own at the first step and at the steps 1, 2, 4, 8, … of the training, at the
    same noise, so that a program whose Python changes from step to step is found.

    Args:
        captured: the pass of the same pair and objective.
        falls_back: where they differ, go on with the programs as they are, from this step on.
        eager_from: after so many steps the programs run as they are; None: never.
        taken: how many steps the training has taken.
        agreed: how many it had taken when both agreed last.
    """

    captured: Captured | None = None
    falls_back: bool = False
    eager_from: int | None = None
    taken: int = 0
    compared: bool = False
    agreed: int = 0

    def step(self, batch: Batch) -> Step:
        """One gradient step.

        Raises:
            NumericalError: as `Trainer.step`; or the captured pass differs from that of the programs.
        """
        if self.eager_from is not None and self.taken >= self.eager_from:
            seen = super().step(batch)
        else:
            try:
                seen = self.captured_step(batch)
            except Differs as error:
                if not self.falls_back:
                    why = "Does a statement do another thing in each step? Fit with --compile off"
                    raise NumericalError(f"{error}. {why}") from error
                self.eager_from = self.taken
                where = f"from step {self.taken + 1} on the programs are trained as they are, not compiled"
                if self.taken > self.agreed:
                    where += f"; the steps from {self.agreed + 1} on may have followed another loss"
                warnings.warn(f"{where}: {error}", stacklevel=4)
                seen = super().step(batch)
        self.taken += 1
        return seen

    def captured_step(self, batch: Batch) -> Step:
        """One gradient step by the captured pass.

        Raises:
            NumericalError: as `Trainer.step`.
            Differs: weights, buffers and noise are as before the step.
        """
        assert self.captured is not None
        before = self.noise.state()
        self.noise.begin()
        try:
            if not self.compared or self.taken & (self.taken + 1) == 0:  # 0, 1, 3, 7, ...
                self.compare(batch)
                self.compared, self.agreed = True, self.taken + 1
            numbers, gradients = self.captured(batch, self.rate_weight)
            seen = Step(*numbers.tolist())
            if not all(map(math.isfinite, seen)):
                self.noise.restore(before)
                with buffers_kept(*self.with_buffers):
                    self.backward(batch)  # which says what is not finite
                raise Differs("the captured pass gives a number that is not finite, where the programs do not")
        except BaseException:
            self.noise.restore(before)
            raise
        self.adam(gradients, seen.gradient_norm)
        return seen

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
    def adam(self, gradients: Sequence[Tensor], norm: float) -> None:
        """The step of `torch.optim.Adam(fused=True)` from gradients that are not those of `backward`."""
        parameters: list[Tensor] = list(self.parameters.values())
        state = self.optimizer.state
        for p in parameters:
            if p not in state:
                zero = torch.zeros((), dtype=torch.float32, device=p.device)
                state[p] = {"step": zero, "exp_avg": torch.zeros_like(p), "exp_avg_sq": torch.zeros_like(p)}
        first, second, steps = ([state[p][key] for p in parameters] for key in ("exp_avg", "exp_avg_sq", "step"))
        if self.clip is not None and norm > self.clip:
            gradients = torch._foreach_mul(list(gradients), self.clip / norm)
        torch._foreach_add_(steps, 1)
        torch._fused_adam_(
            parameters, list(gradients), first, second, [], steps,
            lr=self.learning_rate, beta1=0.9, beta2=0.999, weight_decay=0.0, eps=1e-8, amsgrad=False, maximize=False,
        )  # fmt: skip
