"""Events of a run on their way into the journal."""

from __future__ import annotations

from poco.journal.records import EventKind, Noted
from poco.runtime.run_events import (
    CameraFresh,
    CameraOpened,
    CameraStale,
    GripperDone,
    GripperFresh,
    GripperReady,
    GripperStale,
    GripperTold,
    InferenceOpened,
    WeightsMoved,
)
from poco.runtime.run_folder import (
    Event,
    Fault,
    GenerationMoved,
    HandsLost,
    Hold,
    PolicyRestart,
    PolicyStall,
    Recovery,
    Reflex,
    SupervisorStall,
)

TEXT_MAX = 1000


def noted(event: Event, generation: int) -> Noted | None:
    """Return `event` as the journal keeps it; None for one that steps and ends of episodes tell already."""
    kind: EventKind
    match event:
        case Fault(text=text):
            kind = "fault"
        case Hold(text=text):
            kind = "hold"
        case Reflex(errors=errors):
            kind, text = "stop", ", ".join(errors)
        case Recovery(automatic=automatic):
            kind, text = "recovery", "by itself" if automatic else "by an operator"
        case GenerationMoved():
            kind = "swap"
            text = f"generation {event.generation} from {event.before} to {event.after} ({event.reason})"
        case WeightsMoved():
            kind = "swap"
            what = f"weights of generation {event.generation}, {event.weights}"
            text = f"{what}, from {event.before} to {event.after} ({event.reason})"
        case HandsLost(reason=text):
            kind = "note"
        case PolicyStall(silent_s=silent_s):
            kind, text = "gap", f"the policy gave no sign of life for {silent_s:.1f} s"
        case PolicyRestart(start=start, reason=reason):
            kind, text = "gap", f"the policy is started again, time {start}, its episode begins again ({reason})"
        case SupervisorStall(silent_s=silent_s, ticks_dropped=dropped):
            kind, text = "gap", f"the supervisor stood still for {silent_s:.1f} s, {dropped} ticks were not kept"
        case CameraOpened(camera=camera, facts=facts):
            kind, text = "note", f"camera {camera}: " + ", ".join(f"{name} {value}" for name, value in facts.items())
        case CameraStale(reason=reason):
            kind, text = "hold", reason
        case CameraFresh(camera=camera):
            kind, text = "note", f"camera {camera} may be acted on again"
        case InferenceOpened(facts=facts, remark=remark):
            kind, text = "note", f"computed by {', '.join(facts.values())}" + (f" ({remark})" if remark else "")
        case GripperReady(facts=facts):
            kind, text = "note", "gripper: " + ", ".join(f"{name} {value}" for name, value in facts.items())
        case GripperTold(order=order, width_m=width_m):
            kind, text = "note", f"gripper told to {order}" + (f" to {width_m:.4f} m" if order == "move" else "")
        case GripperDone(order=order, outcome=outcome, width_m=width_m, took_s=took_s, text=why):
            kind = "fault" if outcome == "failed" else "note"
            text = f"gripper {order} {outcome} after {took_s:.2f} s at {width_m:.4f} m" + (f" ({why})" if why else "")
        case GripperStale(reason=reason):
            kind, text = "hold", reason
        case GripperFresh():
            kind, text = "note", "the gripper is heard of again"
        case _:
            return None
    return Noted(event=kind, tick=event.tick, generation=generation, text=text[:TEXT_MAX])
