"""The Mews Connector API: how to call it, what its answers mean, and how often it may be called."""
