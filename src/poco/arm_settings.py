"""The part of the settings that is about the arm: its address, what moves it, what hangs on it, the server it may be behind."""

from __future__ import annotations

from typing import Annotated, Literal

import msgspec

from poco.limits import TORQUE_MAX_NM

Control = Literal["position", "joint_impedance", "cartesian_impedance"]
Positive = Annotated[float, msgspec.Meta(gt=0.0)]
Joints = tuple[float, float, float, float, float, float, float]
Wrench = tuple[float, float, float, float, float, float]
Gain = Annotated[float, msgspec.Meta(ge=0.0)]
JointGains = tuple[Gain, Gain, Gain, Gain, Gain, Gain, Gain]
TipGains = tuple[Gain, Gain, Gain, Gain, Gain, Gain]


class RealtimeSettings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Real-time rights of the servo process; `required` refuses to start without them."""

    priority: Annotated[int, msgspec.Meta(ge=1, le=98)]
    cpu: Annotated[int, msgspec.Meta(ge=0)] | None
    required: bool


class LoadSettings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What hangs on the flange, as the arm must know it: mass (kg), centre of mass in the flange frame (m), inertia (kg m^2)."""

    mass_kg: Annotated[float, msgspec.Meta(ge=0.0, le=7.0)]
    center_m: tuple[float, float, float]
    inertia_kg_m2: tuple[float, float, float, float, float, float, float, float, float]


class ImpedanceSettings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The servo's own law, used where `robot.control` is joint_impedance or cartesian_impedance.

    Joint impedance: `stiffness_nm_rad` and `damping_nm_s_rad`.
    Cartesian impedance: `tip_stiffness` (three of N/m, three of N m/rad) and `tip_damping` (N s/m, N m s/rad) along and about the
    axes of the base, `null_*` for the posture that the tip leaves free. `torque_max_nm` bounds every torque, gravity not counted.
    """

    stiffness_nm_rad: JointGains
    damping_nm_s_rad: JointGains
    tip_stiffness: TipGains
    tip_damping: TipGains
    null_stiffness_nm_rad: JointGains
    null_damping_nm_s_rad: JointGains
    torque_max_nm: JointGains

    def __post_init__(self) -> None:
        """Refuse torques that the arm cannot give, and a law that would hold nothing."""
        if not any(self.stiffness_nm_rad):
            raise ValueError(
                "stiffness_nm_rad is zero for every joint, one must be above 0 N m/rad, or nothing holds the arm: to lead it by "
                "hand there is poco-runtime record --hands guiding"
            )
        for joint, (torque, limit) in enumerate(zip(self.torque_max_nm, TORQUE_MAX_NM, strict=True), start=1):
            if torque > limit:
                raise ValueError(
                    f"torque_max_nm of joint {joint} is {torque:g} N m, must be at most {limit:g} N m: lower it"
                )


class GuidingSettings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How an arm that is driven by torques gives way to a hand that leads it: no stiffness but where it may not go.

    `end_nm_rad` pushes out of the last stretch before a joint's end, `wall_*` (N/m, N s/m) back into the box; `upright_*` (N m/rad,
    N m s/rad) turn the tip upright in tasks whose actions do not tilt it.
    """

    damping_nm_s_rad: JointGains
    end_nm_rad: JointGains
    wall_n_m: Gain
    wall_n_s_m: Gain
    upright_nm_rad: Gain
    upright_nm_s_rad: Gain


class RetrySettings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How often in `window_s` the arm may recover by itself from lost communication or a discontinuity; `count` 0: never."""

    count: Annotated[int, msgspec.Meta(ge=0, le=100)]
    window_s: Positive


class RobotSettings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The arm: address, stiffness, collision thresholds, load and what the servo may do on its own.

    `control` says what moves it: `position`, set-points for the arm's own joint impedance of `joint_impedance_nm_rad`, or torques
    of the servo's law, `joint_impedance` or `cartesian_impedance`, with the gains of `impedance`. What is planned is the
    same. `guiding` is for the times when a hand leads it.
    `end_effector_kg` is held against what the arm says it carries at the flange, null for nothing. `self_test_ticks` states are
    looked at before the motion, and on an arm that was not started for the run it is held as long on trial.
    """

    kind: Literal["sim", "franka", "polymetis"]
    name: Annotated[str, msgspec.Meta(min_length=1, max_length=64)]
    host: str
    control: Control
    impedance: ImpedanceSettings
    guiding: GuidingSettings
    joint_impedance_nm_rad: Joints
    collision_torque_nm: Joints
    collision_force_n: Wrench
    end_effector_kg: Positive | None
    load: LoadSettings
    self_test_ticks: Annotated[int, msgspec.Meta(ge=100, le=60_000)]
    realtime: RealtimeSettings
    automatic_recovery: bool
    retries: RetrySettings
    start_margin_rad: Positive


class PolymetisSettings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The Polymetis server at robot.host for `robot.kind: polymetis`: `port` of its controllers,
    `gripper_port` of the gripper server, which is asked for only by a policy with a gripper.

    Our controller in it is the joint impedance of `robot.impedance`; it feeds planned accelerations forward by the inertia of the
    server's URDF and `rotor_inertia_kg_m2`. What the arm is to do is decided `lead_s` ahead, which must be longer than an update
    takes and leave the policy its time. The server's clock may jump by `gap_max_s`, the arm be silent for `silence_s`.
    """

    port: Annotated[int, msgspec.Meta(ge=1, le=65_535)]
    gripper_port: Annotated[int, msgspec.Meta(ge=1, le=65_535)]
    rotor_inertia_kg_m2: Joints
    lead_s: Annotated[float, msgspec.Meta(ge=0.005, le=0.2)]
    gap_max_s: Annotated[float, msgspec.Meta(ge=0.002, le=0.5)]
    silence_s: Annotated[float, msgspec.Meta(ge=0.02, le=1.0)]
