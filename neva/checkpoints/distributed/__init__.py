"""Distributed checkpoints of Megatron, read tensor by tensor without Megatron and without running what they hold.

Imports the archive and the errors. Read :mod:`neva.checkpoints.distributed.checkpoint` first.
"""
