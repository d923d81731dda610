from html.parser import HTMLParser

import numpy as np

from modelwright.api.artifacts import DatasetLineage, Lineage, Metrics
from modelwright.api.goodput import Spent
from modelwright.api.run import Comparison
from modelwright.api.trainingjob import MetricValue
from modelwright.runtime.train.card import Facts, render
from modelwright.runtime.train.reference import describe
from tests.unit.runtime_train.tables import cancer, recipe_for, split_of

NASTY = '<script>alert("x")</script>'


class Outline(HTMLParser):
    """What a browser would make of a page: tags that are open at the end, attributes that fetch, and the text."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: list[str] = []
        self.fetched: list[str] = []
        self.text = ""

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.fetched += [str(value) for name, value in attrs if name in ("src", "href")]
        if tag != "meta":
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text += data


def page() -> Outline:
    split = split_of(cancer(), recipe_for("Classification", "diagnosis"))
    scores = np.tile(np.array([[0.2, 0.8]], dtype=np.float32), (len(split.held_out), 1))
    facts = Facts(
        model="tumours",
        version=3,
        created="2026-11-23T10:00:00Z",
        signature=split.signature,
        metrics=Metrics(rows=114, values=(MetricValue(name="accuracy", value=0.97368),)),
        reference=describe(split, scores),
        lineage=Lineage(
            job="ns/job",
            job_uid="uid",
            attempt=1,
            trigger=NASTY,
            modelwright="0.1.0",
            dataset=DatasetLineage(
                uri="s3://b/d.csv",
                digest="d" * 64,
                rows=569,
                validation_rows=114,
                split_seed=0,
                validation_fraction=0.2,
            ),
            algorithm="LightGBM",
            parameters={"numTrees": 30},
            parent_version=2,
            spent=Spent(since="2026-11-23T09:50:00Z", starting=12, training=450, saving=8, evaluating=30),
        ),
        comparison=Comparison(
            alias="champion",
            metric="accuracy",
            rows=114,
            candidate=0.97,
            incumbent_version=2,
            incumbent=0.95,
            improvement=0.02,
            lower_bound=-0.01,
            confidence=0.95,
        ),
        warnings=("Column a is odd",),
    )
    outline = Outline()
    outline.feed(render(facts))
    return outline


def test_it_is_whole_and_needs_nothing_from_elsewhere() -> None:
    outline = page()
    assert not outline.open
    assert not outline.fetched
    assert "script" not in outline.tags


def test_it_tells_what_a_person_asks() -> None:
    text = page().text
    for fact in (
        "tumours version 3",
        "predicts diagnosis (benign, malignant) from 31 columns",
        "Accuracy",
        "0.9737",
        "Precision, recall and F1 are those of the class malignant.",
        "Beside version 2, which held alias champion: accuracy 0.97 against 0.95",
        "with 95% confidence at least -0.01",
        "Column a is odd",
        'site "x"/y',
        "569, of them 114 held out",
        "numTrees 30",
        "90% of 500 s of attempt 1 trained: 12 s starting, 450 s training, 8 s saving, 30 s evaluating, up to",
    ):
        assert fact in text, fact


def test_what_users_wrote_is_text_and_nothing_else() -> None:
    assert NASTY in page().text


def test_there_is_a_row_and_a_drawing_for_every_column() -> None:
    assert page().tags.count("svg") == 31
