"""The link's ZeroMQ sockets: CURVE with an allow-list that fails closed, heartbeats, caps, and deadlines for everything.

One Network is all a process has of it: one context, and on a server one authenticator for all its sockets. Everything here is
called from one thread.
"""

from __future__ import annotations

import ipaddress
import logging
import os
import re
import time
from collections.abc import Iterator

import zmq
from zmq.auth.thread import ThreadAuthenticator

from poco.errors import AddressError, SettingsError
from poco.link.keys import PEERS, KeyFolder
from poco.link.messages import MAX_FRAME_BYTES

DOMAIN = "poco"
HEARTBEAT_MS = 500
HEARTBEAT_TIMEOUT_MS = 2_000
HANDSHAKE_MS = 2_000
RECONNECT_MS, RECONNECT_MAX_MS = 100, 2_000
WAITING_MESSAGES = 40
BACKLOG = 64
MESSAGES_A_TURN = 256
KEYS_LOOK_S = 0.2
REBIND_LIMIT_S = 5.0
REBIND_PAUSE_S = 0.005

_TCP = re.compile(r"tcp://\[?([0-9a-fA-F:.]+)\]?:([0-9]{1,5})")
_log = logging.getLogger("poco.link")


class Network:
    """Context, keys and authenticator of one process."""

    def __init__(self, keys: KeyFolder | None) -> None:
        """Without `keys` only loopback and ipc addresses are allowed. Raises SettingsError if the keys are not readable."""
        self.context = zmq.Context()
        self.keys = keys
        self._own = keys.own() if keys else None

    def connect(self, address: str, server: str) -> zmq.Socket[bytes]:
        """Return a DEALER to `address`, whose key must be that of the peer `server`; raises AddressError or SettingsError."""
        check_address(address, self.keys is not None)
        theirs = None if self.keys is None else self.keys.peer(server).public.encode()
        socket = self._socket(zmq.DEALER)
        if theirs is not None and self._own is not None:
            socket.curve_serverkey = theirs
            socket.curve_publickey, socket.curve_secretkey = self._own.public.encode(), self._own.secret.encode()
        socket.immediate = True
        socket.reconnect_ivl, socket.reconnect_ivl_max = RECONNECT_MS, RECONNECT_MAX_MS
        socket.connect(address)
        return socket

    def router(self) -> zmq.Socket[bytes]:
        """Return a ROUTER that is not yet bound."""
        socket = self._socket(zmq.ROUTER)
        if self._own is not None:
            socket.curve_server = True
            socket.curve_secretkey = self._own.secret.encode()
            socket.setsockopt_string(zmq.ZAP_DOMAIN, DOMAIN)
            socket.setsockopt(zmq.ZAP_ENFORCE_DOMAIN, 1)
        socket.router_mandatory = True
        socket.backlog = BACKLOG
        return socket

    def _socket(self, kind: int) -> zmq.Socket[bytes]:
        socket: zmq.Socket[bytes] = self.context.socket(kind)
        socket.linger = 0
        socket.maxmsgsize = MAX_FRAME_BYTES
        socket.handshake_ivl = HANDSHAKE_MS
        socket.heartbeat_ivl, socket.heartbeat_timeout = HEARTBEAT_MS, HEARTBEAT_TIMEOUT_MS
        socket.heartbeat_ttl = HEARTBEAT_TIMEOUT_MS
        socket.rcvhwm = socket.sndhwm = WAITING_MESSAGES
        return socket

    def close(self) -> None:
        """Close everything; nothing that waits is sent any more."""
        self.context.destroy(linger=0)


class Server:
    """The learner's ROUTER: who may speak is decided anew for every message."""

    def __init__(self, network: Network, address: str) -> None:
        """Bind `address`; raises AddressError if it is taken, malformed, or routable without keys."""
        check_address(address, network.keys is not None)
        self._network, self.address = network, address
        self._names: dict[bytes, str] = {}
        self._stamp: tuple[int, int, int] | None = None
        self._looked_s = 0.0
        self._authenticator: ThreadAuthenticator | None = None
        if network.keys is not None:
            self._read_keys()
            self._authenticate()
        try:
            self.socket = self._bind(0.0)
        except AddressError:
            if self._authenticator is not None:
                self._authenticator.stop()
            raise
        if address.endswith(":0"):
            self.address = self.socket.getsockopt_string(zmq.LAST_ENDPOINT).rstrip("\0")

    def _authenticate(self) -> None:
        self._authenticator = ThreadAuthenticator(self._network.context, log=_log)
        self._authenticator.start()
        self._authenticator.configure_curve_callback(domain=DOMAIN, credentials_provider=self)

    def callback(self, domain: str, key: bytes) -> bool:
        """Tell whether `key` is welcome; the authenticator's thread asks at every handshake."""
        return domain == DOMAIN and key in self._names

    def _bind(self, patience_s: float) -> zmq.Socket[bytes]:
        deadline_s = time.monotonic() + patience_s
        while True:
            socket = self._network.router()
            try:
                socket.bind(self.address)
                if self.address.startswith("ipc://"):
                    os.chmod(self.address.removeprefix("ipc://"), 0o600)
            except zmq.ZMQError as error:
                socket.close()
                if time.monotonic() < deadline_s:
                    time.sleep(REBIND_PAUSE_S)
                    continue
                raise AddressError(
                    f"{self.address} cannot be bound ({error.strerror}): choose another address or end what uses it"
                ) from error
            return socket

    def receive(self) -> Iterator[tuple[bytes, str, list[bytes]]]:
        """Yield peer, name of its key (empty without keys) and frames of what has arrived, up to a limit; never waits."""
        for _ in range(MESSAGES_A_TURN):
            try:
                peer, *frames = self.socket.recv_multipart(zmq.NOBLOCK, copy=False)
            except zmq.Again:
                return
            user = self._user(peer)
            if user is not None:
                yield peer.bytes, user, [frame.bytes for frame in frames]

    def _user(self, frame: zmq.Frame) -> str | None:
        if self._network.keys is None:
            return ""
        try:
            return self._names.get(str(frame.get("User-Id")).encode())
        except zmq.ZMQError:
            return None

    def send(self, peer: bytes, frames: list[bytes]) -> bool:
        """Send to a connected peer; False if it is gone or does not read, then the message is lost."""
        try:
            self.socket.send_multipart([peer, *frames], zmq.NOBLOCK)
        except zmq.ZMQError:
            return False
        return True

    def look_at_keys(self) -> list[str]:
        """Read the list of peers if it has changed; return the names of those that lost a key, after cutting all connections.

        Removing a key does not end the connections it has [libzmq]. So the endpoint is closed and bound anew; who is still
        welcome comes back by itself and loses nothing, since nothing counts before it is acknowledged.
        """
        now_s = time.monotonic()
        if self._network.keys is None or now_s - self._looked_s < KEYS_LOOK_S:
            return []
        self._looked_s = now_s
        if self._authenticator is not None and not self._authenticator.is_alive():
            self._authenticate()
        before = self._names
        try:
            self._read_keys()
        except SettingsError as error:
            _log.warning("%s; nobody is welcome until then", error)
            self._names, self._stamp = {}, None
        gone = sorted({name for key, name in before.items() if self._names.get(key) != name})
        if gone:
            self.socket.close(linger=0)
            self.socket = self._bind(REBIND_LIMIT_S)
        return gone

    def _read_keys(self) -> None:
        keys = self._network.keys
        assert keys is not None
        try:
            status = (keys.path / PEERS).stat()
        except OSError as error:
            raise SettingsError(f"{keys.path / PEERS} cannot be read ({error.strerror}): repair it") from error
        stamp = status.st_ino, status.st_mtime_ns, status.st_size
        if stamp != self._stamp:
            self._names = {peer.public.encode(): peer.name for peer in keys.peers()}
            self._stamp = stamp

    def close(self) -> None:
        """Close the socket and end the authenticator."""
        self.socket.close(linger=0)
        if self._authenticator is not None:
            self._authenticator.stop()


def check_address(address: str, keys: bool) -> None:
    """Raise AddressError unless `address` is ipc, loopback or, with keys, tcp with a numeric address."""
    if address.startswith("ipc://") and len(address) > len("ipc://"):
        return
    match = _TCP.fullmatch(address)
    try:
        host = ipaddress.ip_address(match[1]) if match and int(match[2]) < 1 << 16 else None
    except ValueError:
        host = None
    if host is None:
        raise AddressError(f"address {address} must be ipc://PATH or tcp://NUMBERS:PORT, such as tcp://127.0.0.1:7766")
    if not host.is_loopback and not keys:
        raise AddressError(
            f"address {address} can be reached from other computers, which takes keys: make some with poco-keys init"
        )
