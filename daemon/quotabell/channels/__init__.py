"""Ways to reach a person or a system: one module a channel."""
