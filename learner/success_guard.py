"""The guard of online learning: notices that the success has fallen below where it began and asks for the best actor back."""

from __future__ import annotations

from typing import Annotated, Literal

import msgspec

Verdict = Literal["go_on", "best_so_far", "roll_back", "lower_level"]

TOLD: dict[str, str] = {
    "roll_back": "success stayed too far below the level of {:.0%}: the best actor is back, and frozen for now",
    "lower_level": "the best actor itself lies below the level, which is {:.0%} from now on: what it reaches",
}
"""What a person is told of a verdict, with the level that holds then."""

PATIENCE = 3
"""So many windows of episodes the actor stays frozen at most for want of one window that the returned actor drove."""


class GuardSettings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Success is averaged over `window` episodes; `margin` below the cloned level for more than `span` of them is too low."""

    window: Annotated[int, msgspec.Meta(ge=1, le=1000)]
    margin: Annotated[float, msgspec.Meta(ge=0.0, le=1.0)]
    span: Annotated[int, msgspec.Meta(ge=0, le=10_000)]


class GuardState(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    """What the guard remembers: recent outcomes, cloned level, best average since, episodes below in a row, returns, how many
    episodes the best actor has driven last, in a row, and for how many more a return may wait for a window of its own.

    `measured` is whether the cloned level was given, by an evaluation of the starting checkpoint; otherwise it is the success
    of the warm-up.
    """

    outcomes: list[bool] = []
    baseline: float = 0.0
    measured: bool = False
    best: float = 0.0
    below: int = 0
    roll_backs: int = 0
    by_best: int = 0
    awaiting: int = 0

    @property
    def recent(self) -> float:
        """Success over the remembered episodes, 0 if there are none."""
        return sum(self.outcomes) / len(self.outcomes) if self.outcomes else 0.0


def judge(
    state: GuardState, settings: GuardSettings, success: bool, warming_up: bool, by_best: bool = False
) -> Verdict:
    """Enter one outcome into `state` and say what follows from it; the learner calls it after every episode.

    During the warm-up the actor is still the one that was cloned: it is the best so far, and its success the cloned level. A
    warm-up shorter than the window counts for the best average as if its missing episodes had failed. `by_best` is whether the best
    actor has driven this episode. If it has driven a whole window and lies too low itself, as under a level that was measured too
    high by luck, there is nothing to return to: the level becomes what it reaches. After a return nothing is judged, and the
    learner keeps the actor frozen, until the returned actor has filled the window; a level above that becomes what it reached.
    """
    state.by_best = state.by_best + 1 if by_best else 0
    if state.awaiting:
        return _watch_returned(state, settings, success, by_best)
    state.outcomes = [*state.outcomes, success][-settings.window :]
    if warming_up:
        state.best = sum(state.outcomes) / settings.window
        if not state.measured:
            state.baseline = state.recent
        return "best_so_far"
    if len(state.outcomes) < settings.window:
        return "go_on"
    if state.recent > state.best:
        state.best, state.below = state.recent, 0
        return "best_so_far"
    state.below = state.below + 1 if state.recent < state.baseline - settings.margin else 0
    if state.below <= settings.span:
        return "go_on"
    if state.by_best >= settings.window:
        return _lower_level(state)
    state.outcomes, state.below = [], 0
    state.awaiting = PATIENCE * settings.window
    state.roll_backs += 1
    return "roll_back"


def _watch_returned(state: GuardState, settings: GuardSettings, success: bool, by_best: bool) -> Verdict:
    """Fill the window with what the returned actor drove, and with nothing of robots that do not have it yet."""
    state.awaiting -= 1
    if by_best:
        state.outcomes = [*state.outcomes, success]
    if len(state.outcomes) < settings.window:
        return "go_on"
    state.awaiting = 0
    return _lower_level(state) if state.recent < state.baseline else "go_on"


def _lower_level(state: GuardState) -> Verdict:
    state.baseline, state.best, state.below = state.recent, min(state.best, state.recent), 0
    return "lower_level"
