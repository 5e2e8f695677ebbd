"""The cage that a decoding child closes around itself. Imports nothing of ours."""
