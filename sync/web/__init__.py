"""What a daemon tells over HTTP: whether it is alive and ready, and its metrics. It only reads."""
