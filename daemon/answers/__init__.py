"""Answers of models, judged: of which form they are, whether they are good, and what is asked again.

Imports the contract of connectors, prompts, windows, metrics and the contract of engines. Read
:mod:`daemon.answers.asking` first.
"""
