"""Checkpoints, progress and restarts for a training loop of your own.

    from modelwright import train

    with train.session() as session:
        first = session.resume(model=model, optimizer=optimizer)
        for step in range(first, total):
            ...
            session.report(step, loss=loss, total_steps=total)
            session.checkpoint(step, model=model, optimizer=optimizer)

The same in a pod of a TrainingJob, under torchrun, in the train function of Ray Train, and alone on your desk.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from modelwright.train._environment import begin
from modelwright.train._session import Session, Stopped

__all__ = ["Session", "Stopped", "session"]


@contextmanager
def session(folder: str | Path = "modelwright-run") -> Iterator[Session]:
    """Begin one process's part of a training, and end it.

    Under torchrun it joins the process group (gloo on CPUs, nccl on GPUs), unless there is one already, as in Ray
    Train. In a pod of a TrainingJob, checkpoints lie on S3 and progress goes to the operator; what the loop raises is
    left for it as the reason of the failure. Elsewhere checkpoints lie below `folder`, and nobody is told anything.
    """
    with begin(Path(folder)) as found:
        yield found
