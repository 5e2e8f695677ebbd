"""The Video NeVA model family: its conversations, checkpoints, training and evaluation.

Imports the daemon, which knows nothing of it; :mod:`neva.registration` tells the daemon of the family when a program
starts. The packages share the modules here and import each other in one direction: ``shapes`` builds on ``training``,
``training`` and ``evaluate`` build on ``checkpoints``. Only :mod:`neva.train` and :mod:`neva.commands` stand above the
packages. Read :mod:`neva.conversations` first.
"""
