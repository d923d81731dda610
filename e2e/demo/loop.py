"""The loop, step by step. Every step drives the product by its resources and reads what they say."""

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

import httpx
import pandas as pd

from e2e.cluster import paths
from e2e.demo import story
from e2e.support import flights
from e2e.support.access import reach
from e2e.support.flights import SUMMER, TARGET, WINTER
from e2e.support.install import DEMO_NAMESPACE, Installation
from e2e.support.narrator import Narrator
from e2e.support.resources import Object, Resources, is_ready, manifest
from e2e.support.rows import parquet
from e2e.support.traffic import Score, rows_of, send

MODEL = "flight-delay"
_MANIFESTS = paths.REPOSITORY / "examples" / "loop"
_STORAGE_URI = "s3://modelwright/demo"
"""What the manifests call the store; on another cluster it is called otherwise."""
_ROWS = 24_000
_LIVE_ROWS = 3_000


@dataclass
class Loop:
    """One walk around the loop."""

    installation: Installation
    narrator: Narrator
    facts: list[tuple[str, str]] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.resources = Resources(self.installation.target.kubectl, DEMO_NAMESPACE)

    def bring_data(self) -> None:
        """Put the winter's flights where training finds them; the summer's labels arrive later."""
        winter = flights.season(WINTER, _ROWS + _LIVE_ROWS, seed=1)
        summer = flights.season(SUMMER, _ROWS + _LIVE_ROWS, seed=1)
        self.live_winter, self.live_summer = winter[_ROWS:], summer[_ROWS:]
        self.labelled_summer = summer[:_ROWS]
        uri = self.installation.bucket.put("flights/winter.parquet", parquet(winter[:_ROWS]))
        self.narrator.say(f"{_ROWS:,} flights of January to March 2013 with their weather -> {uri}")

    def train(self) -> None:
        """A TrainingJob on two pods."""
        self._apply("1-train.yaml")
        job = self.resources.wait("trainingjob", "flights", is_ready, timeout=420, seen=story.training(self.narrator))
        self.narrator.say(f"registered {story.version(job)}: {story.metrics(job)}")
        self.narrator.say(job["status"]["promotion"]["message"])
        self.facts.append(("first model", f"{story.version(job)}, {story.metrics(job)}"))

    def serve(self) -> None:
        """A ModelDeployment that follows the champion, and requests that it answers."""
        self._apply("2-serve.yaml")
        ready = self.resources.wait("modeldeployment", MODEL, is_ready, timeout=120, seen=story.message(self.narrator))
        self.facts.append(("served at", ready["status"]["url"]))
        with self._client() as (client, base):
            answer = client.post(
                f"{base}/v1/models/{MODEL}:predict", json={"rows": rows_of(_unlabelled(self.live_winter[:1]))}
            )
            self.narrator.say(f"one flight asked, answer: {answer.json()}")
            score = send(client, base, MODEL, self.live_winter, TARGET)
        self.narrator.say(f"{score.rows:,} winter flights asked: {score.accuracy:.1%} right")
        self.facts.append(("accuracy, winter traffic", f"{score.accuracy:.1%}"))

    def tune(self) -> None:
        """A TuningSweep over algorithms and parameters; the winner's TrainingJob meets the champion."""
        self._apply("3-tune.yaml")
        found = self.resources.wait("tuningsweep", "flights", is_ready, timeout=420, seen=story.sweep(self.narrator))
        best = found["status"]["bestTrial"]
        chosen = ", ".join(f"{entry['name']}={entry['value']}" for entry in best["parameters"])
        self.narrator.say(f"best trial {best['number']}: roc_auc {best['value']:.4f} with {chosen}")
        winner = found["status"]["winnerTrainingJob"]
        job = self.resources.wait("trainingjob", winner, is_ready, timeout=300, seen=story.training(self.narrator))
        self.narrator.say(f"registered {story.version(job)}: {job['status']['promotion']['message']}")
        self.facts.append(("sweep's winner", f"{story.version(job)}, {story.metrics(job)}"))
        self._await_champion(job)

    def watch(self) -> None:
        """A DriftPolicy, and Prometheus and Alertmanager around it."""
        self.installation.install_monitoring(DEMO_NAMESPACE, MODEL)
        self._apply("4-watch.yaml")
        with self._traffic(self.live_winter):
            self.resources.wait("driftpolicy", MODEL, is_ready, timeout=120, seen=story.message(self.narrator))

    def drift(self) -> None:
        """Summer comes: live traffic moves, the alert fires, and the retraining job appears by itself."""
        uri = self.installation.bucket.put("flights/summer.parquet", parquet(self.labelled_summer))
        self.narrator.say(f"labels of June and July have arrived -> {uri}")
        with self._client() as (client, base):
            before = send(client, base, MODEL, self.live_summer, TARGET)
        self.narrator.say(f"{before.rows:,} summer flights asked: {before.accuracy:.1%} right")
        self.facts.append(("accuracy, summer traffic, before", _told(before)))
        with self._traffic(self.live_summer):
            policy = self.resources.wait(
                "driftpolicy",
                MODEL,
                lambda found: bool(_incident(found).get("trainingJob")),
                timeout=120,
                seen=story.message(self.narrator),
                stop=lambda _: False,
            )
        incident = _incident(policy)
        self.narrator.say(f"alert {incident['name']} -> TrainingJob {incident['trainingJob']}")
        self.retraining = incident["trainingJob"]

    def retrain(self) -> None:
        """The retrained model passes the gate, takes the alias, and serves."""
        job = self.resources.wait(
            "trainingjob", self.retraining, is_ready, timeout=420, seen=story.training(self.narrator)
        )
        self.narrator.say(job["status"]["promotion"]["message"])
        self.facts.append(("retrained model", f"{story.version(job)}, {job['status']['promotion']['message']}"))
        self._await_champion(job)
        with self._client() as (client, base):
            after = send(client, base, MODEL, self.live_summer, TARGET)
        self.narrator.say(f"{after.rows:,} summer flights asked again: {after.accuracy:.1%} right")
        self.facts.append(("accuracy, summer traffic, after", _told(after)))
        outcome = self.resources.wait(
            "driftpolicy",
            MODEL,
            lambda found: _incident(found).get("outcome") == "Promoted",
            timeout=60,
            stop=lambda _: False,
        )
        self.narrator.say(f"{MODEL}: {_incident(outcome)['message']}")

    def _apply(self, name: str) -> None:
        self.narrator.say(f"kubectl apply --namespace={DEMO_NAMESPACE} --filename=examples/loop/{name}")
        self.resources.apply(*manifest(_MANIFESTS / name, {_STORAGE_URI: self.installation.bucket.uri}))

    def _await_champion(self, job: Object) -> None:
        if job["status"]["promotion"]["outcome"] != "Promoted":
            return
        version = job["status"]["model"]["version"]
        self.resources.wait(
            "modeldeployment",
            MODEL,
            lambda found: is_ready(found) and found["status"]["serving"]["version"] == version,
            timeout=120,
            seen=story.message(self.narrator),
        )

    @contextmanager
    def _client(self) -> Iterator[tuple[httpx.Client, str]]:
        with reach(self.installation.target, DEMO_NAMESPACE, MODEL) as base, httpx.Client(timeout=10) as client:
            yield client, base

    @contextmanager
    def _traffic(self, table: pd.DataFrame) -> Iterator[None]:
        stop = threading.Event()
        thread = threading.Thread(target=self._keep_asking, args=(stop, table), daemon=True)
        thread.start()
        try:
            yield
        finally:
            stop.set()
            thread.join()

    def _keep_asking(self, stop: threading.Event, table: pd.DataFrame) -> None:
        with self._client() as (client, base):
            while not stop.is_set():
                send(client, base, MODEL, table.sample(200), TARGET)
                time.sleep(1)


def _incident(policy: Object) -> Object:
    incidents = policy.get("status", {}).get("incidents", [])
    return next((entry for entry in incidents if entry.get("trainingJob")), {})


def _unlabelled(table: pd.DataFrame) -> pd.DataFrame:
    return table.drop(columns=[TARGET])


def _told(score: Score) -> str:
    versions = ", ".join(f"v{number}" for number in sorted(score.versions))
    return f"{score.accuracy:.1%} of {score.rows:,} flights ({versions})"
