"""Which answers of the API server are worth another try, and which people have to see."""

import orjson
import pytest

from modelwright.kube import errors


@pytest.mark.parametrize(
    ("code", "message", "kind"),
    [
        (500, "etcdserver: request timed out", errors.Unavailable),
        (
            500,
            'Internal error occurred: failed calling webhook "v.example.com": connection refused',
            errors.WebhookDown,
        ),
        (500, "failed to create typed patch object (ns/a; batch/v1, Kind=Job): unknown field", errors.Rejected),
        (503, "apiserver not ready", errors.Unavailable),
        (429, "too many requests", errors.Unavailable),
        (403, "exceeded quota", errors.Rejected),
        (404, "not found", errors.NotFound),
        (409, "the object has been modified", errors.Conflict),
        (410, "too old", errors.Expired),
    ],
)
def test_an_answer_is_what_its_status_and_its_words_say(code: int, message: str, kind: type[errors.ApiError]) -> None:
    assert type(errors.from_response(code, orjson.dumps({"message": message}))) is kind
