"""Request bodies to domain objects: one module a format."""
