"""Live streams recorded from real servers, which these tests start."""
