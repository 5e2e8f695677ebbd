"""vLLM as the engine, in processes of its own."""
