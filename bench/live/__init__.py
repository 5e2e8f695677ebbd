"""Measurements of live streams: the recorders alone, and whole daemons."""
