"""NeVA's evaluation job, which runs in the daemon's own main loop.

Imports the daemon, the prompt file's connector and :mod:`neva.checkpoints`. Read :mod:`neva.evaluate.job` first.
"""
