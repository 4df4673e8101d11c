"""Where stages are done: one module per launcher."""
