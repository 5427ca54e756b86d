"""Settings are whole and strict: whatever is done to the file, the result is Settings or one SettingsError."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as some

from poco.errors import SettingsError
from poco.limits import Guards
from poco.settings import Settings, nearest, read_settings, settings_keys

CONFIG = Path(__file__).parent.parent / "configs" / "fr3_peg_in_hole.yaml"
TREE: dict[str, Any] = yaml.safe_load(CONFIG.read_text())

Anything = some.recursive(
    some.none() | some.booleans() | some.integers() | some.floats() | some.text(max_size=8) | some.dates(),
    lambda inner: some.lists(inner, max_size=9) | some.dictionaries(some.text(max_size=8) | some.integers(), inner),
    max_leaves=10,
)


@some.composite
def edited_trees(draw: some.DrawFn) -> Any:
    """The packaged settings with up to four entries, sections or the whole replaced, removed, renamed or added."""
    tree: Any = copy.deepcopy(TREE)
    for _ in range(draw(some.integers(1, 4))):
        node: Any = tree
        while True:
            key = draw(some.sampled_from(sorted(node, key=str)))
            if not isinstance(node[key], dict) or not node[key] or draw(some.booleans()):
                break
            node = node[key]
        kind = draw(some.sampled_from(["replace", "remove", "rename", "add"]))
        if kind == "replace":
            node[key] = draw(Anything)
        elif kind == "remove" and len(node) > 1:
            del node[key]
        elif kind == "rename":
            node[draw(some.text(max_size=12))] = node.pop(key)
        else:
            node[draw(some.text(max_size=12))] = draw(Anything)
    return tree


def is_settings_or_sentence(path: Path, overrides: dict[str, str]) -> bool:
    """Whether reading gives Settings or a SettingsError of one line."""
    try:
        read: Settings | str = read_settings(path, overrides)
    except SettingsError as error:
        read = str(error)
    return isinstance(read, Settings) or "\n" not in read


@settings(max_examples=150, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))
@given(tree=edited_trees())
def test_any_tree_gives_settings_or_one_sentence(tree: Any, tmp_path: Path) -> None:
    """No edit of the file gives anything but Settings or a SettingsError in one line."""
    path = tmp_path / "settings.yaml"
    path.write_text(yaml.safe_dump(tree, allow_unicode=False))
    assert is_settings_or_sentence(path, {})


@settings(max_examples=200, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))
@given(content=some.binary(max_size=60))
def test_any_bytes_give_settings_or_one_sentence(content: bytes, tmp_path: Path) -> None:
    """No content of the file gives anything but a SettingsError."""
    path = tmp_path / "settings.yaml"
    path.write_bytes(content)
    with pytest.raises(SettingsError):
        read_settings(path, {})


@settings(max_examples=200, deadline=None, derandomize=True)
@given(key=some.sampled_from(settings_keys()), value=some.text(max_size=12))
def test_any_override_gives_settings_or_one_sentence(key: str, value: str) -> None:
    """No value of any override gives anything but Settings or a SettingsError."""
    assert is_settings_or_sentence(CONFIG, {key: value})


def test_the_packaged_file() -> None:
    """The packaged file is whole, its guards are those of the limits, and an override reaches the value it names."""
    packaged = read_settings(CONFIG, {})
    assert isinstance(packaged.guards.guards(), Guards)
    assert read_settings(CONFIG, {"emulator.clearance_mm": "1.2"}).emulator.clearance_mm == 1.2
    assert packaged.servo.orphan_hold_s == 60.0


def test_every_number_is_finite() -> None:
    """No number may be infinite or not a number, wherever it stands."""
    for key in ("guards.table_z_m", "guards.speed_max_m_s", "servo.hold_timeout_s", "robot.start_margin_rad"):
        for value in (".nan", ".inf", "-.inf"):
            with pytest.raises(SettingsError):
                read_settings(CONFIG, {key: value})
    with pytest.raises(SettingsError):
        read_settings(CONFIG, {"guards.box_max_m": "[0.7, .inf, 0.6]"})


@pytest.mark.parametrize(
    ("key", "value", "sentence"),
    [
        ("journal.quota_bytes", "1048575", "journal.quota_bytes is 1048575, must be int >= 1048576: change it"),
        ("guards.speed_max_m_s", "100", "guards.speed_max_m_s is 100, must be float <= 1.0: change it"),
        ("robot.name", "3", "robot.name is 3, must be str: change it"),
        ("journal.when_full", "never", "journal.when_full is 'never', must be one of wait, drop_autonomous: change it"),
        (
            "emulator.pacing",
            "fast",
            "command line: emulator.pacing is 'fast', must be one of realtime, lockstep, strict",
        ),
        ("guards.box_max_m", "[1, 2]", "length 3"),
    ],
)
def test_a_value_that_does_not_fit(key: str, value: str, sentence: str) -> None:
    """Key, value and what it must be are in the sentence; the key carries the unit."""
    with pytest.raises(SettingsError) as refused:
        read_settings(CONFIG, {key: value})
    assert sentence in str(refused.value)
    assert key in str(refused.value)


def test_the_file_is_blamed_for_what_it_says(tmp_path: Path) -> None:
    """A wrong value is told as one of the file, or of the command line where that replaced it; a folder is told from nothing."""
    path = tmp_path / "settings.yaml"
    path.write_text(yaml.safe_dump(TREE | {"emulator": TREE["emulator"] | {"pacing": "fast"}}))
    with pytest.raises(SettingsError, match=r"settings\.yaml: emulator\.pacing is 'fast'"):
        read_settings(path, {"robot.control": "position"})
    with pytest.raises(SettingsError, match=r"^command line: emulator\.pacing is 'slow'"):
        read_settings(path, {"emulator.pacing": "slow"})
    with pytest.raises(SettingsError, match="is a folder"):
        read_settings(tmp_path, {})


@pytest.mark.parametrize("key", settings_keys())
def test_every_key_is_needed(key: str, tmp_path: Path) -> None:
    """A file without any one of the keys is refused, and the key is named."""
    tree = copy.deepcopy(TREE)
    *folders, leaf = key.split(".")
    node = tree
    for folder in folders:
        node = node[folder]
    del node[leaf]
    path = tmp_path / "settings.yaml"
    path.write_text(yaml.safe_dump(tree))
    with pytest.raises(SettingsError, match=f"key {key} is missing"):
        read_settings(path, {})


def test_a_key_of_several_lines(tmp_path: Path) -> None:
    """An unknown key with line breaks in it is named in one line."""
    path = tmp_path / "settings.yaml"
    path.write_text(yaml.safe_dump({**TREE, "a\nb": 1}))
    with pytest.raises(SettingsError, match="unknown key a b;"):
        read_settings(path, {})


def test_nearest() -> None:
    """A near word is proposed; where none is near the known ones are listed."""
    assert nearest("hots", ["host", "kind"]) == "did you mean host?"
    assert nearest("zzz", ["host", "kind"]) == "known are host, kind"
