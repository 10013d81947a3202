"""Calls that do not yet refuse all that they should."""

KNOWN = {
    "averaging.refresh_statistics",
    "check",
    "decay_mask",
    "from_module",
    "from_module().apply",
    "jit",
    "register_layer",
    "to_module",
    "variables",
}
