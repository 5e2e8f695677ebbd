"""Clips become frame sets here: the plan, the byte budget and the decoder processes.

Imports windows, limits and the errors; media reaches a decoder as a descriptor. Read
:mod:`daemon.decoding.sampler` first.
"""
