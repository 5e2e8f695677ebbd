"""Captions held against references, and one run against another.

Imports the commands' own modules and the daemon's settings and sampler.
"""
