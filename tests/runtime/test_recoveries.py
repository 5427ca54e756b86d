"""Which fault the arm may recover from by itself: lost communication and discontinuities, a few times; nothing else on an arm."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest

from poco.arm_settings import RobotSettings
from poco.errors import FaultError
from poco.hw.arm_facts import ArmFacts
from poco.hw.fault_script import Drop, Entry
from poco.hw.task_signals import EmulatorSignals
from poco.runtime.recoveries import DELAY_S, REPEAT_S, REPEATS_MAX, Recoveries
from poco.runtime.run_folder import Fault, Recovery, Reflex, RunFolder
from poco.runtime.supervisor import INTERRUPTED_EXIT
from poco.settings import read_settings
from poco.trouble import BY_NAME
from programs import ROOT, StartProgram
from runs import chunks_made

COMMUNICATION = {"communication_constraints_violation"}


def robot(*, automatic: bool = False, count: int = 3) -> RobotSettings:
    """Return the packaged settings with `automatic` recovery and `count` retries in 300 s."""
    settings = read_settings(ROOT / "configs" / "fr3_peg_in_hole.yaml", {"robot.retries.count": str(count)}).robot
    return msgspec.structs.replace(settings, automatic_recovery=automatic)


def recovered(recoveries: Recoveries, errors: set[str], now_s: float) -> bool:
    """Suffer an arm_error of `errors` at `now_s` and be well again; return whether it was recovered."""
    first = recoveries.due(BY_NAME["arm_error"], errors, now_s)
    second = recoveries.due(BY_NAME["arm_error"], errors, now_s + DELAY_S + 0.1)
    recoveries.well()
    return second and not first


def test_communication_is_retried_within_its_budget() -> None:
    """Three in five minutes and no fourth; once the oldest is older than that, one more."""
    recoveries = Recoveries(robot())
    assert [recovered(recoveries, COMMUNICATION, now_s) for now_s in (0.0, 10.0, 20.0)] == [True] * 3
    with pytest.raises(FaultError, match=r"3 retries in 300 s are spent"):
        recovered(recoveries, COMMUNICATION, 200.0)
    recoveries.well()
    assert recovered(recoveries, {"joint_motion_generator_acceleration_discontinuity"}, 302.0)
    with pytest.raises(FaultError, match="spent"):
        recovered(recoveries, COMMUNICATION, 303.0)


@pytest.mark.parametrize(
    "errors",
    [{"joint_reflex"}, {"power_limit_violation"}, {"cartesian_reflex", *COMMUNICATION}, set()],
    ids=["reflex", "power", "reflex and communication", "nothing"],
)
def test_nothing_else_is_retried(errors: set[str]) -> None:
    """A reflex, also beside lost packets, and a stop for no reason that is known wait for a person."""
    with pytest.raises(FaultError, match=", ".join(sorted(errors)) or "no reason given"):
        recovered(Recoveries(robot()), errors, 0.0)


@pytest.mark.parametrize("trouble", ["user_stopped", "arm_silent", "hold_timeout", "jerk_limit"])
def test_other_troubles_end_the_run_at_once(trouble: str) -> None:
    """No delay, no retry."""
    with pytest.raises(FaultError):
        Recoveries(robot()).due(BY_NAME[trouble], COMMUNICATION, 0.0)


def test_no_budget_is_no_retry_and_a_recovery_that_does_not_help_is_given_up() -> None:
    """Count 0 never recovers; a fault that stays is tried REPEATS_MAX times, as one retry."""
    with pytest.raises(FaultError):
        recovered(Recoveries(robot(count=0)), COMMUNICATION, 0.0)
    recoveries, now_s, done = Recoveries(robot(count=1)), 0.0, 0
    for _ in range(REPEATS_MAX + 1):
        done += recoveries.due(BY_NAME["arm_error"], COMMUNICATION, now_s)
        now_s += REPEAT_S + 0.1
    assert done == REPEATS_MAX
    with pytest.raises(FaultError, match="did not help"):
        recoveries.due(BY_NAME["arm_error"], COMMUNICATION, now_s)


def test_a_simulated_arm_recovers_from_anything_but_a_user_stop() -> None:
    """As often as it likes."""
    recoveries = Recoveries(robot(automatic=True))
    assert all(recovered(recoveries, {"joint_reflex"}, 10.0 * count) for count in range(20))
    with pytest.raises(FaultError):
        recoveries.due(BY_NAME["user_stopped"], set(), 0.0)


def test_an_arm_goes_on_after_lost_packets(run: StartProgram, start: StartProgram, tmp_path: Path) -> None:
    """`--robot franka`: 25 lost commands are recovered from once, and the policy goes on; what the arm said is kept."""
    host, folder = "127.0.12.44", tmp_path / "run"
    emulator = start("poco-emulator", "--host", host, "--pacing", "lockstep", "--recovery-delay-s", "0.05")
    emulator.until(lambda: "ready" in emulator.out)
    sensors = ["--sensors", f"emulator://{host}", "--task.outcome", f"emulator://{host}"]
    program = run(host, "--robot", "franka", *sensors, "--task.reset", f"emulator://{host}", "--episodes", "5")
    program.until(chunks_made(folder, 2))

    def kinds() -> list[type]:
        return [
            type(event) for event in RunFolder.open(folder).events() if isinstance(event, Fault | Recovery | Reflex)
        ]

    with EmulatorSignals(host) as signals:
        signals.inject([Entry(fault=Drop(what="commands", count=25), at=0)])
        program.until(lambda: Recovery in kinds())
        program.until(chunks_made(folder, len(RunFolder.open(folder).chunks()) + 2))
        program.end()
        assert signals.status().reflexes == 1
    assert program.wait() == INTERRUPTED_EXIT
    assert sorted(kind.__name__ for kind in kinds()) == ["Fault", "Recovery", "Reflex"]
    facts = msgspec.json.decode((folder / "arm.json").read_bytes(), type=ArmFacts)
    assert (facts.library, facts.control) == ("0.21.3", "position")
    assert facts.answered is not None
    assert min(facts.arrived, facts.answered) >= 0.9
