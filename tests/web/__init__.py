"""What a daemon tells over HTTP."""
