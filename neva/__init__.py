"""The Video NeVA model family: its frame rule, conversations, evaluation, checkpoints and training.

Imports the daemon, which knows nothing of it. Read :mod:`neva.conversations` first.
"""
