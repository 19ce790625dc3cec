"""Our strategy with a ClientApp that knows nothing of names: a line through points."""

import numpy as np
import pytest
from flwr.app import Array, ArrayRecord, ConfigRecord, Context, Message, MetricRecord, RecordDict
from flwr.clientapp import ClientApp
from inprocess import InProcessGrid

from fedrnn.config import RunConfig
from fedrnn.federation.codec import Quantised, compress, dequantise, pack, unpack
from fedrnn.federation.strategies import GradientStrategy, to_arrays, to_flat

SHAPES = {"slope": (2,), "offset": (1,)}
SIZES = [2, 1]
TRUTH = np.array([2.0, -1.0, 0.5], np.float32)

app = ClientApp()


@app.train("gradient")
def train(message: Message, context: Context) -> Message:
    config, arrays, state = message.content["config"], message.content["arrays"], context.state
    if config["base"] == 0:
        weights, residual = arrays["weights"].numpy(), np.zeros(3, np.float32)
    else:
        delta = Quantised(unpack(arrays["delta"].numpy(), 3), arrays["scales"].numpy())
        weights = state["view"]["weights"].numpy() + dequantise(delta, SIZES)
        residual = state["view"]["residual"].numpy()
    draw = np.random.default_rng([config["node"], config["round"]])
    points = np.column_stack([draw.normal(size=(config["batch"], 2)), np.ones(config["batch"])])
    fault = points @ (weights - TRUTH)
    sent, residual = compress((points.T @ fault / len(fault)).astype(np.float32), residual, SIZES)
    state["view"] = ArrayRecord({"weights": Array(weights), "residual": Array(residual)})
    told = {"stale": 0, "num-examples": len(fault), "loss": float(np.square(fault).mean())}
    reply = ArrayRecord({"values": Array(pack(sent.values)), "scales": Array(sent.scales)})
    return Message(RecordDict({"arrays": reply, "metrics": MetricRecord(told)}), reply_to=message)


class ForeignGrid(InProcessGrid):
    def _answer(self, message):
        message.metadata.__dict__["_message_id"] = f"{len(self.sent)}"
        return app(message, self.contexts[message.metadata.dst_node_id])


def test_the_gradient_strategy_trains_any_client_app_that_answers_it(tmp_path):
    strategy = GradientStrategy(
        SHAPES, {1: 100, 2: 300}, RunConfig(rounds=150, batch=64, lr=0.1), ConfigRecord()
    )
    grid = ForeignGrid([tmp_path, tmp_path])
    start = to_arrays(np.zeros(3, np.float32), SHAPES)
    result = strategy.start(grid, start, num_rounds=150)
    np.testing.assert_allclose(to_flat(result.arrays, SHAPES), TRUTH, atol=0.1)  # decay pulls
    losses = [metrics["loss"] for metrics in result.train_metrics_clientapp.values()]
    assert losses[-1] < 0.02 < losses[0]
    batches = [reply.content["metrics"]["num-examples"] for reply in grid.replies[:2]]
    assert batches == [16, 48] and sum(batches) == pytest.approx(64)
