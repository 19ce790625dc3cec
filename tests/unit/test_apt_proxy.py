"""apt's proxy: what it refuses, what it keeps, when it ends. The archive is a local one."""

from __future__ import annotations

import http.client
import os
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

PROXY = Path(__file__).resolve().parents[2] / "lab" / "proxy.py"
MODIFIED = "Tue, 24 Nov 2026 10:00:00 GMT"


class Archive(BaseHTTPRequestHandler):
    """Answers every path with its own name, and 304 to a question about MODIFIED."""

    served: list[tuple[str, int]]

    def do_GET(self) -> None:
        code = 404 if "missing" in self.path else 200
        if self.headers["If-Modified-Since"] == MODIFIED:
            code = 304
        type(self).served.append((self.path, code))
        self.send_response(code)
        body = self.path.encode() if code == 200 else b""
        self.send_header("Last-Modified", MODIFIED)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def archive() -> Iterator[ThreadingHTTPServer]:
    Archive.served = []
    with ThreadingHTTPServer(("127.0.0.1", 0), Archive) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield server
        server.shutdown()


class Running:
    """A proxy whose parent is a shell of ours."""

    def __init__(self, folder: Path, host: str) -> None:
        self.socket, self.host = folder / "apt.sock", host
        sources = folder / "sources.list"
        sources.write_text(f"deb http://{host}/debian bookworm main\n")
        script = '"$0" "$@" && echo up && sleep 60'
        environment = {
            key: value for key, value in os.environ.items() if "proxy" not in key.lower()
        }
        self.parent = subprocess.Popen(
            ["bash", "-c", script, sys.executable, PROXY, self.socket, folder / "cache", sources],
            stdout=subprocess.PIPE,
            text=True,
            env=environment,
        )
        assert self.parent.stdout is not None
        assert self.parent.stdout.readline() == "up\n"

    def get(self, url: str) -> tuple[int, str]:
        connection = http.client.HTTPConnection("localhost", timeout=10)
        connection.sock = socket.socket(socket.AF_UNIX)
        connection.sock.connect(str(self.socket))
        connection.request("GET", url)
        answer = connection.getresponse()
        return answer.status, answer.read().decode()

    def archive(self, path: str) -> tuple[int, str]:
        return self.get(f"http://{self.host}{path}")


@pytest.fixture
def proxy(tmp_path: Path, archive: ThreadingHTTPServer) -> Iterator[Running]:
    running = Running(tmp_path, f"127.0.0.1:{archive.server_port}")
    yield running
    running.parent.kill()


def test_packages_are_fetched_once(proxy: Running) -> None:
    path = "/debian/pool/main/c/cowsay/cowsay_3.03%2bdfsg2-8_all.deb"
    assert proxy.archive(path) == proxy.archive(path) == (200, path)
    assert Archive.served == [(path, 200)]


def test_indices_are_revalidated(proxy: Running) -> None:
    path = "/debian/dists/bookworm/InRelease"
    assert proxy.archive(path) == proxy.archive(path) == (200, path)
    assert Archive.served == [(path, 200), (path, 304)]


def test_what_the_archive_lacks_is_not_kept(proxy: Running) -> None:
    path = "/debian/dists/bookworm/missing"
    assert proxy.archive(path)[0] == proxy.archive(path)[0] == 404


@pytest.mark.parametrize(
    "path",
    [
        "/simple/torch/",
        "/debian/",
        "/debian/pool/../../etc/passwd",
        "/debian/pool/%2e%2e/secret",
        "/debian/pool/a?token=1",
        "/debian/pool/a//b",
    ],
)
def test_other_paths_are_refused(proxy: Running, path: str) -> None:
    assert proxy.archive(path)[0] == 403
    assert Archive.served == []


def test_other_hosts_and_schemes_are_refused(proxy: Running) -> None:
    for url in ("http://192.0.2.1/debian/pool/a", f"https://{proxy.host}/debian/pool/a", "/pool/a"):
        status, text = proxy.get(url)
        assert status == 403 and proxy.host in text


def test_unreachable_archive_is_a_clear_error(proxy: Running, archive: ThreadingHTTPServer) -> None:
    archive.shutdown()
    archive.server_close()
    status, text = proxy.archive("/debian/pool/a")
    assert status == 502 and "the controller cannot fetch it" in text


def test_proxy_ends_when_its_parent_is_killed(proxy: Running) -> None:
    proxy.parent.kill()
    deadline = time.monotonic() + 5
    while proxy.socket.exists() and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not proxy.socket.exists()
    with pytest.raises(OSError):
        proxy.archive("/debian/pool/a")
