"""A worker that says anything at all over the real wire: the round goes on without it, at once."""

from __future__ import annotations

import asyncio
import pickle
import socket
import struct
import threading
import time

import asyncssh
import pytest
from echo import echo_app
from flwr.app import ConfigRecord, Message, RecordDict

from fedrnn.transport import wire
from fedrnn.transport.link import Stream


class RogueLink:
    """A link to a worker of the test: `answer` gets each request, and its socket."""

    def __init__(self, name, answer):
        self.name, self.answer = name, answer

    async def open(self, command):
        here, there = socket.socketpair()
        threading.Thread(target=self.work, args=(there,), daemon=True).start()
        reader, writer = await asyncio.open_connection(sock=here, limit=1 << 20)
        return Stream(reader, writer, reader)

    def work(self, peer):
        with peer, peer.makefile("rb", buffering=0) as stream:
            try:
                peer.sendall(frame(wire.GREETING, wire.HELLO))
                while True:
                    kind, body = wire.receive(stream)
                    if kind == wire.STOP:
                        peer.sendall(frame(b"", wire.STOP))
                        return
                    self.answer(body, peer)
            except (OSError, EOFError):
                return

    async def close(self):
        pass


def frame(body, kind=wire.MESSAGE, size=None):
    return struct.pack(">cQ", kind, len(body) if size is None else size) + body


def honest(body):
    message = wire.loads(body)
    return wire.dumps(Message(message.content, reply_to=message))


def cut_short(body, peer):
    peer.sendall(frame(honest(body))[:-10])
    peer.shutdown(socket.SHUT_RDWR)


# Four bytes of name and an empty array, a million times: protobuf makes 250 MB of them.
ITEM = b"\x12\x06\x0a\x02ab\x12\x00"
HOLLOW = 1_000_000 * ITEM
ANSWERS = {
    "a frame of 1 GB": (lambda b, p: p.sendall(frame(b"x", size=1 << 30)), "no frame of ours"),
    "another kind of frame": (lambda b, p: p.sendall(frame(b"x", b"Z")), "no frame of ours"),
    "no frame": (lambda b, p: p.sendall(b"HTTP/1.1 200 OK\r\n\r\n"), "no frame of ours"),
    "garbage": (lambda b, p: p.sendall(frame(b"\xff" * 99)), "no Flower message"),
    "an empty frame": (lambda b, p: p.sendall(frame(b"")), "no Flower message"),
    "a pickle": (lambda b, p: p.sendall(frame(pickle.dumps([1] * 99))), "no Flower message"),
    "a greeting again": (lambda b, p: p.sendall(frame(wire.GREETING, wire.HELLO)), "no Flower"),
    "an end that nobody asked for": (lambda b, p: p.sendall(frame(b"", wire.STOP)), "it ends"),
    "a million empty arrays": (lambda b, p: p.sendall(frame(HOLLOW)), "were asked for"),
}


def ask(grid, timeout=5.0, nodes=(1, 2)):
    messages = [Message(RecordDict({"c": ConfigRecord({"n": n})}), n, "query") for n in nodes]
    started = time.monotonic()
    replies = grid.send_and_receive(messages, timeout=timeout)
    return replies, time.monotonic() - started


@pytest.fixture
def beside(federation):
    """An honest worker, pi1, and a rogue beside it, pi2."""

    def make(answer):
        one = federation(echo_app())
        one.grid.attach(2, RogueLink("pi2", answer))
        assert one.grid.wait(5) == {}
        return one.grid

    return make


@pytest.mark.parametrize("what", ANSWERS)
def test_nonsense_costs_the_round_no_deadline(beside, what):
    answer, says = ANSWERS[what]
    grid = beside(answer)
    for times in (1, 2):  # it is taken back, and left out again
        assert grid.wait(5) == {}
        (first, second), seconds = ask(grid)
        assert not first.has_error() and first.content["c"]["n"] == 1
        assert second.has_error() and second.error.reason.startswith("pi2: ")
        assert says in second.error.reason
        assert seconds < 2
        assert grid.nonsense() == {1: 0, 2: times}


def test_a_frame_cut_short_is_asked_for_again_and_given_up_in_time(beside):
    tries = []

    def answer(body, peer):
        tries.append(body)
        cut_short(body, peer) if len(tries) == 1 else peer.sendall(frame(honest(body)))

    grid = beside(answer)
    (first, second), _ = ask(grid)
    assert not first.has_error() and not second.has_error()
    assert len(tries) == 2 and grid.traffic()["pi2"].reconnects == 1

    grid = beside(cut_short)
    (first, second), seconds = ask(grid, timeout=1.5)
    assert not first.has_error() and second.has_error() and seconds < 3
    assert second.error.reason.startswith("pi2: no reply in time")


def test_the_answer_to_an_old_message_is_dropped_and_told(beside):
    asked = []

    def old(body, peer):
        asked.append(body)
        peer.sendall(frame(honest(asked[0])))

    grid = beside(old)
    (_, second), _ = ask(grid)
    assert not second.has_error()
    (first, second), seconds = ask(grid, timeout=0.5)
    assert not first.has_error() and seconds < 1.5
    told = "pi2: no reply in time: what came was the answer to another message"
    assert second.error.reason == told


def test_an_answer_that_comes_twice_counts_once(beside):
    grid = beside(lambda body, peer: peer.sendall(2 * frame(honest(body))))
    for _ in range(3):
        (first, second), _ = ask(grid)
        assert not first.has_error() and second.content["c"]["n"] == 2
    until = time.monotonic() + 5
    while grid.nonsense() != {1: 0, 2: 3} and time.monotonic() < until:
        time.sleep(0.01)
    assert grid.nonsense() == {1: 0, 2: 3}


def test_a_flood_of_answers_costs_its_node_the_stream(beside):
    def flood(body, peer):
        message = wire.loads(body)
        wire.give_id(message)
        peer.sendall(100 * frame(wire.dumps(Message(message.content, reply_to=message))))

    grid = beside(flood)
    (first, second), seconds = ask(grid)
    assert not first.has_error() and "what nobody has asked for" in second.error.reason
    assert seconds < 2 and grid.nonsense()[2] < 10


def test_a_node_that_still_works_on_what_was_given_up_is_busy_until_it_is_done(beside):
    wait = threading.Event()

    def slow(body, peer):
        wait.wait(10)
        peer.sendall(frame(honest(body)))

    grid = beside(slow)
    (first, second), _ = ask(grid, timeout=0.3)
    assert not first.has_error() and second.has_error()
    assert grid.busy() == {2} and list(grid.get_node_ids()) == [1, 2]
    wait.set()
    until = time.monotonic() + 5
    while grid.busy() and time.monotonic() < until:
        time.sleep(0.01)
    assert grid.busy() == set()
    (_, second), _ = ask(grid)
    assert not second.has_error()


def test_the_reply_of_a_foreign_message_is_not_taken_for_ones_own(beside):
    """One that would name a message of another node: ids are the controller's to know."""
    grid = beside(lambda body, peer: peer.sendall(frame(body)))  # the request itself comes back
    (first, second), _ = ask(grid, timeout=0.5)
    assert not first.has_error() and second.has_error()


def test_a_node_that_stays_silent_is_asked_again_over_a_new_stream(beside, monkeypatch):
    monkeypatch.setattr("fedrnn.transport.attachment.BUSY_SECONDS", 0.5)
    asked = []

    def deaf_at_first(body, peer):
        asked.append(peer)
        if peer is not asked[0]:
            peer.sendall(frame(honest(body)))

    grid = beside(deaf_at_first)
    (_, second), _ = ask(grid, timeout=0.3)
    assert second.has_error() and grid.busy() == {2}
    time.sleep(0.6)
    assert grid.busy() == set()
    (_, second), _ = ask(grid)
    assert not second.has_error() and grid.traffic()["pi2"].reconnects == 1


def test_a_connection_that_ssh_gives_up_is_opened_anew(beside, monkeypatch):
    """As when a node was cut off, or somebody killed its sshd: asyncssh's errors are its own."""
    grid = beside(lambda body, peer: peer.sendall(frame(honest(body))))
    read = wire.read_frame
    lost = [asyncssh.ConnectionLost("Server not responding to keepalive")]

    async def lose(reader, largest):
        found = await read(reader, largest)
        if lost:
            raise lost.pop()
        return found

    monkeypatch.setattr(wire, "read_frame", lose)
    ask(grid)  # what was being read already comes to its end
    (first, second), seconds = ask(grid)
    assert not first.has_error() and not second.has_error() and seconds < 3
    assert sum(t.reconnects for t in grid.traffic().values()) == 1
