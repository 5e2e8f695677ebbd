"""Video NeVA's two stages of training, from LLaVA's conversations to a model folder.

Imports :mod:`neva.checkpoints` and the daemon's decoding. Read :mod:`neva.training.conversations` first.
"""
