"""The door of a SuperLink, before a server that would answer anything."""

from __future__ import annotations

import http.server
import socket
import ssl
import threading
from collections.abc import Iterator

import httpx
import pytest

from fedrnn.superlink import listening
from fedrnn.superlink_door import MOST_BYTES, Papers, door
from tests.papers import HOST, make_papers


class Anything(http.server.BaseHTTPRequestHandler):
    """Answers every request with what it was asked; `seen` are their paths."""

    seen: list[str] = []  # noqa: RUF012 - one for all requests

    def do_POST(self) -> None:
        self.seen.append(self.path)
        body = self.rfile.read(int(self.headers["content-length"]))
        self.send_response(201)
        self.send_header("x-signature", self.headers.get("x-signature", "none"))
        self.end_headers()
        self.wfile.write(b"heard " + body)

    do_GET = do_POST

    def log_message(self, *_: object) -> None: ...


@pytest.fixture(scope="module")
def papers(tmp_path_factory) -> Papers:
    return make_papers(tmp_path_factory.mktemp("papers"))


@pytest.fixture(scope="module")
def web(papers) -> Iterator[httpx.Client]:
    inner = http.server.ThreadingHTTPServer((HOST, 0), Anything)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(papers.certificate, papers.key)
    inner.socket = context.wrap_socket(inner.socket, server_side=True)
    threading.Thread(target=inner.serve_forever, daemon=True).start()
    with socket.socket() as free:
        free.bind((HOST, 0))
        port = free.getsockname()[1]
    with (
        door(HOST, port, f"https://{HOST}:{inner.server_port}", papers),
        httpx.Client(base_url=f"https://{HOST}:{port}", verify=str(papers.authority)) as client,
    ):
        yield client
    inner.shutdown()
    inner.server_close()


def test_what_a_supernode_asks_goes_through_with_its_signature(web):
    answer = web.post("/v1/fleet/pull-messages", content=b"\0\1", headers={"x-signature": "mine"})
    assert (answer.status_code, answer.content) == (201, b"heard \0\1")
    assert answer.headers["x-signature"] == "mine"


@pytest.mark.parametrize(
    "path",
    [
        "/v1/control/start-run", "/v1/control/register-node", "/v1/runtime/acquire-task",
        "/health", "/", "/v1/fleet", "/v1/fleet/", "/v1/fleet/a/b", "/v1/fleet/../control/x",
        "/v1/fleet/%2e%2e/control/x", "/v1/fleet/..%2fcontrol%2fx", "//v1/control/start-run",
        "/v1/fleet/x?y=/v1/control", "/V1/FLEET/x",
    ],
)  # fmt: skip
def test_nothing_else_goes_through(web, path):
    Anything.seen.clear()
    status = web.post(path, content=b"").status_code
    assert [seen for seen in Anything.seen if not seen.startswith("/v1/fleet/x")] == []
    assert status in (404, 201) and (status == 201) == bool(Anything.seen)
    assert web.get("/v1/fleet/pull-messages").status_code == 405


@pytest.mark.parametrize("told", [True, False], ids=["content-length", "chunked"])
def test_no_more_is_taken_than_a_message_has(web, told):
    Anything.seen.clear()
    piece, pieces = b"\0" * (1 << 20), MOST_BYTES >> 20
    most = web.post("/v1/fleet/x", content=piece * pieces)
    assert (most.status_code, len(most.content)) == (201, len(b"heard ") + MOST_BYTES)
    more = [*[piece] * pieces, b"\0"]
    answer = web.post("/v1/fleet/y", content=b"".join(more) if told else iter(more))
    assert answer.status_code == 413 and Anything.seen == ["/v1/fleet/x"]


@pytest.mark.parametrize(
    ("dialled", "where"),
    [("127.0.0.1", "127.0.0.1"), ("192.0.2.1", "0.0.0.0"), ("router.example", "0.0.0.0")],
    ids=["an address of ours", "a router's", "a name"],
)
def test_the_door_is_where_those_who_dial_come_in(papers, dialled, where):
    assert listening(dialled) == where
    with socket.socket() as free:
        free.bind((HOST, 0))
        port = free.getsockname()[1]
    with door(listening(dialled), port, "https://127.0.0.1:1", papers):
        socket.create_connection((HOST, port), 5).close()


def test_a_port_that_is_taken_is_told(papers):
    with socket.socket() as taken:
        taken.bind((HOST, 0))
        taken.listen()
        port = taken.getsockname()[1]
        with (
            pytest.raises(OSError, match=f"nobody can listen on {HOST}:{port}"),
            door(HOST, port, "https://127.0.0.1:1", papers),
        ):
            pass


def test_whoever_is_vouched_for_by_another_is_not_believed(web, tmp_path):
    other = make_papers(tmp_path)
    with (
        httpx.Client(base_url=web.base_url, verify=str(other.authority)) as client,
        pytest.raises(httpx.ConnectError),
    ):
        client.post("/v1/fleet/pull-messages")
