"""What the daemon says about itself over HTTP: it answers, and takes no orders."""
