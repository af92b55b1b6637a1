"""The commands that add, change and show connections."""
