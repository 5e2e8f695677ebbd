"""The thread that owns a source's consumer: it polls, follows the group, and commits.

Knows records, positions and the client; it passes deliveries on and opens none. Read
:mod:`connectors.kafka.consumer.thread` first.
"""
