"""Checkpoints of NeMo, read without NeMo, and the folder that vLLM serves.

Imports the errors and the modules of :mod:`neva` itself. Read :mod:`neva.checkpoints.import_nemo` first.
"""
