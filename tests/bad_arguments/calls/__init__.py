"""Good calls, one file a module: `CALLS`."""
