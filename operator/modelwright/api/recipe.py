"""The built-in recipes: what to learn from which columns, and how. No code of the user's is needed."""

from enum import StrEnum
from typing import Annotated

from pydantic import ConfigDict, Field

from modelwright.api.schema import ApiModel, ColumnName, rule, rules


class Task(StrEnum):
    """What kind of answer the model gives."""

    CLASSIFICATION = "Classification"
    REGRESSION = "Regression"


class Algorithm(StrEnum):
    """How the model learns."""

    NEURAL_NETWORK = "NeuralNetwork"
    LIGHT_GBM = "LightGBM"


class NeuralNetworkParameters(ApiModel):
    """A feed-forward network, trained by AdamW with a cosine schedule."""

    hidden_units: Annotated[int, Field(ge=1, le=8192)] = 64
    """The width of every hidden layer."""
    hidden_layers: Annotated[int, Field(ge=0, le=16)] = 2
    """How many hidden layers; with none the model is linear."""
    dropout: Annotated[float, Field(ge=0, lt=1)] = 0.1
    """The share of hidden units left out in each step."""
    learning_rate: Annotated[float, Field(gt=0, le=10)] = 0.001
    """The peak of the schedule."""
    weight_decay: Annotated[float, Field(ge=0, le=10)] = 0.0001
    """AdamW's decoupled weight decay."""
    batch_size: Annotated[int, Field(ge=1, le=1048576)] = 256
    """Rows per step over all workers together."""
    epochs: Annotated[int, Field(ge=1, le=100000)] = 20
    """Passes over the training rows."""


class LightGBMParameters(ApiModel):
    """Gradient-boosted trees."""

    num_trees: Annotated[int, Field(ge=1, le=100000)] = 300
    """Boosting rounds."""
    num_leaves: Annotated[int, Field(ge=2, le=131072)] = 31
    """Leaves of a tree, at most."""
    learning_rate: Annotated[float, Field(gt=0, le=10)] = 0.05
    """Shrinkage of each tree."""
    min_data_in_leaf: Annotated[int, Field(ge=0, le=1000000)] = 20
    """Rows that a leaf needs."""
    feature_fraction: Annotated[float, Field(gt=0, le=1)] = 1.0
    """The share of columns that each tree may use."""


class TabularRecipe(ApiModel):
    """Classification or regression on the rows and columns of a table."""

    model_config = ConfigDict(
        json_schema_extra=rules(
            rule(
                "!has(self.features) || !(self.target in self.features)",
                "features must not hold the target: the model would read the answer",
            )
        )
    )
    task: Task
    """What kind of answer the model gives."""
    target: ColumnName
    """The column to predict."""
    features: Annotated[tuple[ColumnName, ...], Field(max_length=2000)] = ()
    """The columns to predict from, in the order in which the model has them; every column but the target when empty."""
    algorithm: Algorithm = Algorithm.NEURAL_NETWORK
    """How the model learns."""
    neural_network: NeuralNetworkParameters = NeuralNetworkParameters()
    """Parameters of NeuralNetwork."""
    light_gbm: Annotated[LightGBMParameters, Field(alias="lightGBM")] = LightGBMParameters()
    """Parameters of LightGBM."""
    seed: Annotated[int, Field(ge=0, le=2147483647)] = 0
    """Of initial weights, shuffling and sampling."""


class Recipe(ApiModel):
    """Exactly one built-in recipe."""

    model_config = ConfigDict(
        json_schema_extra=rules(rule("has(self.tabular)", "recipe takes exactly one recipe: tabular"))
    )
    tabular: TabularRecipe | None = None
    """A table of rows and columns."""
