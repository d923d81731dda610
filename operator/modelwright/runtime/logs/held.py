"""What a hang looks like that let no Python code run: stacks by the interpreter's own timer, and nothing else."""

import os
from collections.abc import Callable, Mapping
from pathlib import Path

from modelwright.api.failurepolicy import FailureClass
from modelwright.api.run import HANG, PEER_LOST, TERMINATION_MESSAGE_FILE, Failure
from modelwright.runtime.failure import shortened, write_failure


def tell(stacks: Mapping[str, bytes], add: Callable[[bytes], None], message_file: Path | None = None) -> None:
    """Print stacks, by rank, to the log, and leave the failure that they stand for, if there is none yet."""
    for rank, text in stacks.items():
        shown = f"rank {rank} held the interpreter:\n".encode() + text
        add(shown)
        os.write(2, shown)
    target = message_file or Path(TERMINATION_MESSAGE_FILE)
    if _explained(target):
        return
    ranks = ", ".join(stacks)
    said = f"no step in time, and the interpreter was held on rank {ranks}: the log shows where, and stacks/ beside it"
    told = shortened(HANG, said, retryable=True)
    write_failure(told.model_copy(update={"failure_class": FailureClass.HANG}), target)


def _explained(file: Path) -> bool:
    """Tell whether a cause was left already; that somebody was lost, as Ray's driver says, is none."""
    try:
        text = file.read_text()
        return bool(text) and Failure.model_validate_json(text).reason != PEER_LOST
    except OSError:
        return False
    except ValueError:
        # Words of the program's own.
        return True
