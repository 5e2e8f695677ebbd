"""The bundled model: synthetic clips of moving shapes, its tokenizer and its training.

Imports :mod:`neva.training` and the daemon's windows and pixels. Read :mod:`neva.shapes.scenes` first.
"""
