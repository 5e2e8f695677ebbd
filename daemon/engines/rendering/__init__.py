"""Rendering, from a window's pixels to the tensors that the model takes: in processes of its own, or in a thread."""
