"""An S3 server on loopback for tests: moto's, over real TCP, with a log of its requests and faults to inject."""

from __future__ import annotations

import logging
import os
import socket
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pyarrow.fs as pafs
from werkzeug.serving import make_server

Environ = dict[str, Any]
Application = Callable[[Environ, Callable[..., Any]], Iterable[bytes]]
Fault = Callable[[Application, Environ, Callable[..., Any]], Iterable[bytes]]

REGION = "us-east-1"


@dataclass(frozen=True, slots=True)
class Request:
    """One request that the server got.

    Attributes:
        method: Such as `GET`.
        path: `/bucket/key`.
        query: Of the address.
        byte_range: The header `Range`, empty if there was none.
        num_bytes: That were sent in answer.
        was_faulty: A fault answered it.
    """

    method: str
    path: str
    query: str
    byte_range: str
    num_bytes: int = 0
    was_faulty: bool = False

    @property
    def kind(self) -> str:
        """`LIST`, or the method."""
        return "LIST" if "list-type=2" in self.query else self.method


@dataclass
class S3Server:
    """A server that runs until `close`.

    Attributes:
        port: On 127.0.0.1.
        log: Every request, in the order of their answers.
    """

    port: int = 0
    log: list[Request] = field(default_factory=list)

    def __post_init__(self) -> None:
        from moto.server import DomainDispatcherApplication, create_backend_app

        logging.getLogger("werkzeug").setLevel(logging.ERROR)
        self._moto: Application = DomainDispatcherApplication(create_backend_app)
        self._faults: list[tuple[Callable[[Request], bool], Fault]] = []
        self._server = make_server("127.0.0.1", self.port, self._answer, threaded=True)
        self.port = self._server.server_port
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    def close(self) -> None:
        """Stop the server."""
        self._server.shutdown()
        self._server.server_close()

    def _answer(self, environ: Environ, start: Callable[..., Any]) -> Iterable[bytes]:
        request = Request(
            environ["REQUEST_METHOD"],
            environ["PATH_INFO"],
            environ.get("QUERY_STRING", ""),
            environ.get("HTTP_RANGE", ""),
        )
        fault = next((fault for concerns, fault in self._faults if concerns(request)), None)
        body = fault(self._moto, environ, start) if fault else self._moto(environ, start)
        return self._logged(replace(request, was_faulty=fault is not None), body)

    def _logged(self, request: Request, body: Iterable[bytes]) -> Iterator[bytes]:
        num_bytes = 0
        try:
            for part in body:
                num_bytes += len(part)
                yield part
        finally:
            self.log.append(replace(request, num_bytes=num_bytes))

    @property
    def endpoint(self) -> str:
        """The server's address."""
        return f"http://127.0.0.1:{self.port}"

    @property
    def filesystem(self) -> pafs.S3FileSystem:
        """A file system that may make buckets."""
        return pafs.S3FileSystem(
            access_key="test",
            secret_key="test",
            endpoint_override=self.endpoint,
            region=REGION,
            allow_bucket_creation=True,
        )

    def uri(self, path: str) -> str:
        """Return an address of `path` (bucket and key) that says where this server is."""
        return f"s3://{path}?endpoint_override={self.endpoint}&region={REGION}"

    def environment(self) -> dict[str, str]:
        """Return what a process's environment needs for plain `s3://` addresses to mean this server."""
        return {
            "AWS_ACCESS_KEY_ID": "an-access-key",
            "AWS_SECRET_ACCESS_KEY": "a-very-secret-key",
            "AWS_ENDPOINT_URL": self.endpoint,
            "AWS_REGION": REGION,
            "AWS_EC2_METADATA_DISABLED": "true",
        }

    def upload(self, folder: Path, path: str) -> None:
        """Copy the files of a local `folder` to `path` (bucket and prefix), making the bucket."""
        fs = self.filesystem
        fs.create_dir(path.partition("/")[0])
        for file in sorted(folder.rglob("*")):
            if file.is_file():
                with fs.open_output_stream(f"{path}/{file.relative_to(folder)}") as stream:
                    stream.write(file.read_bytes())

    def put_many(self, bucket: str, keys: Iterable[str]) -> None:
        """Make `bucket` with objects of one byte, without a request for each."""
        from moto.s3.models import s3_backends

        self.filesystem.create_dir(bucket)
        (backend,) = (backends["aws"] for backends in s3_backends.values())
        for key in keys:
            backend.put_object(bucket, key, b"x")

    @contextmanager
    def requests(self) -> Iterator[list[Request]]:
        """Yield a list that holds the block's requests once the block has ended."""
        found: list[Request] = []
        start = len(self.log)
        try:
            yield found
        finally:
            time.sleep(0.05)  # the server logs a request when its answer has gone
            found += self.log[start:]

    @contextmanager
    def faulty(
        self, fault: Fault, *, kinds: str = "GET", path: str = "", times: int = 10**9, after: int = 0
    ) -> Iterator[Counter[str]]:
        """Inject `fault` into requests for the block; yield a count of the requests it was meant for, by path.

        Args:
            fault: Answers in the server's place.
            kinds: `Request.kind` of the requests that it concerns, separated by spaces; `*` for all.
            path: What their path contains.
            times: How many requests for each path it answers.
            after: How many requests in all it lets pass first.
        """
        met: Counter[str] = Counter()
        lock = threading.Lock()

        def concerns(request: Request) -> bool:
            if (kinds != "*" and request.kind not in kinds.split()) or path not in request.path:
                return False
            with lock:
                met[request.path] += 1
                return met.total() > after and met[request.path] <= times

        entry = (concerns, fault)
        self._faults.append(entry)
        try:
            yield met
        finally:
            self._faults.remove(entry)


def error(status: str, code: str, message: str = "") -> Fault:
    """Return a fault that answers with S3's error `code`."""

    def answer(moto: Application, environ: Environ, start: Callable[..., Any]) -> list[bytes]:
        start(status, [("Content-Type", "application/xml")])
        text = f'<?xml version="1.0"?><Error><Code>{code}</Code><Message>{message}</Message></Error>'
        return [] if environ["REQUEST_METHOD"] == "HEAD" else [text.encode()]

    return answer


INTERNAL_ERROR = error("500 Internal Server Error", "InternalError")
EXPIRED = error("400 Bad Request", "ExpiredToken", "The provided token has expired.")
DENIED = error("403 Forbidden", "AccessDenied")


def dropped(moto: Application, environ: Environ, start: Callable[..., Any]) -> Iterator[bytes]:
    """Send half of the answer and close the connection."""
    body = b"".join(moto(environ, start))
    yield body[: len(body) // 2]
    environ["werkzeug.socket"].shutdown(socket.SHUT_RDWR)
    raise ConnectionAbortedError


def stalled(moto: Application, environ: Environ, start: Callable[..., Any]) -> Iterable[bytes]:
    """Answer after longer than a client waits for the next byte."""
    time.sleep(4)
    return moto(environ, start)


def slow(moto: Application, environ: Environ, start: Callable[..., Any]) -> Iterator[bytes]:
    """Send the answer in eight parts over two seconds."""
    body = b"".join(moto(environ, start))
    part = len(body) // 8 + 1
    for begin in range(0, len(body), part):
        time.sleep(0.25)
        yield body[begin : begin + part]


@contextmanager
def environment_of(server: S3Server) -> Iterator[None]:
    """Set this process's environment so that plain `s3://` addresses mean `server`."""
    before = {name: os.environ.get(name) for name in server.environment()}
    os.environ.update(server.environment())
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value
