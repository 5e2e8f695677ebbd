"""The thread that owns a source's consumer: it polls, follows the group, and commits.

Knows records, positions and the client, and nothing of clips or media. Read :mod:`connectors.kafka.consumer.thread`
first.
"""
