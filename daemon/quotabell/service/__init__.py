"""What the daemon does: the only layer that calls both the domain and the store."""
