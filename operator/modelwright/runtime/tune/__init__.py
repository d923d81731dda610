"""A search over a recipe, as it runs in the pods of a gang: Ray Tune places the trials, Optuna chooses them."""
