import copy

import kopf

from modelwright.kube import trigger
from modelwright.kube.objects import Key, Objects
from modelwright.kube.resources import OURS
from tests.unit.kube.fake_api import training_job

JOBS = OURS[0]
KEY = Key("TrainingJob", "ns", "a")


def shown(version: int) -> dict:
    document = training_job(epochs=version)
    document["metadata"] |= {"uid": "u", "resourceVersion": str(version)}
    return document


def test_what_kopf_sees_goes_into_the_store_and_out_again() -> None:
    objects = Objects()
    for kind, version in ((None, 1), ("ADDED", 1), ("MODIFIED", 3), ("MODIFIED", 2)):
        trigger.take(objects, JOBS, {"type": kind, "object": shown(version)})
    assert objects.get(KEY)["spec"] == {"epochs": 3}
    trigger.take(objects, JOBS, {"type": "DELETED", "object": shown(4)})
    assert objects.get(KEY) is None


def test_the_event_is_left_as_it_was() -> None:
    event = {"type": "ADDED", "object": shown(1)}
    before = copy.deepcopy(event)
    trigger.take(Objects(), JOBS, event)
    assert event == before


def test_kopf_keeps_no_state_and_never_watches_without_an_end() -> None:
    settings = trigger.settings()
    assert settings.peering.standalone
    assert not settings.posting.enabled
    assert settings.scanning.disabled
    assert settings.watching.server_timeout < settings.watching.client_timeout
    assert settings.watching.chunk_size == 100
    assert settings.persistence.finalizer.startswith("kopf.modelwright.dev/")
    storage = settings.persistence.diffbase_storage
    assert storage.fetch(body=kopf.Body(shown(1))) is None
    assert storage.build(body=kopf.Body(shown(1))) == {}


def test_a_request_of_kopf_is_repeated_for_ever_with_growing_pauses() -> None:
    pauses = iter(trigger.settings().networking.error_backoffs)
    first = [next(pauses) for _ in range(8)]
    assert first == [1, 2, 4, 8, 16, 30, 30, 30]
