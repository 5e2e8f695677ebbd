"""Measurements of training and of the model that it made, each a script of its own."""
