"""One video stream of an open clip: its packets read from a place on, and its decoder."""
