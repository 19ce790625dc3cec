"""The Grid over real workers and sockets: replies, errors, deadlines, lost connections."""

import threading
import time

from echo import echo_app
from flwr.app import ConfigRecord, Message, RecordDict

from fedrnn.transport import wire


def ask(federation, kind="query", timeout=10.0, nodes=None):
    chosen = nodes or list(federation.grid.get_node_ids())
    messages = [Message(RecordDict({"c": ConfigRecord({"node": n})}), n, kind) for n in chosen]
    return federation.grid.send_and_receive(messages, timeout=timeout)


def test_every_node_answers_for_itself(federation):
    three = federation(echo_app(), echo_app(), echo_app())
    replies = ask(three)
    assert [r.metadata.src_node_id for r in replies] == [1, 2, 3]
    assert [r.content["c"]["node"] for r in replies] == [1, 2, 3]
    moved = three.grid.traffic()
    assert all(t.up > 0 and t.down > 0 and t.reconnects == 0 for t in moved.values())


def test_what_a_client_raises_comes_back_in_words(federation):
    replies = ask(federation(echo_app(), echo_app()), "query.fails")
    assert all(r.error.reason.startswith("RuntimeError in echo.py, line") for r in replies)


def test_what_a_client_raises_may_hold_a_row_and_does_not_leave(federation):
    replies = ask(federation(echo_app(), echo_app()), "query.fails")
    assert not [r for r in replies if "this node cannot" in r.error.reason]


def test_a_node_that_answers_for_another_is_not_heard(federation, monkeypatch):
    two = federation(echo_app(), echo_app())
    monkeypatch.setattr(
        "fedrnn.transport.worker.wire.dumps",
        lambda reply: wire.message_to_proto(_as_node(reply, 1)).SerializeToString(),
    )
    first, second = ask(two)
    assert not first.has_error()
    assert second.has_error() and "pi2: it answers in the name of another" in second.error.reason


def _as_node(reply, node):
    reply.metadata.__dict__["_src_node_id"] = node
    return reply


def test_a_late_node_is_left_out_and_taken_back(federation):
    slow = echo_app(delay=1.5)
    two = federation(echo_app(), slow)
    started = time.monotonic()
    replies = ask(two, timeout=0.5)
    assert time.monotonic() - started < 1.2
    assert not replies[0].has_error()
    assert replies[1].has_error() and "pi2" in replies[1].error.reason
    replies = ask(two, timeout=10)
    assert not any(r.has_error() for r in replies)
    assert [r.content["c"]["node"] for r in replies] == [1, 2]


def test_a_cut_connection_costs_no_second_training(federation):
    app = echo_app(delay=0.8)
    one = federation(app)
    cut = threading.Timer(0.3, lambda: one.links[1].cut(one.loop))
    cut.start()
    (reply,) = ask(one)
    cut.join()
    assert not reply.has_error()
    assert app.calls == 1
    assert one.grid.traffic()["pi1"].reconnects == 1


def test_a_node_that_is_lost_between_two_rounds_is_waited_for_as_within_one(federation):
    two = federation(echo_app(), echo_app())
    two.links[2].path.rename(away := two.links[2].path.with_suffix(".away"))
    two.links[2].cut(two.loop)
    time.sleep(0.3)
    assert 2 in two.grid.away() and list(two.grid.get_node_ids()) == [1, 2]
    threading.Timer(0.5, away.rename, (two.links[2].path,)).start()
    assert not any(reply.has_error() for reply in ask(two))


def test_a_node_that_was_waited_for_in_vain_is_not_waited_for_again(federation):
    two = federation(echo_app(), echo_app())
    two.links[2].path.unlink()
    two.links[2].cut(two.loop)
    time.sleep(0.3)
    assert [reply.has_error() for reply in ask(two, timeout=0.5)] == [False, True]
    assert list(two.grid.get_node_ids()) == [1]


def test_stop_ends_the_worker(federation):
    one = federation(echo_app())
    one.grid.close()
    one.workers[0].join(10)
    assert not one.workers[0].is_alive()


def test_a_node_without_a_worker_is_named(federation, monkeypatch):
    monkeypatch.setattr("fedrnn.transport.attachment.AWAY_SECONDS", 0.5)
    two = federation(echo_app(), echo_app())
    two.links[2].path.unlink()
    two.links[2].cut(two.loop)
    time.sleep(0.3)
    replies = ask(two, nodes=[1, 2])
    assert not replies[0].has_error()
    assert replies[1].has_error() and "pi2: away" in replies[1].error.reason


def test_the_time_in_which_the_controller_itself_slept_is_nobodys_delay(federation):
    """As after SIGSTOP, or a laptop's lid: the reply has long been there."""
    two = federation(echo_app(delay=0.3), echo_app())
    threading.Timer(0.1, two.loop.loop.call_soon_threadsafe, (time.sleep, 2.5)).start()
    assert not any(reply.has_error() for reply in ask(two, timeout=2.0))
