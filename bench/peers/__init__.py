"""What the daemon is measured against, each a process of its own."""
