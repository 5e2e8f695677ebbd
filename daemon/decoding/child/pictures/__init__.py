"""The decoding child's work on pictures: what they hold beside one frame's pixels.

HEIC and AVIF are put together from their items, and what is transparent is laid over a background.
"""
