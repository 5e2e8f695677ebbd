"""References to what lies in a store or a folder, written to a topic in order, each once.

Imports the errors, and the packages of folders (patterns), Kafka and media. Read :mod:`connectors.enqueue.references`
first.
"""
