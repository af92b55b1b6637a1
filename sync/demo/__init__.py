"""A simulated Mews Connector API, and the demo that runs the daemon against it."""
