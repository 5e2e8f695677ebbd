"""Clips of scenes: what can be said of any clip by arithmetic, as sentences, training data and measured truth.

Imports :mod:`neva.shapes` and :mod:`neva.training`. Read :mod:`neva.scenery.statements` first.
"""
