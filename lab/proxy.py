"""apt's way out of a lab node: a caching proxy for Debian archives on a Unix socket.

    python lab/proxy.py SOCKET CACHE SOURCES

lab_up starts it; it lives as long as the ansible-playbook that did. ssh carries it to the nodes.
It answers GET http://HOST/…/dists/… and …/pool/… for the hosts that SOURCES, the image's
sources.list, names, and nothing else. http_proxy and no_proxy of the controller are honoured.
"""

from __future__ import annotations

import fcntl
import os
import re
import select
import subprocess
import sys
import threading
import time
from collections import defaultdict
from email.utils import formatdate, parsedate_to_datetime
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from socket import AF_UNIX
from socket import socket as Socket
from socketserver import ThreadingUnixStreamServer
from urllib.error import HTTPError, URLError
from urllib.parse import unquote, urlsplit
from urllib.request import Request, urlopen

ARCHIVE_PATH = re.compile(r"(/[\w.+~%:-]+)*/(dists|pool)(/[\w.+~%:-]+)+")
NEVER_CHANGES = re.compile(r"/pool/|/by-hash/")


def archive_hosts(sources: Path) -> set[str]:
    """Host names, with their port where they have one, of the http archives in a sources.list."""
    return set(re.findall(r"http://([^/\s]+)", sources.read_text(encoding="utf-8")))


def refusal(url: str, hosts: set[str]) -> str | None:
    """Why `url` is none of this proxy's business, or None."""
    parts = urlsplit(url)
    if parts.scheme != "http" or parts.netloc not in hosts:
        return f"this proxy of the lab serves {', '.join(sorted(hosts))} over http alone"
    dots = {".", ".."} & set(unquote(parts.path).split("/"))
    if dots or parts.query or not ARCHIVE_PATH.fullmatch(parts.path):
        return "this proxy of the lab serves a Debian archive's dists and pool alone"
    return None


class Proxy(ThreadingUnixStreamServer):
    """Server state: the cache folder, the hosts, and one lock per file, so that three nodes that
    want one package cause one download."""

    daemon_threads = True

    def __init__(self, socket: str, cache: Path, hosts: set[str]) -> None:
        super().__init__(socket, Handler)
        self.cache, self.hosts = cache, hosts
        self.locks: defaultdict[Path, threading.Lock] = defaultdict(threading.Lock)

    def fetch(self, url: str) -> Path:
        """The file of `url` in the cache, fetched or revalidated. Raises URLError, OSError."""
        parts = urlsplit(url)
        path = self.cache / parts.netloc / parts.path.lstrip("/")
        with self.locks[path]:
            if path.exists() and NEVER_CHANGES.search(parts.path):
                return path
            request = Request(url)  # noqa: S310 (refusal() has seen it)
            if path.exists():
                request.add_header(
                    "If-Modified-Since", formatdate(path.stat().st_mtime, usegmt=True)
                )
            try:
                self._download(request, path)
            except HTTPError as error:
                if error.code != 304:
                    raise
        return path

    def _download(self, request: Request, path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        part = path.with_name(f"{path.name}.{os.getpid()}.part")  # of another lab's proxy, too
        with urlopen(request, timeout=100) as reply, part.open("wb") as file:  # noqa: S310 - http only
            while block := reply.read(1 << 16):
                file.write(block)
            length, modified = reply.headers["Content-Length"], reply.headers["Last-Modified"]
        if length and part.stat().st_size != int(length):
            raise URLError(f"the connection broke after {part.stat().st_size} of {length} bytes")
        if modified:
            when = parsedate_to_datetime(modified).timestamp()
            os.utime(part, (when, when))
        part.replace(path)


class Handler(BaseHTTPRequestHandler):
    """One connection of apt."""

    server: Proxy
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        """Answers 200 with the file, 304, 403 with the reason, the archive's error, or 502."""
        if reason := refusal(self.path, self.server.hosts):
            return self._say(403, reason)
        try:
            path = self.server.fetch(self.path)
        except HTTPError as error:
            return self._say(error.code, f"the archive says: {error.reason}")
        except (URLError, OSError) as error:
            return self._say(502, f"the controller cannot fetch it: {error}")
        with path.open("rb") as file:
            status = os.fstat(file.fileno())
            modified = formatdate(status.st_mtime, usegmt=True)
            fresh = self.headers["If-Modified-Since"] == modified
            self.send_response(304 if fresh else 200)
            self.send_header("Last-Modified", modified)
            self.send_header("Content-Length", "0" if fresh else str(status.st_size))
            self.end_headers()
            if not fresh:
                while block := file.read(1 << 16):
                    self.wfile.write(block)

    def _say(self, code: int, text: str) -> None:
        body = f"{text}\n".encode()
        # apt prints the reason phrase, which is latin-1 and one line.
        self.send_response(code, re.sub(r"[^ -~]", "?", text))
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def address_string(self) -> str:
        """A Unix socket has no address to log."""
        return "node"

    def log_request(self, code: int | str = "-", size: int | str = "-") -> None:
        """Only what went wrong is worth a line."""
        if int(code) >= 400:
            super().log_request(code, size)


def playbook_pid() -> int:
    """The outermost ansible-playbook right above this process, or else this process's parent."""
    pid, found = os.getppid(), 0
    while pid > 1:
        process = Path("/proc") / str(pid)
        # python, then the script: a shell that was told to run ansible-playbook is not it.
        program = (process / "cmdline").read_bytes().split(b"\0")[:2]
        if any(argument.endswith(b"ansible-playbook") for argument in program):
            found = pid
        elif found:
            break
        pid = int(re.sub(r"(?s).*\) ", "", (process / "stat").read_text()).split()[1])
    return found or os.getppid()


def serve(socket: Path, cache: Path, sources: Path, playbook: int) -> None:
    """Serves until process `playbook` ends. Of several proxies on one socket one serves; when its
    playbook ends, the next takes over."""
    ended = os.pidfd_open(playbook)
    lock = socket.with_suffix(".lock").open("w")
    while True:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            break
        except BlockingIOError:
            if select.select([ended], [], [], 0.3)[0]:
                return
    socket.unlink(missing_ok=True)
    with Proxy(str(socket), cache, archive_hosts(sources)) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        select.select([ended], [], [])
        socket.unlink(missing_ok=True)


def start(socket: Path, cache: Path, sources: Path) -> None:
    """Leaves a proxy of this playbook in the background, and returns when the socket answers."""
    with socket.with_name("proxy.log").open("a") as log:
        subprocess.Popen(
            [sys.executable, __file__, socket, cache, sources, str(playbook_pid())],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            start_new_session=True,
        )
    for _ in range(50):
        with Socket(AF_UNIX) as probe:
            if probe.connect_ex(str(socket)) == 0:
                return
        time.sleep(0.1)
    sys.exit(f"apt's proxy does not start; {log.name} says why")


if __name__ == "__main__":
    where = [Path(argument) for argument in sys.argv[1:4]]
    if len(sys.argv) == 5:
        serve(*where, int(sys.argv[4]))
    else:
        start(*where)
