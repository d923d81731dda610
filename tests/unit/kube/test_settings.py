import logging
import os
import socket
from pathlib import Path

import orjson
import pytest

from modelwright.kube import logs, settings
from modelwright.kube.settings import SettingsError

LEAST = {"MODELWRIGHT_RUNTIME_IMAGE": "r:1", "MODELWRIGHT_SERVER_IMAGE": "s:1"}


def test_two_images_are_enough() -> None:
    process = settings.read(LEAST)
    assert (process.plans.runtime_image, process.plans.server_image) == ("r:1", "s:1")
    assert process.plans.report_url is None
    assert process.scopes == (None,)
    assert process.alert_token_file is None
    assert process.gang_scheduling


def test_outside_a_pod_two_processes_sign_differently() -> None:
    assert settings.read(LEAST).identity == f"{socket.gethostname()}-{os.getpid()}_127.0.0.1"


def test_everything_can_be_set() -> None:
    process = settings.read(
        {
            **LEAST,
            "MODELWRIGHT_REPORT_URL": "http://operator:8080/",
            "MODELWRIGHT_STORAGE_URI": "s3://models/prod",
            "MODELWRIGHT_STORAGE_ENDPOINT": "http://minio:9000",
            "MODELWRIGHT_STORAGE_REGION": "eu-central-1",
            "MODELWRIGHT_STORAGE_SECRET_NAME": "keys",
            "MODELWRIGHT_WATCH_NAMESPACES": "a, b,",
            "MODELWRIGHT_POD_NAME": "operator-1",
            "MODELWRIGHT_POD_IP": "fd00::1",
            "MODELWRIGHT_POD_NAMESPACE": "system",
            "MODELWRIGHT_LEASE_NAME": "lease",
            "MODELWRIGHT_HTTP_PORT": "9000",
            "MODELWRIGHT_CONCURRENCY": "32",
            "MODELWRIGHT_ALERT_TOKEN_FILE": "/etc/token",
            "MODELWRIGHT_LOG_FORMAT": "text",
            "MODELWRIGHT_LOG_LEVEL": "DEBUG",
            "MODELWRIGHT_GANG_SCHEDULING": "Disabled",
        }
    )
    assert not process.gang_scheduling
    assert process.plans.report_url == "http://operator:8080"
    assert process.plans.storage.document() == {
        "uri": "s3://models/prod",
        "endpoint": "http://minio:9000",
        "region": "eu-central-1",
        "secretName": "keys",
    }
    assert process.scopes == process.namespaces == ("a", "b")
    assert process.identity == "operator-1_fd00::1"
    assert (process.lease_name, process.pod_namespace, process.http_port) == ("lease", "system", 9000)
    assert (process.concurrency, process.alert_token_file) == (32, Path("/etc/token"))
    assert (process.log_format, process.log_level) == ("text", "DEBUG")


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("RUNTIME_IMAGE", " ", "MODELWRIGHT_RUNTIME_IMAGE is not set"),
        ("STORAGE_URI", "gs://x", "MODELWRIGHT_STORAGE_*: storage.uri: "),
        ("HTTP_PORT", "http", "MODELWRIGHT_HTTP_PORT is 'http': a number from 1 to 65535 is wanted"),
        ("HTTP_PORT", "70000", "MODELWRIGHT_HTTP_PORT is '70000'"),
        ("CONCURRENCY", "0", "MODELWRIGHT_CONCURRENCY is '0': a number from 1 to 256 is wanted"),
        ("LOG_FORMAT", "xml", "MODELWRIGHT_LOG_FORMAT is 'xml': one of json, text is wanted"),
        ("LOG_LEVEL", "LOUD", "MODELWRIGHT_LOG_LEVEL is 'LOUD'"),
        ("GANG_SCHEDULING", "Always", "MODELWRIGHT_GANG_SCHEDULING is 'Always': one of Auto, Disabled is wanted"),
        ("QUOTAS", "gpus", "MODELWRIGHT_QUOTAS: a list of {name, namespaces, resources} in JSON is wanted"),
        ("QUOTAS", '[{"name": "a"}]', "MODELWRIGHT_QUOTAS: a list of {name, namespaces, resources} in JSON is wanted"),
        ("QUOTAS", '[{"name": "a", "resources": {"cpu": "x"}}]', "MODELWRIGHT_QUOTAS: a list of "),
        (
            "QUOTAS",
            '[{"name": "a", "resources": {}}, {"name": "a", "resources": {}}]',
            "MODELWRIGHT_QUOTAS: two quotas",
        ),
        ("POD_IP", "here", "MODELWRIGHT_POD_IP is 'here': an IP address is wanted"),
    ],
)
def test_a_wrong_variable_is_named_with_what_is_wanted(name: str, value: str, message: str) -> None:
    with pytest.raises(SettingsError) as error:
        settings.read({**LEAST, f"MODELWRIGHT_{name}": value})
    assert str(error.value).startswith(message)


def test_a_log_line_is_one_json_object_even_with_a_traceback() -> None:
    try:
        int("a\nb")
    except ValueError as error:
        record = logging.LogRecord(
            "x", logging.ERROR, "f", 1, "%s\nfailed", ("it",), (ValueError, error, error.__traceback__)
        )
    line = logs.JsonFormatter().format(record)
    assert "\n" not in line
    said = orjson.loads(line)
    assert (said["level"], said["logger"], said["message"]) == ("ERROR", "x", "it\nfailed")
    assert "Traceback" in said["error"]
