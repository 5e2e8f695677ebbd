"""What comes into a training run from NeMo: keys that captiond has no setting of its own for, and checkpoints.

Imports the settings and :mod:`neva.checkpoints`. Read :mod:`neva.training.nemo_file.checked` first.
"""
