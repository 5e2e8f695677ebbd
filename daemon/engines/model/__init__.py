"""Knowledge of a model from its configuration and processor, without its weights."""
