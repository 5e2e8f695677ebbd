"""Kafka topics as sources and sinks, and transactions between them.

No other package names Kafka. Imports the contract, the errors, and the packages of media and messages. Read
:mod:`connectors.kafka.source` first.
"""
