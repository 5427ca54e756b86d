"""RoboMimic's layout is read in order, mapped to a specification and checked; nothing here has seen a published file."""

from __future__ import annotations

import json
from pathlib import Path

import h5py
import numpy as np
import pytest
import yaml

from poco.errors import ArtifactError, UsageError
from poco.learner.data_commands import import_data
from poco.learner.demonstrations import read_demonstrations
from poco.specification import read_specification, unscale
from recorded import SIZES, write_robomimic


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "can.hdf5"
    write_robomimic(path)
    return path


def test_demonstrations_become_episodes(file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Numbers count, not HDF5's order; fields, rate and bounds come from the file; success ends an episode, a camera is named."""
    import_data(file, "robomimic", tmp_path / "out")
    assert '"left_out": ["agentview_image"]' in capsys.readouterr().out
    read = read_demonstrations(tmp_path / "out")
    spec = read.specification
    assert (spec.name, spec.rate_hz, spec.action_size, spec.chunk_steps) == ("robomimic_PickPlaceCan", 20.0, 7, 5)
    assert {item.name: item.size for item in spec.observation} == SIZES
    assert [len(episode.rewards) for episode in read.episodes] == [14, 13] * 6
    with h5py.File(file) as recorded:
        for number, episode in enumerate(read.episodes):
            group, success = recorded[f"data/demo_{number}"], number % 2 == 1
            raw = np.concatenate([group[f"obs/{key}"][()] for key in SIZES], axis=1)[: len(episode.rewards)]
            np.testing.assert_allclose(unscale(spec.observation, episode.observations), raw, atol=2e-6)
            np.testing.assert_allclose(episode.actions_policy, group["actions"][()][: len(raw)], atol=1e-7)
            assert episode.rewards.sum() == episode.rewards[-1] == success
            assert (episode.end.terminated, episode.end.truncated) == (success, not success)
            following = np.concatenate([group[f"next_obs/{key}"][len(raw) - 1] for key in SIZES])
            np.testing.assert_allclose(unscale(spec.observation, episode.end.final_observation), following, atol=1e-6)


def test_an_import_resumes_and_takes_a_given_specification(file: Path, tmp_path: Path) -> None:
    """Four episodes, then the rest, equal all at once; the specification that an import left maps another file the same way."""
    import_data(file, "robomimic", tmp_path / "whole")
    import_data(file, "robomimic", tmp_path / "parts", episodes=4)
    with pytest.raises(UsageError, match="--resume"):
        import_data(file, "robomimic", tmp_path / "parts")
    import_data(file, "robomimic", tmp_path / "parts", resume=True)
    names = sorted(path.name for path in (tmp_path / "whole").iterdir())
    assert len(names) == 13
    assert all((tmp_path / "whole" / name).read_bytes() == (tmp_path / "parts" / name).read_bytes() for name in names)
    write_robomimic(tmp_path / "few.hdf5", demonstrations=2)
    kept = tmp_path / "whole" / "specification.yaml"
    import_data(tmp_path / "few.hdf5", "robomimic", tmp_path / "few", specification=kept)
    assert read_demonstrations(tmp_path / "few").specification == read_specification(kept)
    with pytest.raises(ArtifactError, match="other data or bounds"):
        import_data(tmp_path / "few.hdf5", "robomimic", tmp_path / "whole", resume=True)


def test_what_a_given_specification_clips_is_counted(
    file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Within its own bounds none; where a field's upper bounds are drawn in, those that lay beyond, each once."""
    import_data(file, "robomimic", tmp_path / "own")
    assert '"at_bounds": 0' in capsys.readouterr().out
    kept = tmp_path / "own" / "specification.yaml"
    tree, spec = yaml.safe_load(kept.read_text()), read_specification(kept)
    first = spec.observation[0]
    tree["observation"][0]["high"] = [0.5 * (low + high) for low, high in zip(first.low, first.high, strict=True)]
    (tmp_path / "narrow.yaml").write_text(yaml.safe_dump(tree))
    import_data(file, "robomimic", tmp_path / "narrow", specification=tmp_path / "narrow.yaml")
    beyond = sum(
        int((np.array(one.observations)[:, : first.size] >= 0.0).sum())
        for one in read_demonstrations(tmp_path / "own").episodes
    )
    said = capsys.readouterr()
    assert beyond > 0
    assert json.loads(said.out)["at_bounds"] == beyond
    assert f"note: {beyond} of " in said.err
    assert "widen the bounds" in said.err


def test_damage_is_one_sentence(file: Path, tmp_path: Path) -> None:
    """Truncated, overwritten, empty, NaN, wrong shape, actions out of bounds, an episode shorter than a chunk, a missing file."""

    def refused(match: str, chunk_steps: int = 5) -> None:
        with pytest.raises(ArtifactError, match=match):
            import_data(file, "robomimic", tmp_path / "out", resume=True, chunk_steps=chunk_steps)

    refused("has 14 steps, a chunk has 20", chunk_steps=20)
    (tmp_path / "out" / "specification.yaml").unlink()
    for key, value, match in (
        ("obs/object", np.nan, "demo_2: obs/object is nan in step 3"),
        ("actions", 1.5, "an action is 1.5, the limit is 1"),
    ):
        with h5py.File(file, "r+") as opened:
            saved = opened[f"data/demo_2/{key}"][3, 1]
            opened[f"data/demo_2/{key}"][3, 1] = value
        refused(match)
        with h5py.File(file, "r+") as opened:
            opened[f"data/demo_2/{key}"][3, 1] = saved
    with h5py.File(file, "r+") as opened:
        del opened["data/demo_3/next_obs/object"]
        opened["data/demo_3/next_obs/object"] = np.zeros((14, 5))
    refused("obs/object has another size")
    with h5py.File(file, "r+") as opened:
        del opened["data/demo_3"]["next_obs"]
    refused("demo_3 has no next_obs/robot0_eef_pos")
    whole = file.read_bytes()
    for signature in (b"TREE", b"SNOD", b"HEAP"):
        file.write_bytes(whole.replace(signature, b"none"))
        refused("is not a whole HDF5 file|holds no demonstrations")
    file.write_bytes(whole)
    with h5py.File(file, "r+") as opened:
        for name in list(opened["data"]):
            del opened["data"][name]
    refused("no demonstrations")
    file.write_bytes(file.read_bytes()[:3000])
    refused("not a whole HDF5 file")
    with pytest.raises(UsageError, match="does not exist"):
        import_data(tmp_path / "nothing", "robomimic", tmp_path / "other")
