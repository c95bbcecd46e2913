"""The routes of the control API, one module per noun. Handlers are thin: they ask and shape."""
