"""The mirror: which windows are read, and how what the API shows comes to stand in schema `mews`."""
