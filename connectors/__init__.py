"""The edges: sources, sinks and routes. They know transport and nothing of video, and import nothing else of ours."""
