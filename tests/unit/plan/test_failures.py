"""Why a gang was lost, as its pods tell it."""

import json
from datetime import timedelta
from typing import Any

import pytest

from modelwright.api.failurepolicy import FailureClass
from modelwright.plan.actions import Object
from modelwright.plan.conditions import Reason
from modelwright.plan.failures import Cause, Loss, classify, likelier
from modelwright.plan.startup import Trouble, trouble
from modelwright.plan.times import parse, stamp


def pod(index: int = 0, phase: str = "Failed", at: str = "2026-11-23T10:00:00Z", **status: Any) -> Object:
    ended = status.pop("ended", None)
    if ended is not None:
        state = {"terminated": {"finishedAt": at, "exitCode": 1, **ended}}
        status["containerStatuses"] = [{"name": "worker", "state": state}]
    labels = {"batch.kubernetes.io/job-completion-index": str(index)}
    return {"metadata": {"name": f"a-1-{index}", "labels": labels}, "status": {"phase": phase, **status}}


def said(reason: str, *, retryable: bool) -> dict[str, str]:
    return {"message": json.dumps({"reason": reason, "message": "because", "retryable": retryable})}


def disrupted(reason: str) -> dict[str, Any]:
    return {"conditions": [{"type": "DisruptionTarget", "status": "True", "reason": reason}]}


@pytest.mark.parametrize(
    ("status", "cause", "words"),
    [
        (
            {"ended": {"exitCode": 3, "message": "line\nValueError: no\n\n"}},
            Cause.WORKER_FAILED,
            "code 3: ValueError: no",
        ),
        ({"ended": {"exitCode": 137}}, Cause.WORKER_FAILED, "was killed"),
        (
            {"ended": {"message": "Traceback\ntorch.OutOfMemoryError: CUDA out of memory. Tried\nbye"}},
            Cause.OUT_OF_MEMORY,
            "ran out of memory: torch.OutOfMemoryError: CUDA out of memory. Tried",
        ),
        ({"ended": {"reason": "OOMKilled"}}, Cause.OUT_OF_MEMORY, "raise workers.resources.limits.memory"),
        ({"reason": "Evicted", "message": "low on disk"}, Cause.EVICTED, "was evicted by its node"),
        ({"reason": "NodeLost"}, Cause.NODE_LOST, "lost its node"),
        ({"reason": "Preempting"}, Cause.PREEMPTED, "was preempted"),
        (disrupted("PreemptionByScheduler"), Cause.PREEMPTED, "was preempted"),
        (disrupted("DeletionByTaintManager"), Cause.NODE_LOST, "lost its node"),
        (disrupted("EvictionByEvictionAPI"), Cause.EVICTED, "was evicted"),
        (disrupted("SomethingNew"), Cause.EVICTED, "was evicted"),
        ({"ended": said("PeerLost", retryable=True)}, "PeerLost", "because"),
        ({"reason": "Terminated"}, Cause.NODE_SHUTDOWN, "its node was shut down"),
        (
            {"reason": "UnexpectedAdmissionError", "message": "Pod was rejected: no healthy devices"},
            Cause.NODE_REFUSED,
            "was refused by its node: Pod was rejected: no healthy devices",
        ),
        ({"ended": {"exitCode": 137, "reason": "ContainerStatusUnknown"}}, Cause.NODE_LOST, "its node lost track"),
        ({"ended": {"exitCode": 255, "reason": "Unknown"}}, Cause.NODE_LOST, "its node lost track"),
        ({}, Cause.WORKER_FAILED, "failed"),
    ],
)
def test_each_way_to_fail_has_its_name_and_its_worker(status: dict[str, Any], cause: str, words: str) -> None:
    loss = classify([pod(1, **status)])
    assert loss.reason == cause
    assert loss.message.startswith("pod a-1-1 (worker 1)")
    assert words in loss.message
    assert loss.retryable


@pytest.mark.parametrize(
    ("words", "kind"),
    [
        ({"reason": "OutOfMemory", "message": "raise it", "failureClass": "OutOfMemory"}, FailureClass.OUT_OF_MEMORY),
        ({"reason": "Trouble", "message": "torch.OutOfMemoryError: CUDA out of memory"}, FailureClass.OUT_OF_MEMORY),
        (
            {"reason": "Trouble", "message": "torch.OutOfMemoryError: no", "failureClass": "ApplicationError"},
            FailureClass.APPLICATION_ERROR,
        ),
        ({"reason": "Trouble", "message": "torch.OutOfMemoryError: no", "retryable": False}, FailureClass.DATA_ERROR),
    ],
)
def test_want_of_memory_is_a_class_of_its_own_whoever_tells_it(words: dict[str, Any], kind: FailureClass) -> None:
    told = pod(1, ended={"message": json.dumps(words)})
    loss = classify([pod(0, ended={"message": "ConnectionError: worker 1 is gone"}, at="2026-11-23T09:59:59Z"), told])
    assert classify([told]).failure_class is kind
    assert (loss.reason == "OutOfMemory") == (words["reason"] == "OutOfMemory"), "its peers failed for want of it"


def test_what_a_new_attempt_cannot_cure_is_not_retried() -> None:
    loss = classify([pod(ended=said("DataInvalid", retryable=False))])
    assert (loss.reason, loss.message, loss.retryable) == ("DataInvalid", "pod a-1-0 (worker 0): because", False)
    assert loss.failure_class is FailureClass.DATA_ERROR


def test_the_root_is_believed_before_those_that_it_took_along() -> None:
    peers = [pod(index, ended={"exitCode": 1}) for index in range(3)]
    late = "2026-11-23T10:00:09Z"
    evicted = pod(3, at=late, ended={"exitCode": 143}, **disrupted("EvictionByEvictionAPI"))
    starved = pod(4, at=late, ended={"reason": "OOMKilled"})
    wrong = pod(5, at=late, ended=said("ThresholdNotMet", retryable=False))
    assert classify([*peers, starved]).reason == Cause.OUT_OF_MEMORY
    assert classify([*peers, starved, evicted]).reason == Cause.EVICTED
    assert classify([*peers, starved, evicted, wrong]).reason == "ThresholdNotMet"


def test_among_equals_the_first_to_fail_counts() -> None:
    first = pod(2, at="2026-11-23T10:00:01Z", ended={"exitCode": 1})
    second = pod(0, at="2026-11-23T10:00:02Z", ended={"exitCode": 1})
    assert "(worker 2)" in classify([second, first]).message


def deleted(index: int, asked: str, at: str, grace: int = 30, **ended: Any) -> Object:
    found = pod(index, at=at, ended={"exitCode": 143, **ended})
    end = stamp(parse(asked) + timedelta(seconds=grace))
    found["metadata"] |= {"deletionTimestamp": end, "deletionGracePeriodSeconds": grace}
    return found


def test_a_program_that_was_told_to_leave_with_its_pod_has_made_no_error() -> None:
    first = deleted(1, "2026-11-23T10:00:00Z", "2026-11-23T10:00:09Z")
    peer = pod(0, at="2026-11-23T10:00:05Z", ended={"exitCode": 1})
    loss = classify([first, peer], 2)
    assert (loss.reason, loss.failure_class) == (Cause.POD_DELETED, FailureClass.INFRASTRUCTURE)
    assert loss.message == "pod a-1-1 (worker 1) was deleted before it ended"


STOPPED = said("Terminated", retryable=True)


def test_of_a_gang_that_was_told_to_leave_the_pod_that_was_deleted_is_the_root() -> None:
    first = deleted(1, "2026-11-23T10:00:04Z", "2026-11-23T10:00:05Z", **STOPPED)
    alone = pod(0, at="2026-11-23T10:00:05Z", ended=STOPPED)
    # By its Job, when the first had ended; that may be within the same second.
    later = [deleted(0, f"2026-11-23T10:00:0{second}Z", "2026-11-23T10:00:05Z", **STOPPED) for second in (5, 6)]
    for peer in (alone, *later):
        for pods in ([first, peer], [peer, first]):
            loss = classify(pods, 2)
            assert (loss.reason, loss.failure_class) == (Cause.POD_DELETED, FailureClass.INFRASTRUCTURE)
            assert loss.message == "pod a-1-1 (worker 1) was deleted before it ended. because"


def test_a_pod_that_was_told_to_leave_by_somebody_else_was_not_deleted() -> None:
    signalled = pod(1, at="2026-11-23T10:00:04Z", ended=STOPPED)
    by_its_job = deleted(0, "2026-11-23T10:00:05Z", "2026-11-23T10:00:06Z", **STOPPED)
    loss = classify([by_its_job, signalled], 2)
    assert (loss.reason, loss.message) == ("Terminated", "pod a-1-1 (worker 1): because")


@pytest.mark.parametrize("asked", ["2026-11-23T10:00:00Z", "2026-11-23T10:00:01Z"])
def test_pods_that_are_deleted_because_another_one_broke_are_not_the_root(asked: str) -> None:
    broken = pod(1, at="2026-11-23T10:00:00Z", ended={"exitCode": 1})
    assert "(worker 1) exited with code 1" in classify([deleted(0, asked, "2026-11-23T10:00:02Z"), broken], 2).message
    starved = deleted(0, asked, "2026-11-23T10:00:02Z", reason="OOMKilled")
    assert classify([starved, broken], 2).reason == Cause.OUT_OF_MEMORY


def test_the_container_that_failed_is_heard_and_not_its_side_car() -> None:
    found = pod(ended={"exitCode": 42, "message": "no"})
    beside = {"name": "a-proxy", "state": {"terminated": {"exitCode": 0, "message": "bye"}}}
    found["status"]["containerStatuses"].insert(0, beside)
    assert "exited with code 42: no" in classify([found]).message


def test_the_likelier_root_of_two_that_were_seen_at_different_times() -> None:
    peer, stopped, gone = (Loss(why, "") for why in ("PeerLost", "Terminated", Cause.POD_DELETED))
    starved = Loss(Cause.OUT_OF_MEMORY, "", FailureClass.OUT_OF_MEMORY)
    final = Loss("DataInvalid", "", FailureClass.DATA_ERROR, retryable=False)
    assert likelier(peer, starved) == likelier(starved, peer) == starved
    assert likelier(starved, final) == likelier(final, starved) == final
    assert likelier(gone, peer) == likelier(peer, gone) == peer
    assert likelier(stopped, gone) == gone, "it was there when it was seen first"
    assert likelier(peer, Loss("PeerLost", "another")) == peer


def test_pods_that_are_gone_were_deleted() -> None:
    assert classify([]).reason == Cause.POD_DELETED
    assert classify([pod(phase="Running")]).reason == Cause.POD_DELETED


@pytest.mark.parametrize("echo", ["PeerLost", "Terminated"])
def test_who_may_speak_of_a_peer_is_believed_last(echo: str) -> None:
    told = pod(0, at="2026-11-23T10:00:00Z", ended=said(echo, retryable=True))
    killed = pod(1, at="2026-11-23T10:00:01Z", ended={"exitCode": 1})
    assert classify([told, killed], 2).reason == Cause.WORKER_FAILED
    loss = classify([told], 1)
    assert (loss.reason, loss.failure_class) == (echo, FailureClass.INFRASTRUCTURE), (
        "though an older image gives no class"
    )
    assert classify([told, pod(1, phase="Running")], 2).reason == echo


def test_a_gang_that_was_asked_to_stop_lost_the_pod_that_is_missing() -> None:
    stopped, cut_off = (pod(0, ended=said(echo, retryable=True)) for echo in ("Terminated", "PeerLost"))
    assert classify([stopped], 2) == Loss(Cause.POD_DELETED, "the pod of worker 1 was deleted before it ended")
    assert classify([cut_off], 2).reason == "PeerLost"


HUNG = {"message": json.dumps({"reason": "Hang", "message": "no step", "failureClass": "Hang", "step": 7})}
STACKS = {"message": 'Timeout (0:05:12)!\nThread 0x1 (most recent call first):\n  File "a.py", line 7 in step\n'}


@pytest.mark.parametrize("hung", [HUNG, STACKS])
@pytest.mark.parametrize(
    "other",
    [
        said("PeerLost", retryable=True),
        said("Terminated", retryable=True),
        {"exitCode": 143},
        {"exitCode": 137},
        {"exitCode": 1, "message": "ValueError: x"},
    ],
)
def test_a_hang_is_believed_before_what_it_does_to_others(hung: dict[str, str], other: dict[str, Any]) -> None:
    early = pod(1, at="2026-11-23T09:59:59Z", ended=other)
    loss = classify([early, pod(0, ended=hung)], 2)
    assert (loss.reason, loss.failure_class, loss.retryable) == (Cause.HANG, FailureClass.HANG, True)
    assert "(worker 0)" in loss.message
    earlier = classify([early], 2)
    assert likelier(earlier, loss) == loss
    assert likelier(loss, earlier) == loss


@pytest.mark.parametrize("root", [disrupted("DeletionByTaintManager"), {"ended": {"reason": "OOMKilled"}}])
def test_who_stood_still_for_a_lost_node_or_a_killed_process_did_not_hang(root: dict[str, Any]) -> None:
    loss = classify([pod(0, ended=HUNG), pod(1, **root)], 2)
    assert loss.failure_class is not FailureClass.HANG
    assert "(worker 1)" in loss.message


def test_a_long_line_is_cut() -> None:
    assert len(classify([pod(ended={"message": "x" * 5000})]).message) < 400


@pytest.mark.parametrize("message", ["", "not JSON", "{}", '{"reason": "no camel", "message": ""}', "[1]"])
def test_a_termination_message_of_somebody_else_is_just_text(message: str) -> None:
    assert classify([pod(ended={"exitCode": 1, "message": message})]).reason == Cause.WORKER_FAILED


def waiting(why: str, message: str = "") -> Object:
    state = {"waiting": {"reason": why, "message": message}}
    return pod(phase="Pending", containerStatuses=[{"name": "worker", "image": "img:1", "state": state}])


def test_what_keeps_pods_from_starting_is_said() -> None:
    pulled = trouble([pod(phase="Running"), waiting("ImagePullBackOff")])
    assert pulled == Trouble(Reason.IMAGE_PULL_FAILED, "img:1 cannot be pulled: check its name and imagePullSecrets")
    config = trouble([waiting("CreateContainerConfigError", 'secret "s3" not found')])
    assert config == Trouble(Reason.CONTAINER_CONFIG_INVALID, 'pod a-1-0 cannot start: secret "s3" not found')
    unscheduled = {"type": "PodScheduled", "status": "False", "reason": "Unschedulable", "message": "0/3 nodes"}
    assert trouble([pod(phase="Pending", conditions=[unscheduled])]) == Trouble(
        Reason.UNSCHEDULABLE, "pods find no node: 0/3 nodes"
    )


def test_pods_on_their_way_are_no_trouble() -> None:
    assert trouble([waiting("ContainerCreating"), pod(phase="Pending"), pod(phase="Running")]) is None


def init(name: str, **state: Any) -> dict[str, Any]:
    return {"name": name, "state": state}


def test_an_init_container_that_failed_is_named_with_its_last_words() -> None:
    ended = {"exitCode": 2, "message": "connecting\nno such bucket\n"}
    waiting = {"containerStatuses": [{"name": "worker", "state": {"waiting": {"reason": "PodInitializing"}}}]}
    fetch = {"initContainerStatuses": [init("cache", running={}), init("fetch", terminated=ended)], **waiting}
    loss = classify([pod(**fetch)])
    assert loss.message == (
        "pod a-1-0 (worker 0) did not begin: its init container fetch exited with code 2: no such bucket"
    )
    assert (loss.reason, loss.exit_code) == (Cause.WORKER_FAILED, 2)


def test_a_side_car_that_is_stopped_with_its_pod_is_not_the_cause() -> None:
    stopped = {"initContainerStatuses": [init("cache", terminated={"exitCode": 137})]}
    loss = classify([pod(ended={"exitCode": 3, "message": "ValueError: no"}, **stopped)])
    assert (loss.exit_code, loss.message) == (3, "pod a-1-0 (worker 0) exited with code 3: ValueError: no")


@pytest.mark.parametrize(("told", "blamed"), [(None, "node-1"), ("node-9", "node-9"), ("", None)])
def test_a_pod_may_say_that_another_node_is_to_blame_or_none(told: str | None, blamed: str | None) -> None:
    document = {"reason": "PreflightFailed", "message": "because", "failureClass": "Infrastructure", "node": told}
    found = {**pod(ended={"message": json.dumps(document)}), "spec": {"nodeName": "node-1"}}
    loss = classify([found])
    assert (loss.reason, loss.failure_class, loss.node) == ("PreflightFailed", FailureClass.INFRASTRUCTURE, blamed)


@pytest.mark.parametrize("outcome", ["Asked to stop; saved at step 40", "Asked to stop at step 40; it did not fit"])
def test_a_pod_that_had_to_leave_tells_whether_it_saved(outcome: str) -> None:
    message = json.dumps({"reason": "Terminated", "message": outcome, "step": 40})
    loss = classify([pod(ended={"exitCode": 143, "message": message}, **disrupted("PreemptionByScheduler"))])
    assert loss.reason == Cause.PREEMPTED
    assert loss.message == f"pod a-1-0 (worker 0) was preempted by a pod of higher priority. {outcome}"
    assert loss.step == 40
