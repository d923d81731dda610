from collections.abc import Iterable
from typing import Any

import pytest
from optuna.trial import TrialState as OptunaState

from modelwright.api.searchspace import with_parameters
from modelwright.api.tuningsweep import SearchParameter, Trial, TrialState, TuningSweepSpec
from modelwright.runtime.tune.book import Book
from modelwright.runtime.tune.searcher import FAILURE, OBJECTIVE, AskAndTell, parameter_values, read_value, space

SPACE = [
    {"name": "algorithm", "choice": {"values": ["NeuralNetwork", "LightGBM"]}},
    {"name": "neuralNetwork.learningRate", "float": {"min": 1e-4, "max": 0.1, "log": True}},
    {"name": "neuralNetwork.hiddenUnits", "int": {"min": 8, "max": 30, "step": 8}},
    {"name": "lightGBM.numLeaves", "int": {"min": 2, "max": 128, "log": True}},
]


def sweep(**changed: Any) -> TuningSweepSpec:
    template = {"recipe": {"tabular": {"task": "Classification", "target": "y"}}}
    spec = {"template": template, "searchSpace": SPACE, "objective": {"metric": "roc_auc"}, **changed}
    return TuningSweepSpec.model_validate(spec)


def searcher(ended: Iterable[Trial] = (), **changed: Any) -> AskAndTell:
    spec = sweep(**changed)
    return AskAndTell(spec, Book(spec.objective, 1, ended))


def ended(number: int, value: float | None, **parameters: str) -> Trial:
    names = {"algorithm": "algorithm", "rate": "neuralNetwork.learningRate", "units": "neuralNetwork.hiddenUnits"}
    names["leaves"] = "lightGBM.numLeaves"
    state = TrialState.FAILED if value is None else TrialState.SUCCEEDED
    values = parameter_values({names[key]: text for key, text in parameters.items()})
    return Trial(number=number, state=state, value=value, parameters=values)


WHOLE = {"algorithm": "LightGBM", "rate": "0.01", "units": "16", "leaves": "31"}


@pytest.mark.parametrize("algorithm", ["TPE", "Random"])
def test_every_suggestion_lies_in_the_space_and_makes_a_recipe(algorithm: str) -> None:
    search = searcher(algorithm=algorithm)
    for number in range(1, 25):
        suggested = search.suggest(f"id{number}")
        parameters = suggested["parameters"]
        recipe = with_parameters({"task": "Classification", "target": "y"}, parameter_values(parameters))
        assert suggested["number"] == number
        assert recipe["algorithm"] in ("NeuralNetwork", "LightGBM")
        assert 1e-4 <= recipe["neuralNetwork"]["learningRate"] <= 0.1
        assert recipe["neuralNetwork"]["hiddenUnits"] in (8, 16, 24)
        assert 2 <= recipe["lightGBM"]["numLeaves"] <= 128
        search.on_trial_complete(f"id{number}", {OBJECTIVE: 0.5})


def test_a_whole_range_includes_both_of_its_ends() -> None:
    search = searcher(
        searchSpace=[{"name": "neuralNetwork.epochs", "int": {"min": 1, "max": 3}}], algorithm="Random", seed=3
    )
    seen = {search.suggest(str(number))["parameters"]["neuralNetwork.epochs"] for number in range(3)}

    assert seen == {"1", "2", "3"}


@pytest.mark.parametrize("algorithm", ["TPE", "Random"])
def test_no_point_is_tried_twice_and_a_small_space_is_finished_before_the_budget(algorithm: str) -> None:
    space_of_six = [
        {"name": "algorithm", "choice": {"values": ["NeuralNetwork", "LightGBM"]}},
        {"name": "neuralNetwork.epochs", "int": {"min": 1, "max": 3}},
    ]
    search = searcher(searchSpace=space_of_six, algorithm=algorithm)
    points = []
    for number in range(6):
        points.append(search.suggest(str(number)))
        search.on_trial_complete(str(number), {OBJECTIVE: 0.5})

    assert len({str(point["parameters"]) for point in points}) == 6
    assert search.suggest("one more") == AskAndTell.FINISHED


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_a_sampler_that_has_made_up_its_mind_tries_what_is_left_of_a_small_space(seed: int) -> None:
    space_of_forty = [
        {"name": "lightGBM.numLeaves", "int": {"min": 10, "max": 100, "step": 10}},
        {"name": "neuralNetwork.hiddenUnits", "choice": {"values": ["8", "16", "24", "32"]}},
    ]
    search = searcher(searchSpace=space_of_forty, algorithm="TPE", seed=seed)
    seen = set()
    for number in range(40):
        parameters = search.suggest(str(number))["parameters"]
        seen.add(frozenset(parameters.items()))
        # The more leaves the better: it would go back to the best again and again.
        search.on_trial_complete(str(number), {OBJECTIVE: float(parameters["lightGBM.numLeaves"])})
    assert len(seen) == 40
    assert search.suggest("one more") == AskAndTell.FINISHED


def test_what_an_earlier_attempt_has_tried_is_not_tried_again() -> None:
    tried = [
        Trial(number=1, state=TrialState.FAILED, parameters=parameter_values({"algorithm": "LightGBM"})),
    ]
    only_algorithms = [{"name": "algorithm", "choice": {"values": ["NeuralNetwork", "LightGBM"]}}]
    search = searcher(tried, searchSpace=only_algorithms)

    assert search.suggest("a")["parameters"] == {"algorithm": "NeuralNetwork"}
    assert search.suggest("b") == AskAndTell.FINISHED


def test_the_same_seed_gives_the_same_search() -> None:
    first, second = searcher(seed=7), searcher(seed=7)

    assert [first.suggest(str(n)) for n in range(5)] == [second.suggest(str(n)) for n in range(5)]


def test_a_new_attempt_does_not_propose_the_first_points_again() -> None:
    first = searcher(seed=7, algorithm="Random").suggest("a")
    second = searcher([ended(1, 0.5, **WHOLE)], seed=7, algorithm="Random").suggest("a")

    assert second["parameters"] != first["parameters"]
    assert second["number"] == 2


def test_trials_of_earlier_attempts_are_known_to_the_sampler_with_their_results() -> None:
    search = searcher([ended(1, 0.5, **WHOLE), ended(2, None, **WHOLE)])

    trials = search._study.get_trials()
    assert [(trial.state, trial.value) for trial in trials] == [(OptunaState.COMPLETE, 0.5), (OptunaState.FAIL, None)]
    assert trials[0].params["neuralNetwork.hiddenUnits"] == 16


def test_a_trial_that_does_not_fit_the_space_is_passed_over() -> None:
    strange = ended(1, 0.5, algorithm="Oracle", rate="0.01", units="16", leaves="31")

    assert searcher([strange])._study.get_trials() == []


@pytest.mark.parametrize("result", [{FAILURE: "broke"}, {FAILURE: "broke", OBJECTIVE: 0.9}, {}, None])
def test_a_trial_that_broke_is_told_as_failed_and_blocks_nothing(result: dict[str, Any] | None) -> None:
    search = searcher()
    search.suggest("a")
    search.on_trial_complete("a", result)

    assert [trial.state for trial in search._study.get_trials()] == [OptunaState.FAIL]
    search.on_trial_complete("a", result)
    assert len(search._study.get_trials()) == 1


def test_a_lost_process_is_told_as_failed_whatever_it_reported_before() -> None:
    search = searcher()
    search.suggest("a")
    search.on_trial_complete("a", {OBJECTIVE: 0.9}, error=True)

    assert [trial.state for trial in search._study.get_trials()] == [OptunaState.FAIL]


def test_the_sampler_looks_for_small_values_where_small_is_good() -> None:
    search = searcher(objective={"metric": "log_loss"})

    assert search.mode == "min"
    assert search._study.direction.name == "MINIMIZE"


def test_text_is_read_back_as_the_value_that_was_suggested() -> None:
    kinds = space([SearchParameter.model_validate(entry) for entry in SPACE])

    assert read_value(kinds["algorithm"], "LightGBM") == "LightGBM"
    assert read_value(kinds["neuralNetwork.learningRate"], str(0.1 + 0.2)) == 0.1 + 0.2
    assert read_value(kinds["lightGBM.numLeaves"], "31") == 31
