"""The inertia read from a URDF against the simulation of the same arm."""

from __future__ import annotations

import numpy as np
import pytest

from poco.errors import ArmError
from poco.hw.emulator.arm import SimulatedArm
from poco.hw.emulator.model import READY_RAD, ROTOR_INERTIA_KG_M2, fr3_mjcf, fr3_urdf
from poco.hw.emulator.tool import Tool
from poco.hw.polymetis.inertia import ArmInertia

ROTOR = np.full(7, ROTOR_INERTIA_KG_M2)


def urdf_with_hand(arm: SimulatedArm) -> str:
    """The served URDF with what hangs on the flange."""
    tool = Tool(arm)
    inertia, centre = tool.inertia_kg_m2, " ".join(map(str, tool.centre_m))
    values = " ".join(f'i{a}{b}="{inertia[i, j]}"' for i, a in enumerate("xyz") for j, b in enumerate("xyz") if j >= i)
    weight = f'<inertial><origin xyz="{centre}"/><mass value="{tool.mass_kg}"/><inertia {values}/></inertial>'
    return fr3_urdf().replace('<link name="link8"/>', f'<link name="link8">{weight}</link>')


def test_it_is_the_simulated_arms() -> None:
    """With the hand on the flange, M(q) is MuJoCo's at random poses."""
    arm = SimulatedArm.from_mjcf(fr3_mjcf())
    inertia = ArmInertia(urdf_with_hand(arm), ROTOR)
    random = np.random.default_rng(0)
    for _ in range(20):
        q = READY_RAD + random.uniform(-0.5, 0.5, 7)
        arm.reset(q)
        assert np.abs(inertia.at(q) - arm.inertia()).max() < 2e-3


@pytest.mark.parametrize("text", ["", "<robot/>", "<robot><link/></robot>", fr3_urdf().replace("revolute", "fixed", 1)])
def test_it_refuses(text: str) -> None:
    """A text that is no URDF of such an arm gives one sentence."""
    with pytest.raises(ArmError, match="URDF"):
        ArmInertia(text, ROTOR)
