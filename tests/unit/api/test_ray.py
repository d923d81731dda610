"""How many workers train under Ray, and what each takes."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from modelwright.api.ray import Pods, Ray, ResourcesPerWorker, misfit, scaling


def asked(workers: int | None = None, **each: float) -> Ray:
    return Ray(num_workers=workers, resources_per_worker=ResourcesPerWorker.model_validate(each))


@pytest.mark.parametrize(
    ("ray", "pods", "workers", "resources"),
    [
        # Without a wish: one a pod, or one a GPU.
        (None, Pods(3, 0), 3, {"CPU": 0.01}),
        (None, Pods(3, 2), 6, {"GPU": 1.0}),
        (asked(), Pods(3, 2), 6, {"GPU": 1.0}),
        (asked(5), Pods(3, 0), 5, {"CPU": 0.01}),
        (asked(cpu=2), Pods(3, 0), 3, {"CPU": 2.0}),
        # As many as the GPUs hold: a part of one lies on one of them.
        (asked(gpu=0.5), Pods(2, 1), 4, {"GPU": 0.5}),
        (asked(gpu=0.3), Pods(1, 2), 6, {"GPU": 0.3}),
        (asked(gpu=0.7), Pods(1, 2), 2, {"GPU": 0.7}),
        (asked(gpu=2), Pods(2, 5), 4, {"GPU": 2.0}),
        (asked(3, gpu=0.5, cpu=1), Pods(2, 1), 3, {"CPU": 1.0, "GPU": 0.5}),
        # On CPUs, though the pods have GPUs.
        (asked(gpu=0), Pods(2, 4), 2, {"CPU": 0.01}),
    ],
)
def test_there_are_as_many_workers_as_asked_for_or_as_fit(
    ray: Ray | None, pods: Pods, workers: int, resources: dict[str, float]
) -> None:
    wanted = scaling(ray, pods)
    assert (wanted.workers, wanted.resources) == (workers, resources)
    assert misfit(wanted, pods) is None


@pytest.mark.parametrize(
    ("ray", "pods", "shares"),
    [
        (None, Pods(2, 4), False),
        (asked(gpu=0.5), Pods(2, 1), True),
        # Each has a pod, and so a GPU, for itself.
        (asked(2, gpu=0.5), Pods(2, 1), False),
        # Two of these do not find room on one GPU.
        (asked(gpu=0.6), Pods(1, 2), False),
        (asked(4, gpu=0), Pods(2, 1), False),
    ],
)
def test_who_may_share_a_gpu_is_known(ray: Ray | None, pods: Pods, shares: bool) -> None:
    assert scaling(ray, pods).shares_gpus is shares


@pytest.mark.parametrize(
    ("ray", "pods", "sentence"),
    [
        (asked(gpu=0.5), Pods(2, 0), "resourcesPerWorker.gpu needs GPUs: ask for some in workers.resources.limits"),
        (
            asked(5, gpu=0.5),
            Pods(2, 1),
            "5 workers do not fit: a pod has 1 GPU, which is room for 2 of them, and there are 2 pods",
        ),
        (
            asked(cpu=4),
            Pods(1, 0, 2),
            "1 workers do not fit: a pod has 2 whole CPU, which is room for 0 of them, and there is 1 pod",
        ),
        (
            asked(3, gpu=0.3, cpu=2),
            Pods(1, 1, 4),
            "3 workers do not fit: a pod has 1 GPU and 4 whole CPU, which is room for 2 of them, and there is 1 pod",
        ),
    ],
)
def test_what_ray_would_wait_for_in_vain_is_told_in_a_sentence(ray: Ray, pods: Pods, sentence: str) -> None:
    assert misfit(scaling(ray, pods), pods) == sentence


@given(
    gpu=st.one_of(st.floats(0.01, 1), st.integers(0, 8).map(float)),
    cpu=st.one_of(st.none(), st.floats(0.01, 1), st.integers(1, 8).map(float)),
    workers=st.integers(1, 40),
    count=st.integers(1, 10),
)
def test_pods_that_have_what_is_needed_hold_all_workers_and_one_pod_nothing_less(
    gpu: float, cpu: float | None, workers: int, count: int
) -> None:
    each = {"gpu": gpu} | ({} if cpu is None else {"cpu": cpu})
    wanted = scaling(asked(workers, **each), Pods(count, 0))
    needed = wanted.needed
    pods = Pods(count, needed.get("GPU", 0), needed.get("CPU"))
    assert misfit(wanted, pods) is None
    if gpu and count == 1:
        assert misfit(wanted, Pods(1, pods.gpus - 1, pods.cpus)) is not None


@given(
    gpu=st.one_of(st.floats(0.01, 1), st.integers(1, 8).map(float)), gpus=st.integers(1, 8), count=st.integers(1, 20)
)
def test_the_gpus_hold_what_is_started_on_them_unless_one_worker_needs_more_than_a_pod(
    gpu: float, gpus: int, count: int
) -> None:
    pods = Pods(count, gpus)
    wanted = scaling(asked(gpu=gpu), pods)
    assert (misfit(wanted, pods) is None) == (gpu <= gpus)
    assert wanted.workers * gpu <= max(gpus, gpu) * count + 1e-6
