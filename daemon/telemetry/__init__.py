"""Metrics and traces.

Imports the contract, engines' statistics and windows. Read :mod:`daemon.telemetry.metrics` first.
"""
