"""Gangs of processes that train a small network, one gang after the other: `python gangs.py FOLDER 2,3,1 1,2`.

They are forked, so that torch is imported once for all. The gangs of one list share a folder: each goes on with four
steps, saves after the third, and rank 0 prints what it saw. `2:stop` is a gang whose last process gets SIGTERM in its
second step, `2:stop-whole` such a one under DDP. In `2:meet` rank 0 is slow to write what it alone writes. `2:apart` is
one with an optimizer for two modules that are sharded each by itself. In `2:own` each process reads rows of its own,
and every one tells of them; in `2:stages` each has a module of its own. `2:frozen` has frozen layers until it resumes.
"""

import json
import logging
import os
import signal
import socket
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
import torch._dynamo  # the optimizer does, in every process
from torch.distributed.fsdp import fully_shard
from torch.distributed.tensor import DTensor, init_device_mesh

from modelwright import train
from modelwright.registry.folder import FolderStore
from modelwright.train import Session, _resume  # noqa: F401 (imported before the processes part)

logger = logging.getLogger(__name__)
_STEPS = 4


def network() -> Any:
    torch.manual_seed(0)
    # Seven rows over two or three processes are unequal shares, and one row is for one of them alone.
    return torch.nn.Sequential(torch.nn.Linear(5, 7), torch.nn.Tanh(), torch.nn.Linear(7, 1))


def sums(model: Any, optimizer: Any) -> list[float]:
    values = [*model.parameters(), *(entry["exp_avg"] for entry in optimizer.state.values())]
    whole = [value.full_tensor() if isinstance(value, DTensor) else value for value in values]
    return [round(float(value.detach().double().sum()), 6) for value in whole]


def work(folder: Path, size: int, *, stops: bool, whole: bool, frozen: bool) -> None:
    torch.set_num_threads(1)
    with train.session(folder) as session:
        model = network()
        if whole:
            model = torch.nn.parallel.DistributedDataParallel(model)
        else:
            fully_shard(model, mesh=init_device_mesh("cpu", (size,)))
        optimizer = torch.optim.AdamW(model.parameters(), lr=0.01)
        model.requires_grad_(not frozen)
        first = session.resume(model=model, optimizer=optimizer)
        model.requires_grad_(True)
        seen: dict[str, Any] = {
            "story": folder.name,
            "size": session.size,
            "first": first,
            "found": sums(model, optimizer),
        }
        for step in range(first, first + _STEPS):
            torch.manual_seed(step)
            loss = (model(torch.randn(6, 5)) ** 2).mean()
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            if stops and step == 1 and session.rank == size - 1:
                os.kill(os.getpid(), signal.SIGTERM)
            seen["saved"] = sums(model, optimizer) if stops or step == first + 2 else seen.get("saved")
            try:
                session.checkpoint(step, force=step == first + 2 and not stops, model=model, optimizer=optimizer)
            except train.Stopped:
                say(session, {**seen, "stopped": step})
                raise
        say(session, seen)


def apart(folder: Path, size: int) -> None:
    torch.set_num_threads(1)
    with train.session(folder) as session:
        whole, mesh = network(), init_device_mesh("cpu", (size,))
        first_half, second_half = whole[0], whole[2]
        for half in (first_half, second_half):
            fully_shard(half, mesh=mesh)
        state = {"a": first_half, "b": second_half, "optimizer": torch.optim.AdamW(whole.parameters(), lr=0.01)}
        first = session.resume(**state)
        seen = {"story": folder.name, "size": size, "first": first, "found": sums(whole, state["optimizer"])}
        for step in range(first, first + _STEPS):
            torch.manual_seed(step)
            state["optimizer"].zero_grad()
            (whole(torch.randn(6, 5)) ** 2).mean().backward()
            state["optimizer"].step()
            if step == first + 2:
                seen["saved"] = sums(whole, state["optimizer"])
            session.checkpoint(step, force=step == first + 2, **state)
        say(session, seen)


class Reader:
    """Each so many-th number from that of this process: its position, and a number that is the same for all."""

    def __init__(self, session: Session) -> None:
        self.next, self.size = session.rank, session.size

    def __iter__(self) -> Iterator[int]:
        while True:
            self.next += self.size
            yield self.next - self.size

    def state_dict(self) -> dict[str, Any]:
        return {"next": self.next, "noise": torch.full((2,), self.next)}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.next = state["next"]
        assert state["noise"].tolist() == [self.next] * 2


class Average:
    """What is learnt, and is no module."""

    def __init__(self, value: float) -> None:
        self.value = torch.tensor(value)

    def state_dict(self) -> dict[str, Any]:
        return {"value": self.value}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.value = state["value"]


def own(folder: Path) -> None:
    with train.session(folder) as session:
        torch.manual_seed(0)
        state = {"model": network(), "reader": Reader(session), "average": Average(0.0)}
        first = session.resume(**state)
        average, rows = float(state["average"].value), iter(state["reader"])
        read = [next(rows) for _ in range(3)]
        state["average"] = Average(average + 1)
        session.checkpoint(first, force=True, **state)
        told = {"rank": session.rank, "size": session.size, "average": average, "read": read}
        # In one piece, for the others write too.
        sys.stdout.write(json.dumps({"story": folder.name, **told}) + "\n")
        sys.stdout.flush()


def stages(folder: Path) -> None:
    with train.session(folder) as session:
        stage = network()
        torch.nn.init.normal_(stage[0].weight, generator=torch.Generator().manual_seed(session.rank))
        try:
            session.checkpoint(0, force=True, stage=stage)
        except ValueError as error:
            say(session, {"story": folder.name, "size": session.size, "error": str(error)})
        other = {"stage": Average(float(session.rank)), "model": network()}
        session.checkpoint(1, force=True, **other)
        session.wait()
        stage = Average(-1.0)
        session.resume(stage=stage)
        if float(stage.value) != session.rank:
            raise RuntimeError(f"rank {session.rank} has the stage of rank {float(stage.value)}")


def meet(folder: Path) -> None:
    with train.session(folder) as session:
        model, upload = network(), FolderStore.upload

        def slow(*given: Any) -> None:
            time.sleep(1)
            upload(*given)

        if session.rank == 0:
            setattr(FolderStore, "upload", slow)  # noqa: B010 (a method, which mypy lets nobody replace)
        session.checkpoint(0, force=True, model=model)
        session.checkpoint(1, force=True, model=model)
        first = saved(folder)
        session.wait()
        if 1 not in first or saved(folder) != [1, 2]:
            raise RuntimeError(f"rank {session.rank} went on at {first}, and at {saved(folder)}")
        say(session, {"story": folder.name, "size": session.size})


def saved(folder: Path) -> list[int]:
    return sorted(int(path.parent.name) for path in folder.glob("runs/local/desk/checkpoints/*/manifest.json"))


def say(session: Session, seen: dict[str, Any]) -> None:
    if session.rank == 0:
        print(json.dumps(seen), flush=True)


def gang(folder: Path, size: int, mode: str) -> list[int]:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    children = []
    for rank in range(size):
        child = os.fork()
        if child == 0:
            os.environ |= {"RANK": str(rank), "WORLD_SIZE": str(size), "MASTER_ADDR": "127.0.0.1"}
            os.environ["MASTER_PORT"] = str(port)
            code = 0
            try:
                if mode == "meet":
                    meet(folder)
                elif mode == "apart":
                    apart(folder, size)
                elif mode in ("own", "stages"):
                    {"own": own, "stages": stages}[mode](folder)
                else:
                    whole, frozen = mode == "stop-whole", mode == "frozen"
                    work(folder, size, stops=mode.startswith("stop"), whole=whole, frozen=frozen)
            except SystemExit as end:
                code = int(end.code or 0)
            except Exception:
                logger.exception("process %d broke", rank)
                code = 1
            os._exit(code)
        children.append(child)
    return [os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) for child in children]


if __name__ == "__main__":
    for story in sys.argv[2:]:
        for word in story.split(","):
            size, _, mode = word.partition(":")
            codes = gang(Path(sys.argv[1]) / story, int(size), mode)
            expected = 143 if mode.startswith("stop") else 0
            assert codes == [expected] * int(size), codes
