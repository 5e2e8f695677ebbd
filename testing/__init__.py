"""Real parts for tests and measurements: brokers, loads of clips and tiny models.

Used by ``tests/``, ``bench/`` and ``make kafka``; nothing that is installed imports it.
"""
