"""Training as a whole, on the bundled model's parts: both stages, and what they start from and write."""
