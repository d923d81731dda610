"""What the API server said of Jobs that it did not let start: whoever lets gangs in tells, and plans say it on."""

from collections.abc import Callable, Collection, Iterable

from modelwright.kube.objects import Key
from modelwright.plan.actions import Object
from modelwright.plan.conditions import Verdict


class Refusals:
    """The last refusal of every Job that still waits, by its UID. `wake` has the owner of a Job looked at."""

    def __init__(self, wake: Callable[[Key], object] = lambda key: None) -> None:
        self._wake = wake
        self._said: dict[str, Verdict] = {}

    def note(self, job: str, owner: Key | None, said: Verdict) -> None:
        """Take note of a refusal; the owner is looked at where it is news."""
        if self._said.get(job) != said:
            self._said[job] = said
            if owner is not None:
                self._wake(owner)

    def keep(self, jobs: Collection[str]) -> None:
        """Forget all Jobs but these."""
        self._said = {job: said for job, said in self._said.items() if job in jobs}

    def of(self, jobs: Iterable[Object]) -> Verdict | None:
        """Return why one of some Jobs was not let start; None: nobody refused that."""
        uids = (job["metadata"]["uid"] for job in jobs)
        return next((self._said[uid] for uid in uids if uid in self._said), None)
