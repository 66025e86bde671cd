"""For authors of models: models and tables of one's own, outside the repository, and the checks of a model."""
