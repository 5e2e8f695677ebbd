"""Real servers of live streams, for tests and measurements. What they show is the number of each frame."""
