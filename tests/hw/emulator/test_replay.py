"""A recorded episode becomes pictures of the scene it was run in, or one sentence says what is missing."""

from __future__ import annotations

import ctypes.util
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from poco.errors import ArtifactError, PocoError, UsageError
from poco.hw.emulator.renderer import choose_renderer
from poco.hw.emulator.replay import STRIP_COLUMNS, STRIP_FRAMES, STRIP_SIDE, read_episode
from poco.runtime.run_folder import EVENTS, TICKS, EpisodeStarted, RunFolder
from synthetic_run import EPISODE_TICKS, OUTCOMES, episode_ticks, facts, make_run

needs_renderer = pytest.mark.skipif(
    ctypes.util.find_library("EGL") is None and ctypes.util.find_library("OSMesa") is None,
    reason="neither libegl1 nor libosmesa6 is installed",
)


def run_replay(*words: str, **environment: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "poco.hw.emulator.replay", *words]
    return subprocess.run(command, capture_output=True, text=True, check=False, env={**os.environ, **environment})


def test_a_successful_episode_is_chosen(tmp_path: Path) -> None:
    """The first episode that succeeded is read, whole, with the seed of its scene."""
    make_run(tmp_path)
    lines = (tmp_path / EVENTS).read_text().splitlines(keepends=True)
    (tmp_path / EVENTS).write_text("".join(lines).replace('"outcome":"success"', '"outcome":"failure"', 1))
    episode = read_episode(tmp_path)
    assert OUTCOMES[2] == "success"
    assert (episode.number, episode.seed, episode.outcome) == (2, 102, "success")
    assert episode.q.tobytes() == np.ascontiguousarray(episode_ticks(2)["state"]["q"]).tobytes()
    assert len(episode.seconds) == EPISODE_TICKS


def test_an_unfinished_episode_will_do(tmp_path: Path) -> None:
    """Where no episode ended, the first is read up to the last whole tick."""
    folder = RunFolder.create(tmp_path, facts())
    folder.append_event(EpisodeStarted(tick=1000, episode=0, seed=7))
    with folder.open_ticks() as stream:
        stream.write(episode_ticks(0)[:31].tobytes()[:-1])
    episode = read_episode(tmp_path)
    assert (episode.outcome, len(episode.q)) == ("unfinished", 30)


def test_refuses_a_run_without_episode(tmp_path: Path) -> None:
    """No run, a run without episode and events that are not readable are told apart."""
    with pytest.raises(UsageError, match="holds no recorded episode"):
        read_episode(tmp_path)
    (tmp_path / TICKS).touch()
    (tmp_path / EVENTS).touch()
    with pytest.raises(UsageError, match="run one first"):
        read_episode(tmp_path)
    (tmp_path / EVENTS).write_text("{\n")
    with pytest.raises(ArtifactError, match="not readable"):
        read_episode(tmp_path)


def test_renderer_is_chosen_by_what_is_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    """EGL comes first, OSMesa second; with neither, the sentence names the Debian packages."""
    monkeypatch.setenv("PYOPENGL_PLATFORM", "")
    for installed, expected in (({"EGL", "OSMesa"}, "egl"), ({"OSMesa"}, "osmesa")):
        monkeypatch.setenv("MUJOCO_GL", "")
        monkeypatch.setattr(ctypes.util, "find_library", lambda name, found=installed: name if name in found else None)
        assert choose_renderer() == expected
    monkeypatch.setenv("MUJOCO_GL", "")
    monkeypatch.setattr(ctypes.util, "find_library", lambda name: None)
    with pytest.raises(PocoError, match=r"libegl1 libegl-mesa0 libgl1-mesa-dri .* libosmesa6"):
        choose_renderer()


def test_missing_renderer_is_one_sentence(tmp_path: Path) -> None:
    """A renderer that does not start ends the program with one sentence, no traceback and an exit code."""
    make_run(tmp_path)
    done = run_replay(str(tmp_path), "--out", str(tmp_path / "strip.png"), MUJOCO_GL="disabled")
    assert done.returncode == 1
    assert done.stderr.startswith("error: no pictures: disabled")
    assert "libegl1" in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1


@needs_renderer
def test_strip_and_clip(tmp_path: Path) -> None:
    """The strip holds its frames in rows and the arm moves between them; the clip has one frame per 100 ticks."""
    make_run(tmp_path)
    strip, clip = tmp_path / "strip.png", tmp_path / "clip.gif"
    done = run_replay(str(tmp_path), "--out", str(strip), "--gif", str(clip), "--clearance-mm", "1.2", MUJOCO_GL="")
    assert done.returncode == 0, done.stderr
    with Image.open(strip) as picture:
        rows = STRIP_FRAMES // STRIP_COLUMNS
        assert picture.width > STRIP_COLUMNS * STRIP_SIDE
        assert picture.height > rows * STRIP_SIDE
        pixels = np.asarray(picture.convert("RGB"), dtype=np.int64)
    first = pixels[40:STRIP_SIDE, :STRIP_SIDE]
    second = pixels[40:STRIP_SIDE, STRIP_SIDE + 4 : 2 * STRIP_SIDE + 4]
    assert first.std() > 20.0
    assert np.abs(first - second).max() > 50
    with Image.open(clip) as film:
        assert getattr(film, "n_frames", 1) >= EPISODE_TICKS // 100 // 2
