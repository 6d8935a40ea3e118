"""Training: the loop, one step of it, its whole state, the one owner of the learning rate."""
