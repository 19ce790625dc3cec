"""torch's own exchange between nodes, gloo's all-reduce of one flat gradient, timed.

No governance, no strategy, and it ends with its first node. Each node runs this file, as its
operator: `python allreduce.py RANK NODES ADDRESS INTERFACE NUMBERS ROUNDS`.
"""

from __future__ import annotations

import os
import statistics
import sys
import time


def main() -> None:
    """Take part; rank 0 prints the median in milliseconds."""
    rank, nodes, address, interface, numbers, rounds = sys.argv[1:]
    os.environ.update(MASTER_ADDR=address, MASTER_PORT="29555", GLOO_SOCKET_IFNAME=interface)
    import torch
    from torch import distributed

    torch.set_num_threads(1)
    distributed.init_process_group("gloo", rank=int(rank), world_size=int(nodes))
    gradient = torch.ones(int(numbers))
    taken = []
    for _ in range(int(rounds)):
        began = time.perf_counter()
        distributed.all_reduce(gradient)
        gradient /= int(nodes)
        taken.append(1e3 * (time.perf_counter() - began))
    if rank == "0":
        print(statistics.median(taken[len(taken) // 10 :]))
    distributed.barrier()
    distributed.destroy_process_group()


if __name__ == "__main__":
    main()
