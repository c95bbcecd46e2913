"""Single-writer use cases over ports: publish, views."""
