"""The door of a SuperLink: SuperNodes reach Flower's Fleet API through it, and nothing else.

A SuperLink answers on one port whoever registers nodes or starts a run, without asking who that is,
and a run brings code for this machine and for all nodes. So it listens on loopback, and the door,
with the same certificate, passes on what SuperNodes ask, which they sign with their keys.
"""

from __future__ import annotations

import ssl
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx
import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

FLEET = "/v1/fleet"
HOP = {"connection", "content-length", "host", "transfer-encoding"}  # each connection has its own
WAIT_SECONDS = 120.0
MOST_BYTES = 8 << 20  # Flower sends arrays in pieces of 5 MiB
START_SECONDS = 20.0


@dataclass(frozen=True)
class Papers:
    """The files by which a SuperLink proves who it is: certificate, key, and who vouches for it."""

    certificate: Path
    key: Path
    authority: Path


def application(inner: str, papers: Papers) -> Starlette:
    """Return the door before the SuperLink at the URL ``inner``."""
    trust = ssl.create_default_context(cafile=str(papers.authority))
    client = httpx.AsyncClient(base_url=inner, verify=trust, timeout=WAIT_SECONDS, trust_env=False)

    async def fleet(request: Request) -> Response:
        body = bytearray()
        async for piece in request.stream():  # whose signature nobody has looked at yet
            body += piece
            if len(body) > MOST_BYTES:
                return Response(status_code=413, headers={"connection": "close"})
        headers = [(k, v) for k, v in request.headers.items() if k not in HOP]
        path = f"{FLEET}/{request.path_params['what']}"
        answer = await client.post(path, content=bytes(body), headers=headers)
        kept = {k: v for k, v in answer.headers.items() if k not in HOP | {"content-encoding"}}
        return Response(answer.content, answer.status_code, kept)

    # One word behind it: no path climbs out of there.
    return Starlette(routes=[Route(f"{FLEET}/{{what}}", fleet, methods=["POST"])])


@contextmanager
def door(host: str, port: int, inner: str, papers: Papers) -> Iterator[None]:
    """Keep the door open. Raises OSError where nobody can listen there."""
    config = uvicorn.Config(
        application(inner, papers),
        host,
        port,
        ssl_certfile=str(papers.certificate),
        ssl_keyfile=str(papers.key),
        log_level="critical",
        lifespan="off",
        timeout_graceful_shutdown=2,  # SuperNodes keep their connections
    )
    server = uvicorn.Server(config)

    def serve() -> None:
        try:
            server.run()
        except SystemExit:  # how uvicorn says that the address cannot be had
            return

    thread = threading.Thread(target=serve)
    thread.start()
    try:
        until = time.monotonic() + START_SECONDS
        while not server.started:
            if not thread.is_alive() or time.monotonic() > until:
                raise OSError(f"nobody can listen on {host}:{port} of this machine")
            time.sleep(0.05)
        yield
    finally:
        server.should_exit = True
        thread.join()
