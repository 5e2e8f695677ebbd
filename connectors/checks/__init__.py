"""Checks of a whole configuration: what its sources and its sink can't be together, whatever each of them is by itself.

Imports the settings of all connectors, and Kafka's questions to its clusters. Read
:mod:`connectors.checks.combinations` first.
"""
