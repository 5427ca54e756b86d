"""The specification file is read strictly, and its scaling is its own inverse."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

import poco
from poco.errors import ArtifactError, PocoError, SettingsError
from poco.observation import QUANTITIES
from poco.specification import read_specification, scale, unscale

PEG_IN_HOLE = Path(poco.__file__).parent / "configs" / "peg_in_hole_specification.yaml"


def test_peg_in_hole_specification_is_whole() -> None:
    """The committed file reads, names only known sources, and has a proper rotation as tip frame."""
    specification = read_specification(PEG_IN_HOLE)
    assert (specification.observation_size, specification.action_size, specification.period_ticks) == (19, 4, 50)
    assert {item.source for item in specification.observation} <= set(QUANTITIES)
    rotation = specification.tip[:3, :3]
    np.testing.assert_allclose(rotation @ rotation.T, np.eye(3), atol=1e-12)
    assert np.linalg.det(rotation) == pytest.approx(1.0)


def test_scaling_round_trip() -> None:
    """unscale and scale undo each other inside the bounds and clip outside of them."""
    fields = read_specification(PEG_IN_HOLE).action
    values = np.random.default_rng(0).uniform(-1.0, 1.0, (20, 4))
    np.testing.assert_allclose(scale(fields, unscale(fields, values)), values, atol=1e-12)
    assert np.array_equal(unscale(fields, np.full(4, 9.0)), unscale(fields, np.ones(4)))


@pytest.mark.parametrize(
    ("old", "new", "error", "word"),
    [
        ("rate_hz:", "rate_Hz:", SettingsError, "rate_hz"),
        ("robot: fr3", "robot: panda", SettingsError, "robot"),
        ("chunk_steps: 8", "chunk_steps: many", SettingsError, "chunk_steps"),
        ("gripper: none\n", "", SettingsError, "gripper"),
        (
            "gripper: none\n",
            "gripper: width\n",
            ArtifactError,
            "has 4 elements, action space tip_delta with gripper width has 5",
        ),
        ("rate_hz: 20.0", "rate_hz: 30.0", ArtifactError, "rate_hz"),
        ("delay_steps: 1", "delay_steps: 5", ArtifactError, "delay_steps"),
        ("low: [-0.03]", "low: [0.3]", ArtifactError, "yaw_step"),
        ("delta_base: commanded_at_attachment", "delta_base: none", ArtifactError, "delta_base"),
        ("robot: fr3", "robot: foreign", ArtifactError, "a foreign robot has foreign actions"),
        ("action_space: tip_delta", "action_space: foreign", ArtifactError, "a foreign robot has foreign actions"),
        ("0.0, 0.0, 0.0, 1.0]", "0.0, 0.0, 0.15, 1.0]", ArtifactError, "flange_t_tip is no pose"),
        ("-0.7071067811865476", "-0.5", ArtifactError, "flange_t_tip is no pose"),
        ("0.0, 0.0, 1.0, 0.150", "0.0, 0.0, -1.0, 0.150", ArtifactError, "flange_t_tip is no pose"),
        ("rest_q: [0.0", "rest_q: [.nan", SettingsError, r"rest_q\[0\]"),
        ("unit: rad", "units: rad", SettingsError, "units"),
        ("name: peg_in_hole", "name: [", SettingsError, "YAML"),
    ],
)
def test_wrong_file_is_one_sentence(tmp_path: Path, old: str, new: str, error: type[PocoError], word: str) -> None:
    """Every kind of mistake in the file is refused with the key's name, in one line."""
    text = PEG_IN_HOLE.read_text()
    assert old in text
    path = tmp_path / "wrong.yaml"
    path.write_text(text.replace(old, new, 1))
    with pytest.raises(error, match=word) as refused:
        read_specification(path)
    assert "\n" not in str(refused.value)


def test_missing_file_is_named(tmp_path: Path) -> None:
    """A file that does not exist is named."""
    with pytest.raises(SettingsError, match=r"nothing\.yaml"):
        read_specification(tmp_path / "nothing.yaml")
