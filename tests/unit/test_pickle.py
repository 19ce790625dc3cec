"""A pickle runs what it likes when it is read: wherever one is offered, it is refused unread."""

import asyncio
import io
import pickle

import numpy as np
import pytest
from flwr.app import Array, ArrayRecord

from fedrnn.config import RunConfig
from fedrnn.datasite.answers import AnswerError, description, unpack
from fedrnn.federation.server_app import federate
from fedrnn.federation.strategies import FederationError
from fedrnn.learning.checkpoint import ModelConfig, load, save
from fedrnn.learning.model import parameters_of
from fedrnn.predict import main
from fedrnn.transport import wire

OWNER = "pi1@lab.local"


class Trap:
    """Lays down a file when it is unpickled."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return (open, (str(self.path), "w"))


@pytest.fixture
def trap(tmp_path):
    path = tmp_path / "was-read"
    yield pickle.dumps(Trap(path))
    assert not path.exists(), "the pickle was read"


def test_the_trap_works_so_the_tests_here_can_fail(tmp_path):
    pickle.loads(pickle.dumps(Trap(tmp_path / "was-read")))
    assert (tmp_path / "was-read").exists()


@pytest.mark.parametrize("name", ["model.safetensors", "config.json"])
def test_as_a_part_of_a_run(trap, tmp_path, capsys, name):
    config = ModelConfig(("Greek", "Polish"), "gru", 4, 4, 0.0)
    run = tmp_path / "run"
    run.mkdir()
    save(run, parameters_of(config.build()), config)
    load(run)
    (run / name).write_bytes(trap)
    assert main(["--run", str(run), "Kowalski"]) == 2
    assert f"{run} is damaged" in capsys.readouterr().err


def test_beside_a_run_without_a_model(trap, tmp_path, capsys):
    (tmp_path / "model.pt").write_bytes(trap)
    (tmp_path / "model.pkl").write_bytes(trap)
    assert main(["--run", str(tmp_path), "Kowalski"]) == 2
    assert capsys.readouterr().err


def test_as_an_answer_of_a_node(trap, tmp_path):
    with pytest.raises(AnswerError):
        description(trap, OWNER)
    with pytest.raises(AnswerError):
        unpack(trap, tmp_path, OWNER, "controller@lab.local", "job-1")


def test_as_a_message_or_a_frame(trap):
    with pytest.raises(ValueError, match="no Flower message"):
        wire.loads(trap)

    async def read():
        reader = asyncio.StreamReader()
        reader.feed_data(trap)
        reader.feed_eof()
        return await wire.read_frame(reader)

    with pytest.raises((ValueError, asyncio.IncompleteReadError)):
        asyncio.run(read())
    with pytest.raises((ValueError, EOFError)):
        wire.receive(io.BytesIO(trap))


def test_as_the_array_of_a_gradient(trap, make_grid):
    """An .npy file may hold a pickle: of objects."""
    grid = make_grid(["Finnish"])
    holder = np.empty(1, dtype=object)
    holder[0] = pickle.loads(pickle.dumps(0))
    stream = io.BytesIO()
    np.save(stream, holder, allow_pickle=True)
    head = stream.getvalue()[: stream.getvalue().index(b"\n") + 1]

    def tamper(message, reply):
        if message.metadata.message_type != "train.gradient":
            return reply
        arrays = reply.content.array_records["arrays"]
        poisoned = Array("object", (1,), "numpy.ndarray", head + trap)
        reply.content["arrays"] = ArrayRecord({"values": poisoned, "scales": arrays["scales"]})
        return reply

    grid.tamper = tamper
    with pytest.raises(FederationError, match="its gradient cannot be used"):
        federate(grid, RunConfig(rounds=2, hidden=8, embedding=4, batch=32))
