"""One file for each public module: its `CASES`, and what is `EXEMPT`, with the reason and the file that tests it."""
