"""What is told of connections and daemons."""
