"""OpenAI-compatible servers as the engine."""
