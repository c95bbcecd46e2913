"""flagd's JsonLogic: prepared once, interpreted exactly, compiled to Python functions."""
