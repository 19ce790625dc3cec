"""Prove on a node that torch computes: a matrix product and one training step of a GRU.

Prints one JSON object: version, whether there is CUDA, milliseconds of each. Exits by an
AssertionError where a result is wrong. A processor that lacks an instruction dies with SIGILL.
"""

import json
import time

import torch

torch.manual_seed(0)
torch.set_num_threads(1)

left = torch.arange(64 * 64, dtype=torch.float64).reshape(64, 64) % 7
start = time.perf_counter()
product = left.float() @ left.float()
matmul_ms = 1000 * (time.perf_counter() - start)
# Small integers: exact in float32, whatever the order of the sum.
assert torch.equal(product.double(), (left[:, :, None] * left[None]).sum(1))

gru = torch.nn.GRU(32, 96, batch_first=True, bidirectional=True)
names = torch.randn(32, 20, 32)
start = time.perf_counter()
before = gru(names)[0].square().mean()
before.backward()
with torch.no_grad():
    for weight in gru.parameters():
        assert weight.grad is not None and torch.isfinite(weight.grad).all()
        weight -= 0.1 * weight.grad
gru_ms = 1000 * (time.perf_counter() - start)
after = gru(names)[0].square().mean()
assert after < before, f"a step against the gradient raised the loss: {before} to {after}"

print(
    json.dumps(
        {
            "version": torch.__version__,
            "cuda": torch.version.cuda is not None,
            "matmul_ms": round(matmul_ms, 2),
            "gru_ms": round(gru_ms, 1),
        }
    )
)
