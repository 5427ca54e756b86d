"""Who may recover an arm that has stopped: itself where that is configured and harmless, a person otherwise."""

from __future__ import annotations

from collections.abc import Collection

from poco.arm_settings import RobotSettings
from poco.errors import FaultError
from poco.trouble import BY_NAME, Trouble, describe

DELAY_S = 0.5
"""Between a fault and the first recovery: time for the arm to come to rest and to say why it stopped."""

REPEAT_S = 5.0
REPEATS_MAX = 5

HARMLESS = frozenset(
    {
        "communication_constraints_violation",
        "joint_motion_generator_velocity_discontinuity",
        "joint_motion_generator_acceleration_discontinuity",
        "controller_torque_discontinuity",
    }
)
"""What the arm reports where packets were lost or late; a collision, a limit or a person's stop is none of these."""


class Recoveries:
    """Decides about one fault after the other; belongs to the supervisor, which tells the time (s) and recovers."""

    def __init__(self, settings: RobotSettings) -> None:
        self._settings = settings
        self._at_s: float | None = None
        self._repeats = 0
        self._retried_s: list[float] = []

    @property
    def noticed(self) -> bool:
        """Whether the present fault was asked about before."""
        return self._at_s is not None

    def well(self) -> None:
        """Note that there is no fault."""
        self._at_s, self._repeats = None, 0

    def due(self, trouble: Trouble, errors: Collection[str], now_s: float) -> bool:
        """Return whether to recover from `trouble` now; `errors` are what the arm has said of its reflex so far.

        Raises FaultError where a person has to.
        """
        by_itself = self._settings.automatic_recovery and trouble != BY_NAME["user_stopped"]
        if not by_itself and trouble != BY_NAME["arm_error"]:
            raise FaultError(f"the run ends with a latched fault: {describe(trouble.code)}")
        if self._at_s is None:
            self._at_s = now_s + DELAY_S
            return False
        if now_s <= self._at_s:
            return False
        if self._repeats >= REPEATS_MAX:
            raise FaultError(f"{REPEATS_MAX} recoveries did not help: {describe(trouble.code)}")
        if not by_itself and self._repeats == 0:
            self._spend(trouble, errors, now_s)
        self._repeats += 1
        self._at_s = now_s + REPEAT_S
        return True

    def _spend(self, trouble: Trouble, errors: Collection[str], now_s: float) -> None:
        """Take one retry from the budget, if `errors` may be retried at all and one is left."""
        budget = self._settings.retries
        said = f"the run ends with a latched fault: {describe(trouble.code)} ({', '.join(sorted(errors)) or 'no reason given'})"
        if not errors or not HARMLESS.issuperset(errors) or budget.count == 0:
            raise FaultError(said)
        self._retried_s = [at_s for at_s in self._retried_s if now_s - at_s < budget.window_s]
        if len(self._retried_s) >= budget.count:
            raise FaultError(
                f"{said}, for which {budget.count} retries in {budget.window_s:g} s are spent (robot.retries)"
            )
        self._retried_s.append(now_s)
