"""Probes of the cage: what a decoder that was taken over can still do, tried in the real one of a running daemon."""
