"""Every rule that the CRDs hold, and for each one a manifest that breaks it.

Bounds, enums and required fields are broken by a value computed from the rule itself; patterns and CEL rules need a
mind, so there is a table for each, and a rule that nobody has put into its table fails the tests.
"""

import copy
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).parents[3]
EXAMPLES = ROOT / "examples"

ITEM = "[]"
VALUE = "{}"
KEY = "key"
"""The name of the one entry that is put into a map."""

BASE = {
    "TrainingJob": "trainingjob.yaml",
    "TuningSweep": "tuningsweep.yaml",
    "ModelDeployment": "modeldeployment.yaml",
    "DriftPolicy": "driftpolicy.yaml",
}

REFUSED_BY_PATTERN = {
    r"^[a-z0-9]([a-z0-9.-]*[a-z0-9])?$": "Upper_Case",
    r"^[a-z0-9]([a-z0-9._-]*[a-z0-9])?$": "a/b",
    r"^[a-z]([a-z0-9-]*[a-z0-9])?$": "1",
    r"^[+-]?([0-9]+|[0-9]+\.[0-9]*|\.[0-9]+)([KMGTPE]i|[numkMGTPE]|[eE][+-]?[0-9]+)?$": "2 GB",
    r"^s3://[a-z0-9][a-z0-9.-]{1,61}[a-z0-9](/[^?#\t\r\n]*)?$": "gs://bucket/path",
    r"^https?://[^/]+/?$": "minio:9000",
    r"^[-._a-zA-Z][-._a-zA-Z0-9]*$": "1ST",
    r"^[A-Za-z_][A-Za-z0-9_]*$": "top-5",
    r"^[a-z][a-zA-Z]*(\.[a-z][a-zA-Z]*)?$": "neural_network.learning_rate",
    r"^gpu$": "cpu",
    r"^[a-z0-9]([a-z0-9.-]*[a-z0-9])?/[A-Za-z0-9/_.~%-]+$": "multikueue",
}

_KEY_OF = {"name": "a", "key": "b"}
REFUSED_BY_CEL: dict[str, dict[str, Any]] = {
    # the spec of a TrainingJob, wherever it stands
    "give either recipe or workers.command": {"workers": {"command": ["python", "train.py"]}},
    "workers.args belong to workers.command: a recipe takes none": {"workers": {"args": ["--epochs", "3"]}},
    "a recipe needs a dataset": {"dataset": None},
    "a recipe needs model.name: the model that it writes a version of": {"model": None},
    "model is for recipes: a command registers through its own code": {
        "recipe": None,
        "workers": {"command": ["python"]},
    },
    "LightGBM trains in one pod: set workers.replicas to 1": {
        "workers": {"replicas": 2},
        "recipe": {"tabular": {"algorithm": "LightGBM"}},
    },
    "evaluation.thresholds has a metric of another task: Classification has accuracy, precision, recall, f1, roc_auc, "
    "log_loss; Regression has mae, rmse, r2": {"evaluation": {"thresholds": [{"metric": "rmse", "max": 1.0}]}},
    "model.promotion.metric is a metric of another task: Classification has accuracy, precision, recall, f1, roc_auc, "
    "log_loss; Regression has mae, rmse, r2": {"model": {"promotion": {"metric": "mae"}}},
    "checkpoint.keep.best of a recipe goes by the training loss: its metric is loss": {
        "checkpoint": {"keep": {"best": {"metric": "accuracy", "mode": "Max"}}}
    },
    "resume is for networks and for commands: LightGBM grows its trees from the first": {
        "resume": {"from": {"model": {"name": "flight-delays", "version": 1}}},
        "workers": {"replicas": 1},
        "recipe": {"tabular": {"algorithm": "LightGBM"}},
    },
    "LightGBM trains in one process: leave workers.processesPerNode out": {
        "workers": {"replicas": 1, "processesPerNode": "gpu"},
        "recipe": {"tabular": {"algorithm": "LightGBM"}},
    },
    "workers.processesPerNode is for torchrun: under Ray the program asks for its workers itself": {
        "framework": "Ray",
        "workers": {"processesPerNode": 2},
    },
    "failurePolicy.processRestarts of a command is for torchrun: Ray starts its actors again by options of its own": {
        "framework": "Ray",
        "failurePolicy": {"processRestarts": 1},
        "recipe": None,
        "workers": {"command": ["python", "train.py"]},
    },
    "ray is for framework Ray": {"ray": {"numWorkers": 2}},
    "LightGBM trains in one process: leave ray.numWorkers out": {
        "framework": "Ray",
        "ray": {"numWorkers": 2},
        "workers": {"replicas": 1},
        "recipe": {"tabular": {"algorithm": "LightGBM"}},
    },
    "resourcesPerWorker.gpu is a part of one GPU, or a whole number of them": {"gpu": 1.5},
    "resourcesPerWorker.cpu is a part of one CPU, or a whole number of them": {"cpu": 2.5},
    "workers.elastic.min must be below workers.replicas, the number that is wished for": {
        "workers": {"replicas": 2, "elastic": {"min": 2}}
    },
    "workers.elastic is for PyTorch: Ray has its own ways to go on without a node": {
        "framework": "Ray",
        "workers": {"replicas": 2, "elastic": {"min": 1}},
    },
    # the pods of a gang
    "topologyKey says nothing without topology": {"topologyKey": "rack"},
    "a pod of a gang has the one container worker, and ends with it: put a side-car into initContainers, with "
    "restartPolicy Always": {"containers": [{"name": "worker"}, {"name": "proxy", "image": "proxy:1"}]},
    "restartPolicy is fixed to Never: failurePolicy says when the gang starts again": {"restartPolicy": "OnFailure"},
    "subdomain, hostname and hostnameOverride are fixed: the workers find each other by them": {"hostname": "a"},
    "the program of the worker is workers.command and workers.args, not a field of its container": {
        "name": "worker",
        "command": ["sleep"],
    },
    "the image of the worker is workers.image, not a field of its container": {"name": "worker", "image": "mine:1"},
    "terminationMessagePath of the worker is fixed: a program says there why it failed": {
        "name": "worker",
        "terminationMessagePath": "/tmp/message",
    },
    "restartPolicy of the worker is fixed: failurePolicy says when the gang starts again": {
        "name": "worker",
        "restartPolicy": "Always",
    },
    "the volume identity is taken: it holds the token by which the operator knows its pods": {
        "name": "identity",
        "emptyDir": {},
    },
    "/var/run/secrets/modelwright is taken: it holds the token by which the operator knows its pods": {
        "mountPath": "/var/run/secrets/modelwright/token",
        "name": "a",
    },
    "labels below modelwright.dev/ and batch.kubernetes.io/, app.kubernetes.io/managed-by, job-name and controller-uid "
    "are set by the operator and by the Job": {"labels": {"modelwright.dev/attempt": "7"}},
    "all annotations together may take 256 KiB, as Kubernetes has it": {
        "annotations": {f"key-{number}": "\u00e9" * 32768 for number in range(4)}
    },
    # parts of it
    "resume.from takes exactly one of model, checkpoint and trainingJob": {
        "model": {"name": "flight-delays", "version": 1},
        "checkpoint": "s3://bucket/checkpoints/1/",
        "trainingJob": "flight-delays-large",
    },
    "a failure rule needs exitCodes or message": {"restart": False, "message": None},
    "a failure rule does nothing: give failureClass, restart or excludeNode": {
        "message": "NCCL",
        "failureClass": None,
        "restart": None,
    },
    "an env entry takes value or valueFrom, not both": {
        "name": "A",
        "value": "x",
        "valueFrom": {"secretKeyRef": _KEY_OF},
    },
    "names that begin with MODELWRIGHT_ are reserved": {"name": "MODELWRIGHT_RUN", "value": "x"},
    "valueFrom takes exactly one of secretKeyRef and configMapKeyRef": {
        "secretKeyRef": _KEY_OF,
        "configMapKeyRef": _KEY_OF,
    },
    "recipe takes exactly one recipe: tabular": {"tabular": None},
    "features must not hold the target: the model would read the answer": {"features": ["distance", "late"]},
    "a threshold needs min or max": {"metric": "f1", "min": None},
    "a threshold that nothing can meet: min is above max": {"metric": "f1", "min": 0.9, "max": 0.8},
    "promotion rule IfBetter needs a metric to compare by": {"metric": None},
    "storage.endpoint names another store: give its uri too": {"endpoint": "https://minio.example.com"},
    # TuningSweep
    "a sweep searches the fields of a recipe: template.recipe is required": {
        "template": {"recipe": None, "model": None, "workers": {"command": ["python"]}}
    },
    "the trials of a sweep start from nothing: leave template.resume out": {
        "template": {"resume": {"from": {"checkpoint": "s3://bucket/checkpoints/1/"}}}
    },
    "objective.metric is a metric of another task than template.recipe.tabular.task": {"objective": {"metric": "r2"}},
    "a search parameter takes exactly one of float, int and choice": {
        "float": {"min": 0.1, "max": 0.2},
        "int": {"min": 1, "max": 2},
    },
    "goal contradicts metric: log_loss, mae, rmse are minimized, all others maximized; leave goal out": {
        "goal": "Minimize"
    },
    "an empty range: min must be below max": {"min": 5, "max": 5},
    "a log scale needs min above 0": {"min": 0, "max": 5, "log": True},
    "give log or step, not both": {"min": 1, "max": 5, "log": True, "step": 2},
    "earlyStopping takes exactly one method: asha": {"asha": None},
    # ModelDeployment
    "model takes exactly one of version and alias": {"version": 3, "alias": "champion"},
    # DriftPolicy
    "a policy needs test, alerts or both": {"test": None, "alerts": None},
    "nothing can start the retraining: the trigger Drift needs test, and Alert needs alerts": {
        "test": None,
        "retraining": {"triggers": ["Drift"]},
    },
    "retraining needs template.model: the model to improve": {
        "template": {"recipe": None, "model": None, "workers": {"command": ["python"]}}
    },
}
"""What is merged into the part of the example that the rule speaks of."""

REFUSED_AS_CHANGE: dict[str, dict[str, Any]] = {
    "spec.framework cannot be changed: create a new TrainingJob": {"framework": "Ray"},
    "spec.workers cannot be changed: create a new TrainingJob": {"workers": {"replicas": 3}},
    "spec.ray cannot be changed: create a new TrainingJob": {"framework": "Ray", "ray": {"numWorkers": 2}},
    "spec.recipe cannot be changed: create a new TrainingJob": {"recipe": {"tabular": {"target": "cancelled"}}},
    "spec.dataset cannot be changed: create a new TrainingJob": {"dataset": {"splitSeed": 8}},
    "spec.checkpoint cannot be changed: create a new TrainingJob": {"checkpoint": {"keep": {"last": 5}}},
    "spec.resume cannot be changed: create a new TrainingJob": {
        "resume": {"from": {"model": {"name": "flight-delays", "version": 1}}}
    },
    "spec.evaluation cannot be changed: create a new TrainingJob": {"evaluation": {"thresholds": None}},
    "spec.model cannot be changed: create a new TrainingJob": {"model": {"name": "other"}},
    "spec.storage cannot be changed: create a new TrainingJob": {"storage": {"uri": "s3://other-bucket"}},
    "spec.managedBy cannot be changed: create a new TrainingJob": {"managedBy": "kueue.x-k8s.io/multikueue"},
    "spec.template cannot be changed: create a new TuningSweep": {"template": {"dataset": {"splitSeed": 8}}},
    "spec.searchSpace cannot be changed: create a new TuningSweep": {
        "searchSpace": [{"name": "algorithm", "choice": {"values": ["LightGBM"]}}]
    },
    "spec.objective cannot be changed: create a new TuningSweep": {"objective": {"metric": "f1"}},
    "spec.algorithm cannot be changed: create a new TuningSweep": {"algorithm": "Random"},
    "spec.seed cannot be changed: create a new TuningSweep": {"seed": 2},
    "spec.earlyStopping cannot be changed: create a new TuningSweep": {"earlyStopping": None},
    "spec.workers cannot be changed: create a new TuningSweep": {"workers": {"replicas": 3}},
    "spec.winner cannot be changed: create a new TuningSweep": {"winner": {"train": False}},
    "spec.model.name cannot be changed: create a new ModelDeployment": {"model": {"name": "other"}},
    "spec.storage.uri cannot be changed: create a new ModelDeployment": {"storage": {"uri": "s3://other-bucket"}},
    "spec.storage.endpoint cannot be changed: create a new ModelDeployment": {
        "storage": {"uri": "s3://other-bucket", "endpoint": "https://minio.example.com"}
    },
}
"""What is merged into the example's spec after it was created."""


_SENTENCES = {
    "required": "Required value",
    "pattern": "should match '{}'",
    "minLength": "should be at least {} chars long",
    "maxLength": "may not be more than {} bytes",
    "minItems": "should have at least {} items",
    "maxItems": "must have at most {} items",
    "minProperties": "should have at least {} properties",
    "maxProperties": "must have at most {} items",
    "x-kubernetes-list-type": "Duplicate value",
}
_FIRST = {
    "env": {"name": "A"},
    "containers": {"name": "worker"},
    "initContainers": {"name": "fetch"},
    "volumes": {"name": "data"},
    "volumeMounts": {"mountPath": "/data"},
}
"""Entries of lists that must be whole before a rule further down is looked at."""


@dataclass(frozen=True)
class Rule:
    """One rule, where it stands, and what it says."""

    kind: str
    path: tuple[str, ...]
    """From the root of the object; ITEM stands for an entry of a list, VALUE for one of a map."""
    keyword: str
    argument: Any
    node: dict[str, Any]
    """The schema that holds the rule."""

    def __str__(self) -> str:
        return f"{self.kind} {self.field} {self.keyword} {self.argument if self.keyword == 'required' else ''}".strip()

    @property
    def field(self) -> str:
        """The path as the API server writes it."""
        text = ""
        for step in self.path:
            text += "[0]" if step == ITEM else f".{KEY}" if step == VALUE else f".{step}"
        return text.removeprefix(".")

    @property
    def blamed(self) -> str:
        """The field that the API server names when the rule is broken."""
        match self.keyword:
            case "required":
                return f"{self.field}.{self.argument}"
            case "x-kubernetes-list-type":
                return f"{self.field}[1]"
        return self.field

    @property
    def sentence(self) -> str:
        """What the API server says when the rule is broken, or the part of it that tells what to do."""
        node, argument = self.node, self.argument
        match self.keyword:
            case "enum":
                return "supported values: " + ", ".join(f'"{word}"' for word in argument)
            case "minimum":
                return f"should be greater than {'' if node.get('exclusiveMinimum') else 'or equal to '}{argument}"
            case "maximum":
                return f"should be less than {'' if node.get('exclusiveMaximum') else 'or equal to '}{argument}"
        return _SENTENCES.get(self.keyword, "{}").format(argument)


def definitions() -> list[dict[str, Any]]:
    """Return the CustomResourceDefinitions as they are shipped."""
    return [yaml.safe_load(path.read_text()) for path in sorted((ROOT / "crds").glob("*.yaml"))]


def schema(definition: dict[str, Any]) -> dict[str, Any]:
    """Return the schema of the only version."""
    (version,) = definition["spec"]["versions"]
    return version["schema"]["openAPIV3Schema"]


def all_rules() -> list[Rule]:
    """Return the rules of all specs."""
    return [
        rule
        for definition in definitions()
        for rule in _rules(definition["spec"]["names"]["kind"], ("spec",), schema(definition)["properties"]["spec"])
    ]


def _rules(kind: str, path: tuple[str, ...], node: dict[str, Any]) -> Iterator[Rule]:
    plain = ("enum", "pattern", "minimum", "maximum", "minLength", "maxLength", "minItems", "maxItems")
    for keyword in (*plain, "minProperties", "maxProperties", "x-kubernetes-list-type"):
        if keyword in node:
            yield Rule(kind, path, keyword, node[keyword], node)
    for field in node.get("required", ()):
        yield Rule(kind, path, "required", field, node)
    for entry in node.get("x-kubernetes-validations", ()):
        yield Rule(kind, path, "change" if "oldSelf" in entry["rule"] else "cel", entry["message"], node)
    for name, child in node.get("properties", {}).items():
        yield from _rules(kind, (*path, name), child)
    if "items" in node:
        yield from _rules(kind, (*path, ITEM), node["items"])
    if isinstance(node.get("additionalProperties"), dict):
        yield from _rules(kind, (*path, VALUE), node["additionalProperties"])


def example(kind: str) -> dict[str, Any]:
    """Return the valid manifest that all others are made from."""
    return yaml.safe_load((EXAMPLES / BASE[kind]).read_text())


def breaking(rule: Rule) -> dict[str, Any]:
    """Return a manifest that breaks one rule."""
    manifest = example(rule.kind)
    present = _get(manifest, rule.path)
    _set(manifest, rule.path, _broken(rule, present))
    return manifest


def _broken(rule: Rule, present: Any) -> Any:  # noqa: C901 (one line a keyword)
    node, argument = rule.node, rule.argument
    match rule.keyword:
        case "cel":
            return merge(present or {}, REFUSED_BY_CEL[argument])
        case "required":
            return {key: value for key, value in (present or {}).items() if key != argument}
        case "enum":
            return "NoSuchWord"
        case "pattern":
            return REFUSED_BY_PATTERN[argument]
        case "minimum":
            return argument if node.get("exclusiveMinimum") else argument - 1
        case "maximum":
            return argument if node.get("exclusiveMaximum") else argument + 1
        case "minLength":
            return "s" * (argument - 1)
        case "maxLength":
            return "s" * (argument + 1)
        case "minItems" | "minProperties":
            return type(present or [])() if rule.keyword == "minItems" else {}
        case "maxItems":
            return [_item(node["items"], number) for number in range(argument + 1)]
        case "maxProperties":
            return {f"k{number}": "1" for number in range(argument + 1)}
        case "x-kubernetes-list-type":
            return [_item(node["items"], 0)] * 2
    raise AssertionError(f"nobody knows how to break {rule}")


def _item(node: dict[str, Any], number: int) -> Any:
    if node["type"] == "object":
        return {name: _item(node["properties"][name], number) for name in node.get("required", ())}
    return node.get("enum", [f"n{number}"])[0]


def merge(target: Any, patch: Any) -> Any:
    """Return the result of a JSON merge patch (RFC 7386)."""
    if not isinstance(patch, dict):
        return patch
    result = dict(target) if isinstance(target, dict) else {}
    for key, value in patch.items():
        if value is None:
            result.pop(key, None)
        else:
            result[key] = merge(result.get(key), value)
    return result


def _get(target: Any, path: tuple[str, ...]) -> Any:
    for step in path:
        if step == ITEM:
            target = target[0] if target else None
        elif isinstance(target, dict):
            target = target.get(KEY if step == VALUE else step)
        if target is None:
            return None
    return copy.deepcopy(target)


def _set(target: dict[str, Any], path: tuple[str, ...], value: Any) -> None:
    step, rest = path[0], path[1:]
    key = KEY if step == VALUE else step
    if not rest:
        target[key] = value
    elif rest[0] == ITEM:
        # One entry is enough; the example's first one stays where there is one.
        first = copy.deepcopy((target.get(key) or [_FIRST.get(key, {})])[0])
        holder = {ITEM: first}
        _set(holder, rest, value)
        target[key] = [holder[ITEM]]
    else:
        target[key] = target.get(key) or {}
        _set(target[key], rest, value)
