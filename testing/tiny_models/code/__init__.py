"""The code that some checkpoints carry in their folder, in small: each file is copied into the tiny model's own."""
