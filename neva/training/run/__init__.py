"""A training run around its model: NeMo's keys and checkpoints that come in, and the reports that go out.

Imports :mod:`neva.checkpoints` and the settings. Read :mod:`neva.training.run.checked_keys` first.
"""
