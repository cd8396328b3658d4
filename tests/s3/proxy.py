"""A proxy before an S3 server that counts requests and, where told to, fails them as S3 and networks do."""

import email.utils
import http.client
import random
import re
import socket
import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import urlsplit


@dataclass
class Fault:
    """What happens to the next `times` requests of `method` whose path and query match `path` (a regex).

    status, code: answer with this S3 error instead of asking the server.
    lost: let the server do it, then close the connection without an answer.
    cut: send so many bytes of the answer's body, then close the connection.
    without: request headers that are left out on the way.
    late: seconds added to the answer's Date.
    """

    method: str
    path: str = ""
    times: int = 1
    status: int = 0
    code: str = "InternalError"
    lost: bool = False
    cut: int = -1
    without: tuple[str, ...] = ()
    late: int = 0


STORM = [
    Fault("", status=500),
    Fault("", status=503, code="SlowDown"),
    Fault("", lost=True),
    Fault("", cut=0),
    Fault("", cut=3000),
]


@dataclass
class Proxy:
    """`requests` holds `(kind, path)` of everything that came, kind being LIST or an HTTP method."""

    endpoint: str
    requests: list[tuple[str, str]] = field(default_factory=list)
    faults: list[Fault] = field(default_factory=list)
    storm: random.Random | None = None  # then one request of ten fails, in one way or another
    held: tuple[str, list[threading.Barrier]] | None = None  # a path, and where each next request of it waits
    lock: threading.Lock = field(default_factory=threading.Lock)

    def fail(self, *faults: Fault) -> None:
        with self.lock:
            self.faults.extend(faults)

    def count(self) -> Counter[str]:
        with self.lock:
            return Counter(kind for kind, _ in self.requests)

    def hold(self, path: str, count: int) -> None:
        """Let the next `count` requests whose path matches wait until all of them are there, which is a minute at
        most."""
        with self.lock:
            self.held = (path, [threading.Barrier(count, timeout=60)] * count)

    def wait(self, path: str) -> None:
        """Have a request wait where it was told to."""
        with self.lock:
            waits = self.held is not None and self.held[1] and re.search(self.held[0], path)
            barrier = self.held[1].pop() if self.held is not None and waits else None
        if barrier is not None:
            barrier.wait()

    def forget(self) -> None:
        with self.lock:
            self.held = None
            self.requests.clear()
            self.faults.clear()
            self.storm = None

    def note(self, method: str, path: str) -> Fault | None:
        """Count a request; the fault that it meets."""
        query = urlsplit(path).query
        kind = "LIST" if method == "GET" and ("list-type" in query or query.startswith("uploads")) else method
        with self.lock:
            self.requests.append((kind, path))
            for fault in self.faults:
                if fault.times and fault.method == method and re.search(fault.path, path):
                    fault.times -= 1
                    return fault
            if self.storm is not None and self.storm.random() < 0.1:
                return self.storm.choice(STORM)
        return None


@contextmanager
def proxy_before(server: str) -> Iterator[Proxy]:
    """A proxy before the S3 endpoint `server`, until the block ends."""

    class Bound(_Handler):
        upstream = server.removeprefix("http://")

    listener = _Server(("127.0.0.1", 0), Bound)
    Bound.proxy = proxy = Proxy(f"http://127.0.0.1:{listener.server_address[1]}")
    thread = threading.Thread(target=listener.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
    thread.start()
    try:
        yield proxy
    finally:
        listener.shutdown()
        listener.server_close()
        thread.join()


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 128

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that was killed in the middle of a request is what the tests are about."""


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    proxy: Proxy
    upstream: str

    def setup(self) -> None:
        super().setup()
        self.request.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._server: http.client.HTTPConnection | None = None

    def finish(self) -> None:
        if self._server is not None:
            self._server.close()
        super().finish()

    def log_message(self, format: str, *args: Any) -> None:
        return None

    def _handle(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        fault = self.proxy.note(self.command, self.path)
        self.proxy.wait(self.path)
        if fault is not None and fault.status:
            self._refuse(fault)
            return
        left_out = {"expect", *(name.lower() for name in (fault.without if fault else ()))}
        headers = {name: value for name, value in self.headers.items() if name.lower() not in left_out}
        answer, data = self._ask(body, headers)
        if fault is not None and fault.lost:
            self._hang_up()
            return
        self._answer(answer, data, fault)

    do_GET = do_PUT = do_POST = do_DELETE = do_HEAD = _handle  # noqa: N815

    def _ask(self, body: bytes, headers: dict[str, str]) -> tuple[http.client.HTTPResponse, bytes]:
        if self._server is None:
            self._server = http.client.HTTPConnection(self.upstream, timeout=60)
        self._server.request(self.command, self.path, body, headers)
        answer = self._server.getresponse()
        return answer, answer.read()

    def _answer(self, answer: http.client.HTTPResponse, data: bytes, fault: Fault | None) -> None:
        self.send_response_only(answer.status)
        for name, value in answer.getheaders():
            if name.lower() in ("transfer-encoding", "connection", "content-length"):
                continue
            self.send_header(name, _later(value, fault.late) if fault and name.lower() == "date" else value)
        length = answer.getheader("Content-Length") if self.command == "HEAD" else str(len(data))
        self.send_header("Content-Length", length or "0")
        self.end_headers()
        if fault is not None and fault.cut >= 0:
            self.wfile.write(data[: fault.cut])
            self._hang_up()
        elif self.command != "HEAD":
            self.wfile.write(data)

    def _refuse(self, fault: Fault) -> None:
        data = f"<Error><Code>{fault.code}</Code><Message>told to fail</Message></Error>".encode()
        data = b"" if self.command == "HEAD" else data
        self.send_response_only(fault.status)
        self.send_header("Content-Type", "application/xml")
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def _hang_up(self) -> None:
        self.wfile.flush()
        self.close_connection = True
        self.connection.shutdown(socket.SHUT_RDWR)


def _later(date: str, seconds: int) -> str:
    moved = email.utils.parsedate_to_datetime(date) + timedelta(seconds=seconds)
    return email.utils.format_datetime(moved, usegmt=True)
