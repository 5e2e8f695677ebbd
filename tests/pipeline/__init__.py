"""Whole jobs, from clips to captions."""
