"""Every argument of every public function, given what it is not for: refused by name, or documented.

`calls` has one good call of each function, a file a module. `values` makes the bad values of an argument
from the good one, `judged` tries them, and `documented` says which are fine, and why.
`python -m tests.bad_arguments` prints the count.
"""
