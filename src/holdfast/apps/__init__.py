"""Processes: control plane, edge, CLI. The only asynchronous code."""
