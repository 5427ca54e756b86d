"""`poco-trust`: a list that robots believe comes out of every act, and a publisher that was removed can sign nothing any more."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import pytest

from poco import trust_cli
from poco.errors import ArtifactError
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
    with pytest.raises(ArtifactError, match="exists already"):
        trust_cli.init(folder)
    with pytest.raises(ArtifactError, match="not on the list"):
        trust_cli.remove("learner", folder)
    with pytest.raises(ArtifactError, match="on the list already"):
        trust_cli.add("laboratory", folder)


def _date(folder: Path) -> str:
    publisher = Trust.read(folder / "robot").listed.publishers[0]
    return f"{datetime.fromtimestamp(publisher.expires_unix_s, UTC):%Y-%m-%d}"
