"""Checkpoints of NeMo, read without NeMo, and the model folder that vLLM serves.

Imports the errors and the modules directly in :mod:`neva`. Read :mod:`neva.checkpoints.import_nemo` first.
"""
