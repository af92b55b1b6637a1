"""Many connections, shared by replicas: which there are, and their tokens."""
