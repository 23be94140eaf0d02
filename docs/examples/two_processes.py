"""Fit a file whose rows several processes share: torchrun --nproc-per-node 2 two_processes.py."""

import numpy as np
from torch import distributed

import xem
import xem.torch

CHUNK = 16384
MODEL = xem.Mixture(xem.MultivariateNormal("full"), 3)


def main() -> None:
    distributed.init_process_group("gloo")  # "nccl" where each rank has a GPU
    rank, n_ranks = distributed.get_rank(), distributed.get_world_size()

    x = np.load("rows.npy", mmap_mode="r")  # nothing is read yet
    first, last = len(x) * rank // n_ranks, len(x) * (rank + 1) // n_ranks
    mine = x[first:last]

    fit = xem.torch.fit_batches(
        MODEL,
        [mine[i : i + CHUNK] for i in range(0, len(mine), CHUNK)],  # views of the file
        init="k-means++",
        seed=0,
        group=distributed.group.WORLD,
    )
    print(f"rank {rank}: {len(mine)} rows, {int(fit.n_iter)} iterations", flush=True)
    if rank == 0:  # all have the same
        xem.save(fit, "fit.npz")
    distributed.destroy_process_group()


if __name__ == "__main__":
    main()
