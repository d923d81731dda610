import asyncio
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from modelwright.kube import auth
from tests.unit.kube.fake_api import Clock, FakeApi

REVIEW: dict[str, Any] = {
    "authenticated": True,
    "audiences": ["modelwright"],
    "user": {
        "username": "system:serviceaccount:ns:default",
        "extra": {
            "authentication.kubernetes.io/pod-name": ["a-1-0"],
            "authentication.kubernetes.io/pod-uid": ["pod-uid"],
        },
    },
}


def test_a_token_bound_to_a_pod_proves_that_pod() -> None:
    assert auth.identity_of(REVIEW) == auth.PodIdentity("ns", "a-1-0", "pod-uid")


@pytest.mark.parametrize(
    "change",
    [
        {"authenticated": False},
        {"audiences": ["https://kubernetes.default.svc"]},
        {"audiences": None},
        {"user": None},
        {"user": {**REVIEW["user"], "username": "alice"}},
        {"user": {**REVIEW["user"], "extra": {}}},
        {"user": {"username": REVIEW["user"]["username"]}},
    ],
)
def test_anything_less_proves_nothing(change: dict[str, Any]) -> None:
    assert auth.identity_of({**REVIEW, **change}) is None


async def test_a_token_is_reviewed_once_a_minute() -> None:
    api, clock = FakeApi(), Clock()
    api.review = REVIEW
    tokens = auth.PodTokens(api, clock)
    await asyncio.gather(*(tokens.pod("t") for _ in range(20)))
    assert api.reviews == 1
    clock.now += 61
    assert await tokens.pod("t") == auth.PodIdentity("ns", "a-1-0", "pod-uid")
    assert api.reviews == 2


async def test_a_bad_token_is_remembered_for_a_short_time() -> None:
    api, clock = FakeApi(), Clock()
    tokens = auth.PodTokens(api, clock)
    assert await tokens.pod("t") is None
    assert await tokens.pod("t") is None
    assert api.reviews == 1
    clock.now += 11
    api.review = REVIEW
    assert await tokens.pod("t") is not None


async def test_a_token_that_is_no_text_proves_nothing_and_the_api_server_is_not_asked() -> None:
    api = FakeApi()
    api.review = REVIEW
    assert await auth.PodTokens(api).pod("\udcff") is None
    assert api.reviews == 0


@given(st.lists(st.floats(0, 3), max_size=60))
def test_the_rate_holds_over_any_time(pauses: list[float]) -> None:
    clock = Clock()
    rate = auth.Rate(per_second=1.0, burst=10.0, clock=clock)
    begun, passed = clock.now, 0
    for pause in pauses:
        clock.now += pause
        passed += rate.allows("caller")
        assert passed <= 10 + (clock.now - begun) + 1e-6


def test_one_caller_does_not_use_up_the_rate_of_another() -> None:
    rate = auth.Rate(clock=Clock())
    while rate.allows("greedy"):
        pass
    assert rate.allows("modest")


@pytest.mark.parametrize(
    ("header", "token"),
    [("Bearer abc", "abc"), ("bearer  abc ", "abc"), ("Basic abc", None), ("Bearer ", None), ("", None), (None, None)],
)
def test_bearer_tokens_are_read_from_the_header(header: str | None, token: str | None) -> None:
    assert auth.bearer(header) == token


def test_the_expected_token_is_what_the_file_holds_now(tmp_path: Path) -> None:
    file = tmp_path / "token"
    assert auth.expected_token(None) is None
    assert auth.expected_token(file) is None
    file.write_text("\n")
    assert auth.expected_token(file) is None
    file.write_text("secret\n")
    assert auth.expected_token(file) == "secret"


def test_tokens_are_compared_whole() -> None:
    assert auth.matches("sécret", "sécret")
    assert not auth.matches("secre", "secret")
    assert not auth.matches(None, "secret")
    assert not auth.matches("\udcff", "secret")


def test_a_token_file_that_is_no_text_is_a_token_all_the_same(tmp_path: Path) -> None:
    file = tmp_path / "token"
    file.write_bytes(b"\xffsecret\n")
    # As aiohttp decodes the bytes of a header.
    shown = b"\xffsecret".decode(errors="surrogateescape")
    assert auth.matches(shown, auth.expected_token(file))
