"""Other people's modules, which `from_module` runs right or refuses by name; `python -m tests.zoo` prints the table."""
