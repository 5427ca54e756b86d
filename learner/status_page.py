"""The status of a serving learner over http, to be read from this computer: /status.json and, for Prometheus, /metrics."""

from __future__ import annotations

import ipaddress
import re
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread

from poco.errors import AddressError

READ_S = 5.0
"""A request that takes longer to arrive is given up."""

Page = tuple[str, bytes]
"""Media type and content."""


class StatusPage:
    """Serves the newest pages from a thread; `pages` may be replaced at any time, by one assignment."""

    def __init__(self, address: str) -> None:
        """Listen at `address`, NUMBERS:PORT of this computer; raises AddressError for another one or one that is taken."""
        self.pages: dict[str, Page] = {}
        match = re.fullmatch(r"([0-9.]+):([0-9]{1,5})", address)
        if match is None or int(match[2]) >= 1 << 16 or not _of_this_computer(match[1]):
            raise AddressError(
                f"address {address} of the status must be one of this computer's own, such as 127.0.0.1:8766; whoever is to read "
                "it from elsewhere may tunnel"
            )
        try:
            self._server = ThreadingHTTPServer((match[1], int(match[2])), _handler(self))
        except OSError as error:
            raise AddressError(
                f"{address} cannot be bound for the status ({error.strerror}): choose another port"
            ) from error
        self._server.daemon_threads = True
        self.address = "{}:{}".format(*self._server.server_address[:2])
        Thread(target=self._server.serve_forever, name="status", daemon=True).start()

    def close(self) -> None:
        """Stop listening."""
        self._server.shutdown()
        self._server.server_close()


def _of_this_computer(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _handler(page: StatusPage) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        """Answers GET and nothing else; a page of a stranger, whose name leads here, does not get to read it."""

        timeout = READ_S
        server_version, sys_version = "poco", ""

        def do_GET(self) -> None:
            """Answer with the page of that path."""
            if not _of_this_computer(self.headers.get("Host", "").rpartition(":")[0].replace("localhost", "127.0.0.1")):
                return self.send_error(HTTPStatus.MISDIRECTED_REQUEST, "ask by an address of this computer")
            found = page.pages.get(self.path)
            if found is None:
                return self.send_error(HTTPStatus.NOT_FOUND, f"there are {', '.join(sorted(page.pages))}")
            kind, content = found
            self.send_response(HTTPStatus.OK)
            self.send_header("Content-Type", kind)
            self.send_header("Content-Length", str(len(content)))
            self.send_header("Cache-Control", "no-store")
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, format: str, *arguments: object) -> None:
            """Say nothing: the terminal belongs to the learner."""

    return Handler
