"""The tests; the tables that drive them are in `contract`, `oracles` and `refusals`."""
