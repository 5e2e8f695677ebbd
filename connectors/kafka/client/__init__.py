"""kafka-python: the only modules that import it, with workarounds for its faults and the meaning of its errors.

Imports the contract's errors, Kafka's settings and records. Read :mod:`connectors.kafka.client.consumer` first.
"""
