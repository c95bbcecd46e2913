"""The control plane: the HTTP API of the write door, and an upstream for edges."""
