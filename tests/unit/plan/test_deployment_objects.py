"""ModelDeployment: the Deployment and the Service that it is made of."""

import json

from modelwright.api.common import Storage
from modelwright.api.modeldeployment import ModelDeploymentSpec
from modelwright.api.run import ResolvedStorage
from modelwright.api.serve import Serve
from modelwright.plan.questions import Store
from modelwright.plan.serving_objects import as_wanted, deployment, service, service_name
from modelwright.plan.settings import Settings

OWNER = {
    "apiVersion": "modelwright.dev/v1alpha1",
    "kind": "ModelDeployment",
    "metadata": {"name": "churn", "namespace": "shop", "uid": "u-1"},
}
SETTINGS = Settings("runtime:1", "server:1", storage=Storage(uri="s3://models/team"))
STORE = Store(ResolvedStorage(uri="s3://models/$(HOME)", endpoint="http://s3:7070"), "shop", "keys")


def made(owner=OWNER, **spec):
    wanted = ModelDeploymentSpec.model_validate({"model": {"name": "churn-model", "version": 3}, **spec})
    return deployment(owner, wanted, 3, STORE, SETTINGS)


def pod_of(found):
    return found["spec"]["template"]["spec"]


def test_pods_meet_the_restricted_standard_and_hold_no_token():
    pod = pod_of(made())
    assert pod["automountServiceAccountToken"] is False
    assert pod["securityContext"] == {"runAsNonRoot": True, "seccompProfile": {"type": "RuntimeDefault"}}
    assert pod["containers"][0]["securityContext"] == {
        "allowPrivilegeEscalation": False,
        "capabilities": {"drop": ["ALL"]},
        "readOnlyRootFilesystem": True,
    }


def test_servers_are_told_how_many_cpus_they_may_use():
    entries = {entry["name"]: entry for entry in pod_of(made())["containers"][0]["env"]}
    assert entries["MODELWRIGHT_CPUS"]["valueFrom"]["resourceFieldRef"]["resource"] == "limits.cpu"


def test_credentials_come_from_the_secret_by_reference_only():
    entries = {entry["name"]: entry for entry in pod_of(made())["containers"][0]["env"]}
    for key in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        assert entries[key]["valueFrom"] == {"secretKeyRef": {"name": "keys", "key": key}}


def test_the_server_is_told_everything_and_no_dollar_is_expanded():
    entries = {entry["name"]: entry for entry in pod_of(made())["containers"][0]["env"]}
    text = entries["MODELWRIGHT_SERVE"]["value"]
    assert "$$(HOME)" in text
    told = Serve.model_validate(json.loads(text.replace("$$", "$")))
    assert (told.namespace, told.deployment, told.model, told.version) == ("shop", "churn", "churn-model", 3)
    assert told.storage == STORE.storage


def test_a_server_may_load_until_the_deadline_and_then_has_time_to_drain():
    found = made(rollout={"progressDeadlineSeconds": 120, "drainSeconds": 40})
    probe = pod_of(found)["containers"][0]["startupProbe"]
    assert probe["periodSeconds"] * probe["failureThreshold"] == 120
    assert found["spec"]["progressDeadlineSeconds"] == 120
    assert pod_of(found)["terminationGracePeriodSeconds"] == 70


def test_no_server_goes_before_another_is_ready():
    assert made()["spec"]["strategy"]["rollingUpdate"] == {"maxUnavailable": 0, "maxSurge": 1}


def test_the_users_pod_settings_are_used():
    server = {
        "image": "mine:1",
        "imagePullPolicy": "Never",
        "nodeSelector": {"disk": "ssd"},
        "tolerations": [{"key": "gpu", "operator": "Exists"}],
        "imagePullSecrets": [{"name": "pull"}],
        "resources": {"limits": {"cpu": "1"}},
    }
    pod = pod_of(made(server=server))
    container = pod["containers"][0]
    assert (container["image"], container["imagePullPolicy"]) == ("mine:1", "Never")
    assert container["resources"]["limits"] == {"cpu": "1"}
    assert pod["nodeSelector"] == {"disk": "ssd"}
    assert pod["tolerations"] == [{"key": "gpu", "operator": "Exists"}]
    assert pod["imagePullSecrets"] == [{"name": "pull"}]


def test_prometheus_finds_the_pods_and_knows_what_they_serve():
    meta = made()["spec"]["template"]["metadata"]
    assert meta["annotations"]["prometheus.io/scrape"] == "true"
    assert meta["annotations"]["prometheus.io/path"] == "/metrics"
    marks = {key: meta["labels"][f"modelwright.dev/{key}"] for key in ("model", "version", "deployment")}
    assert marks == {"model": "churn-model", "version": "3", "deployment": "churn"}


def test_the_service_selects_exactly_the_pods_of_its_version():
    selector = service(OWNER, 3)["spec"]["selector"]
    assert selector.items() <= made()["spec"]["template"]["metadata"]["labels"].items()
    assert selector["modelwright.dev/version"] == "3"
    assert made()["spec"]["selector"]["matchLabels"] == selector


def test_children_go_with_their_owner():
    for child in (made(), service(OWNER, 3)):
        reference = child["metadata"]["ownerReferences"][0]
        assert (reference["kind"], reference["uid"], reference["controller"]) == ("ModelDeployment", "u-1", True)
        assert child["metadata"]["labels"]["modelwright.dev/owner-uid"] == "u-1"


def test_names_and_labels_fit_whatever_the_user_typed():
    owner = {**OWNER, "metadata": {**OWNER["metadata"], "name": "9." + "x" * 200}}
    found = made(owner)
    names = [found["metadata"]["name"], service_name(owner), *found["spec"]["template"]["metadata"]["labels"].values()]
    assert max(map(len, names)) <= 63
    assert service_name(owner)[0].isalpha()


def test_an_object_that_is_as_applied_is_not_applied_again_and_a_scaled_one_is():
    wanted = made()
    found = {**wanted, "spec": {**wanted["spec"], "paused": False}, "status": {}}
    assert as_wanted(wanted, found)
    assert not as_wanted(wanted, {**found, "spec": {**found["spec"], "replicas": 7}})
    assert not as_wanted(made(monitoring={"enabled": False}), found)
    assert not as_wanted(wanted, None)


def test_only_a_change_of_the_pods_changes_the_template():
    def mark(found):
        return found["spec"]["template"]["metadata"]["labels"]["modelwright.dev/template"]

    assert mark(made()) == mark(made(replicas=5))
    assert mark(made()) != mark(made(monitoring={"windowSeconds": 30}))
