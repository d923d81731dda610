import os
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context

import pytest

from e2e.cluster import ports
from modelwright.runtime.train.world import joined


@pytest.mark.timeout(300)  # two processes, and each imports torch
def test_ranks_agree_on_what_rank_0_says() -> None:
    with ProcessPoolExecutor(2, mp_context=get_context("spawn")) as pool:
        answers = list(pool.map(_member, range(2), ports.free(1) * 2))
    assert answers == [([0, "né"], [3.0, 1.0])] * 2


def _member(rank: int, port: int) -> tuple[object, list[float]]:
    os.environ |= {"RANK": str(rank), "WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    with joined() as world:
        return world.agree([rank, "né"]), world.sum([rank + 1.0, float(rank)])
