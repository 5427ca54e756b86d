"""The constants of the objective: what the paper gives, and what of it may be told otherwise."""

from __future__ import annotations

import math
from typing import Annotated, Literal

import msgspec

from poco.errors import SettingsError
from poco.learner.critic import Aggregate, CriticLoss

Method = Literal["poco", "poco-noclip", "poco-noestep", "qc", "bc"]
Phase = Literal["frozen", "cloning", "learning"]
"""What an update does to the actor: nothing, behaviour cloning only, or what the method says."""

Positive = Annotated[float, msgspec.Meta(gt=0.0)]
Fraction = Annotated[float, msgspec.Meta(ge=0.0, le=1.0)]


class AgentSettings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The objective and its constants; the defaults are those of the paper.

    posterior_states: so many states of a batch get candidates, which cost most of an update; 0 (paper) for all of them.
    method: "poco"; "poco-noclip" (zeta off); "poco-noestep" (uniform weights instead of the posterior's); "qc" (Q-chunking: a
    cloned actor, acting and bootstrapping with the best of N); "bc" (the anchor alone). zeta <= 0 turns clipping off. anchor:
    cloning on all windows (paper) or on those of successful episodes. time_limit: an episode that ran out of time goes on in
    the target ("bootstrap", paper) or was in vain ("failure"). step_cost is taken off the raw reward of each step. Candidates that
    weigh less than weightless are left out of the M-step, which moves its gradient by less than N * weightless times the
    largest gradient of a candidate's loss; 0 keeps all.
    critic_reads: the critic reads single actions (paper), or also what would remain to the target after each of them.
    critic_clock_steps: the critic also sees which part of so many steps is over, what "failure" makes part of the state; 0
    (paper) for no clock. The actor never sees it. endings: a window that its episode cut off is left out of the critic's loss
    (paper), so that the states less than E steps before an end are bootstrapped from but never learned; or "completed": the
    actions that were not lived to are those of a sample of the policy.
    """

    method: Method = "poco"
    candidates: Annotated[int, msgspec.Meta(ge=2, le=1024)] = 32
    posterior_states: Annotated[int, msgspec.Meta(ge=0)] = 0
    eta: Positive = 0.001
    beta: Annotated[float, msgspec.Meta(ge=0.0)] = 1.0
    zeta: float = 0.15
    aggregate: Aggregate = "mean"
    discount: Fraction = 0.99
    target_rate: Fraction = 0.005
    anchor: Literal["all", "successes"] = "all"
    time_limit: Literal["bootstrap", "failure"] = "bootstrap"
    critic_loss: CriticLoss = "mse"
    critic_hidden_sizes: tuple[int, ...] = (512, 512, 512, 512)
    critic_heads: int = 2
    critic_reads: Literal["actions", "remaining"] = "actions"
    critic_clock_steps: Annotated[int, msgspec.Meta(ge=0)] = 0
    endings: Literal["left_out", "completed"] = "left_out"
    actor_learning_rate: Positive = 3e-4
    critic_learning_rate: Positive = 3e-4
    step_cost: Annotated[float, msgspec.Meta(ge=0.0)] = 0.0
    weightless: Annotated[float, msgspec.Meta(ge=0.0, le=1e-3)] = 1e-6

    def __post_init__(self) -> None:
        """Refuse what contradicts itself; raises SettingsError."""
        if self.critic_loss == "bce" and self.step_cost > 0.0:
            raise SettingsError(
                f"step_cost is {self.step_cost}, but critic_loss bce needs values in 0 to 1: set step_cost to 0"
            )
        if math.isnan(self.zeta):
            raise SettingsError("zeta is not a number: give the largest candidate loss that counts, or 0 for no clip")

    @property
    def clip(self) -> float:
        """Largest candidate loss that counts; infinite without clipping."""
        return math.inf if self.method == "poco-noclip" or self.zeta <= 0.0 else self.zeta

    @property
    def posterior(self) -> bool:
        """Whether the M-step has a posterior term at all."""
        return self.method.startswith("poco") and self.beta > 0.0
