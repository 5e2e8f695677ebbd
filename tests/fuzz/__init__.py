"""Fuzzing of what strangers write: each target takes bytes and may raise nothing.

Read :mod:`tests.fuzz.targets` first. ``make fuzz`` runs Atheris over one target after the other; what it finds worth
keeping lies in ``corpus/TARGET/``, and ``tests/unit/test_fuzz_corpus.py`` goes through that in every run of the tests.
"""
