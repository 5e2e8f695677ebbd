"""Training data at real sizes: files of many records, which may be odd, read once and mixed.

Imports :mod:`neva.training.dataset.records`. Read :mod:`neva.training.dataset.record_set` first.
"""
