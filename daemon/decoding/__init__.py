"""The way from clips to frame sets: the plan, the byte budget and the decoder processes.

Imports the contract, the errors, the protocols of media, windows and the settings; media reaches a decoder as a
descriptor. Read :mod:`daemon.decoding.sampler` first.
"""
