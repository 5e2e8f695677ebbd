"""The service under a real systemd, in namespaces of its own."""
