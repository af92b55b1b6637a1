"""Many adds at once: from files, from patterns, and through a staging table into the outbox."""
