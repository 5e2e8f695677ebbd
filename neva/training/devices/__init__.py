"""The devices of a run: how they share a model, how many bytes each of them holds, and what a run would need.

Imports settings and parts of :mod:`neva.training`. Read :mod:`neva.training.devices.sharding` first.
"""
