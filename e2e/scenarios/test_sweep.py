"""TuningSweep: a search ends with its best trial in status, and with a job that trains it."""

import json

from e2e.scenarios import specs
from e2e.scenarios.conftest import Data
from e2e.scenarios.space import Space
from e2e.support.models import Models
from e2e.support.resources import is_ready

_TRIALS = 4
_A_POD_FOR_EACH = "2 at a time, each Share(cpus=1.0"
"""What the driver says that has found two pods of one CPU; on one of them, each of two trials would get a half."""


def test_the_best_of_four_trials_on_two_pods_is_trained(space: Space, data: Data, models: Models) -> None:
    search = {
        "searchSpace": [
            {"name": "lightGBM.numLeaves", "int": {"min": 3, "max": 31}},
            {"name": "lightGBM.learningRate", "float": {"min": 0.01, "max": 0.3, "log": True}},
        ],
        "objective": {"metric": "roc_auc"},
        "maxTrials": _TRIALS,
        "parallelism": 2,
        "winner": {"train": True},
    }
    space.apply(specs.sweep("trees", specs.trees("", data.winter, "tuned"), search))
    done = space.journal.wait("tuningsweeps", "trees", is_ready, timeout=400)
    status = done["status"]
    assert {state: count for state, count in status["trials"].items() if count} == {"succeeded": _TRIALS}
    assert "Searching" in space.journal.reasons("tuningsweeps", "trees")
    assert space.printed("tsw", "trees")["DONE"] == str(_TRIALS)
    driver, *_ = space.gang(done)
    assert _A_POD_FOR_EACH in space.log(driver)

    key = status["resultsUri"].removeprefix(f"{models.bucket.uri}/")
    trials = json.loads(models.bucket.get(key))["trials"]
    best = max(trials, key=lambda trial: float(trial["value"]))
    assert status["bestTrial"] == best
    assert best["value"] > 0.5

    job = space.journal.wait("trainingjobs", status["winnerTrainingJob"], is_ready, timeout=120)
    trained = job["spec"]["recipe"]["tabular"]["lightGBM"]
    for parameter in best["parameters"]:
        assert str(trained[parameter["name"].partition(".")[2]]) == parameter["value"]
    assert models.lineage("tuned", 1).trigger == f"TuningSweep/trees trial {best['number']}"
