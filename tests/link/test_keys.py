"""`poco-keys`: keys come, are listed and go; secrets are for their owner; whatever cannot be read welcomes nobody."""

from __future__ import annotations

import shlex
from pathlib import Path

import pytest
import zmq

from poco.errors import AddressError, SettingsError, UsageError
from poco.link import keys_cli
from poco.link.keys import OWN, PEERS, KeyFolder
from poco.link.sockets import Network, Server, check_address


def test_keys_come_and_go(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The command that init prints makes the key welcome; revoke takes a name with all its keys off; the list says so."""
    learner, arm = tmp_path / "learner", tmp_path / "arm"
    keys_cli.init("learner", learner)
    keys_cli.init("arm1", arm)
    command = shlex.split(capsys.readouterr().out.splitlines()[-1].removeprefix("on the other side: "))
    public = KeyFolder(arm).own().public
    assert command == ["poco-keys", "add", "arm1", public, "--keys", "DIR"]
    keys_cli.add("arm1", public, learner)
    keys_cli.show(learner)
    assert f"peer arm1 {public}" in capsys.readouterr().out
    with pytest.raises(UsageError, match="already"):
        keys_cli.add("arm7", public, learner)
    keys_cli.revoke("arm1", learner)
    assert f"revoked arm1 {public}" in capsys.readouterr().out
    assert KeyFolder(learner).peers() == []
    with pytest.raises(UsageError, match="no key arm1"):
        keys_cli.revoke("arm1", learner)
    with pytest.raises(UsageError, match="already"):
        keys_cli.init("learner", learner)
    with pytest.raises(UsageError, match="not a name and a public key"):
        keys_cli.add("arm1", "too short", learner)


def test_no_key_looks_like_a_flag(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A public key that begins with a dash could not be given to add: another pair is made."""
    pairs = iter([(b"-" + b"a" * 39, b"s" * 40), (b"b" * 40, b"t" * 40)])
    monkeypatch.setattr(zmq, "curve_keypair", lambda: next(pairs))
    assert KeyFolder.create(tmp_path, "arm1").own().public == "b" * 40


def test_secrets_are_for_their_owner(tmp_path: Path) -> None:
    """The folder and its files are closed to others, a secret that is not is refused, and no representation shows one."""
    folder = KeyFolder.create(tmp_path / "keys", "arm1")
    assert folder.path.stat().st_mode & 0o777 == 0o700
    assert (folder.path / OWN).stat().st_mode & 0o777 == 0o600
    assert folder.own().secret not in repr(folder.own())
    (folder.path / OWN).chmod(0o640)
    with pytest.raises(SettingsError, match="chmod 600"):
        folder.own()


def test_damaged_list_welcomes_nobody(tmp_path: Path) -> None:
    """A server does not start on a list that cannot be read, and one that runs takes nobody any more."""
    folder = KeyFolder.create(tmp_path / "keys", "learner")
    folder.add("arm1", KeyFolder.create(tmp_path / "arm", "arm1").own().public)
    network = Network(folder)
    server = Server(network, "tcp://127.0.18.23:0")
    key = folder.peers()[0].public.encode()
    assert server.callback("poco", key)
    (folder.path / PEERS).write_bytes(b"{")
    server._looked_s = 0.0
    assert server.look_at_keys() == ["arm1"]
    assert not server.callback("poco", key)
    server.close()
    with pytest.raises(SettingsError, match="not readable"):
        Server(network, "tcp://127.0.18.23:0")
    network.close()


@pytest.mark.parametrize("address", ["tcp://0.0.0.0:7766", "tcp://10.0.0.5:7766", "tcp://[::]:7766"])
def test_routable_addresses_take_keys(address: str) -> None:
    """Loopback and ipc are open to this computer; everything else takes keys."""
    with pytest.raises(AddressError, match="takes keys"):
        check_address(address, keys=False)
    check_address(address, keys=True)


@pytest.mark.parametrize(
    "address", ["tcp://*:7766", "tcp://host:1", "tcp://127.0.0.1:99999", "udp://127.0.0.1:1", "ipc://", ""]
)
def test_what_is_no_address(address: str) -> None:
    """Names, wildcards and other transports are refused in one sentence."""
    with pytest.raises(AddressError, match="must be ipc"):
        check_address(address, keys=True)
