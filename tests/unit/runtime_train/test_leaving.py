"""What a run that is asked to stop leaves behind."""

import json
from pathlib import Path

from modelwright.api.run import TERMINATED
from modelwright.runtime.train.stop import EXIT_TERMINATED, leave
from modelwright.runtime.train.world import World


def test_a_process_that_is_killed_while_it_saves_has_said_that_it_did_not_fit(tmp_path: Path) -> None:
    message = tmp_path / "termination-log"
    message.touch()
    found: list[dict[str, object]] = []

    def save() -> bool:
        found.append(json.loads(message.read_text()))
        return True

    leave(40, World(), save, message)
    (said,) = found
    assert (said["reason"], said["step"], said["retryable"]) == (TERMINATED, 40, True)
    assert "did not fit into the grace period: raise checkpoint.graceSeconds" in str(said["message"])


def test_the_error_to_leave_with_tells_whether_it_was_saved(tmp_path: Path) -> None:
    nowhere = tmp_path / "none"
    saved, lost = (leave(40, World(), lambda outcome=outcome: outcome, nowhere) for outcome in (True, False))
    assert (saved.message, saved.exit_code) == ("Asked to stop; saved at step 40", EXIT_TERMINATED)
    assert lost.message == "Asked to stop; step 40 could not be saved"
    assert not nowhere.exists(), "only a pod has a termination message"
