"""`/metrics`: what the process has counted and what its database says, for Prometheus and OpenMetrics."""
