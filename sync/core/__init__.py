"""What every part speaks: errors, and pure decisions that belong to no capability: no await, no clock, no network."""
