"""Which tests go to one process where several run side by side: what the first of them makes, the others read.

Told by their names. Marks with `xdist_group` are lost without a word beside pytest 9.2, where xdist 3.8 writes a group
into a test's name and nobody reads it: https://github.com/pytest-dev/pytest-xdist/issues/1386.
"""

from xdist.scheduler import LoadScopeScheduling

RANKS = "tests/test_distributed.py"  # the process that all ranks are forked from is started once
KERNEL = "tests/test_notebooks.py::test_it_runs_without_data"  # as is that of the notebooks
EXPERIMENTS = "tests/test_experiments.py"  # each is run once


class Together(LoadScopeScheduling):
    """Of pytest-xdist: the largest groups first, then whatever is left, in its order."""

    def _split_scope(self, nodeid: str) -> str:
        return group_of(nodeid)

    def _pending_of(self, workload: dict[str, dict[str, bool]]) -> int:
        for group in [group for group, tests in workload.items() if all(tests.values())]:
            del workload[group]  # or each test would count all that were done before it
        return super()._pending_of(workload)


def group_of(nodeid: str) -> str:
    """The tests with one group are for one process."""
    name, _, parameters = nodeid.partition("[")
    if nodeid.startswith(RANKS):
        return RANKS
    if name == KERNEL:
        return KERNEL
    if parameters and name.startswith(EXPERIMENTS):
        return f"{EXPERIMENTS}[{parameters}"
    return nodeid
