"""kafka-python: the only modules that import it, with what it gets wrong and what its errors mean.

Imports the settings and the errors alone. Read :mod:`connectors.kafka.client.consumer` first.
"""
