"""Which server tests get where there is a Docker engine, whose own API is spoken over a socket here."""

import gc
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from socketserver import ThreadingMixIn, UnixStreamServer
from tempfile import TemporaryDirectory

import psycopg
import pytest

from tests.support.postgres import postgres_server


class EngineWithoutImages(BaseHTTPRequestHandler):
    """An engine that answers, has no image and reaches no registry."""

    protocol_version = "HTTP/1.1"
    asked: list[str]

    def do_GET(self) -> None:
        """Its version and its health; nothing else is known."""
        self.asked.append(f"GET {self.path}")
        if self.path.endswith("/_ping"):
            self._answer(200, "OK")
        elif self.path.endswith("/version"):
            self._answer(200, json.dumps({"ApiVersion": "1.41"}))
        else:
            self._answer(404, json.dumps({"message": "no such image"}))

    def do_POST(self) -> None:
        """Nothing can be pulled."""
        self.asked.append(f"POST {self.path}")
        self._answer(500, json.dumps({"message": "lookup registry: no such host"}))

    def address_string(self) -> str:
        """A Unix socket's other side has no address."""
        return "tests"

    def log_message(self, *_: object) -> None:
        """It says nothing."""

    def _answer(self, status: int, text: str) -> None:
        body = text.encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)


class Listener(ThreadingMixIn, UnixStreamServer):
    """A thread for each connection, since the client keeps its own open."""

    daemon_threads = True


@contextmanager
def engine_without_images() -> Iterator[tuple[str, list[str]]]:
    """Its address, and what it was asked."""
    asked: list[str] = []
    handler = type("Handler", (EngineWithoutImages,), {"asked": asked})
    with (
        TemporaryDirectory(prefix="voucher-sync-tests-") as directory,
        Listener(f"{directory}/s", handler) as server,
    ):
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield f"unix://{Path(directory) / 's'}", asked
        server.shutdown()
        thread.join()


@pytest.mark.long
def test_an_engine_that_has_no_image_and_gets_none_leaves_the_tests_to_the_embedded_server(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.delenv("TEST_DATABASE_URL", raising=False)
    with engine_without_images() as (address, asked):
        monkeypatch.setenv("DOCKER_HOST", address)

        with postgres_server() as url, psycopg.connect(url) as session:
            assert session.execute("SELECT 1").fetchone() == (1,)

    assert any("/images/create?" in line for line in asked)


@pytest.mark.long
def test_an_engine_that_has_ended_is_not_asked(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv("TEST_DATABASE_URL", raising=False)
    monkeypatch.setenv("DOCKER_HOST", f"unix://{tmp_path}/docker.sock")

    with postgres_server() as url, psycopg.connect(url) as session:
        assert session.execute("SELECT 1").fetchone() == (1,)
    gc.collect()  # a socket that was left open is an error once it is collected
