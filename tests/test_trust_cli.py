"""`poco-trust`: a list that robots believe comes out of every act, and a publisher that was removed can sign nothing any more."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import pytest

from poco import trust_cli
from poco.errors import ArtifactError, UsageError
from poco.refusal import Reason, Refused
from poco.trust import Purpose, Trust, public_key, read_private_key, sign


def test_publishers_come_and_go(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Each act makes the next revision; only publishers on it are believed, and no private key is in a robot's copy."""
    folder = tmp_path / "trust"
    trust_cli.init(folder)
    trust_cli.add("laboratory", folder, days=30, generations=50)
    key = read_private_key(folder / "learner.key")
    signature = sign(b"manifest", Purpose.ARTIFACT, key)
    assert Trust.read(folder / "robot").publisher(b"manifest", signature, 0.0).name == "learner"
    trust_cli.remove("learner", folder)
    with pytest.raises(Refused) as refused:
        Trust.read(folder / "robot").publisher(b"manifest", signature, 0.0)
    assert refused.value.reason == Reason.UNKNOWN_KEY
    assert [one.name for one in Trust.read(folder / "robot", revision_min=3).listed.publishers] == ["laboratory"]
    assert sorted(item.name for item in (folder / "robot").iterdir()) == ["root.pub", "trust.json", "trust.sig"]
    laboratory = public_key(read_private_key(folder / "laboratory.key"))
    assert capsys.readouterr().out.splitlines()[-2:] == [
        "revision 3",
        f"laboratory {laboratory} until {_date(folder)} up to generation 50",
    ]
    with pytest.raises(ArtifactError, match=r"has no root.pub: give its folder robot"):
        Trust.read(folder)
    with pytest.raises(ArtifactError, match="exists already"):
        trust_cli.init(folder)
    with pytest.raises(ArtifactError, match="not on the list"):
        trust_cli.remove("learner", folder)
    with pytest.raises(ArtifactError, match="on the list already"):
        trust_cli.add("laboratory", folder)


@pytest.mark.parametrize(
    ("name", "days", "generations", "expected"),
    [
        ("a b", 30, 50, "publisher name 'a b' must be 1 to 64 small letters"),
        ("../learner", 30, 50, "publisher name"),
        ("laboratory\n", 30, 50, "publisher name"),
        ("laboratory", 0, 50, "--days is 0 d, must lie in 1 to 36500 d"),
        ("laboratory", 30, 0, "--generations is 0, must be 1 or more"),
    ],
)
def test_a_wrong_publisher_leaves_list_and_folder_as_they_are(
    tmp_path: Path, name: str, days: int, generations: int, expected: str
) -> None:
    """What the list could not say is refused before a key is made, so the list of before is still one that robots read."""
    folder = tmp_path / "trust"
    trust_cli.init(folder)
    before = {path.relative_to(folder): path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    with pytest.raises(UsageError, match=expected):
        trust_cli.add(name, folder, days=days, generations=generations)
    assert {path.relative_to(folder): path.read_bytes() for path in folder.rglob("*") if path.is_file()} == before
    assert Trust.read(folder / "robot").listed.revision == 1


def _date(folder: Path) -> str:
    publisher = Trust.read(folder / "robot").listed.publishers[0]
    return f"{datetime.fromtimestamp(publisher.expires_unix_s, UTC):%Y-%m-%d}"
