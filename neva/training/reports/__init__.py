"""Where a run's numbers go beside its own log: TensorBoard and Weights & Biases.

Imports nothing of ours but the run's settings. Read :mod:`neva.training.reports.loggers`.
"""
