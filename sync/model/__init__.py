"""Pure decisions and the words everything else speaks: no await, no clock, no network."""
