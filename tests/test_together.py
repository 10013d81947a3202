"""What is made once for several tests is made in one process, however many there are."""

from pathlib import Path
from types import ModuleType

from tests import test_distributed, test_experiments, test_notebooks
from tests.together import group_of


def name(module: ModuleType, test: str, parameters: str = "") -> str:
    assert hasattr(module, test)
    return f"tests/{Path(str(module.__file__)).name}::{test}{parameters}"


def test_all_that_is_asked_of_an_experiment_goes_to_one_process() -> None:
    tests = ("test_record_is_complete", "test_report_shows_it", "test_same_seed_same_result_on_another_device")
    groups = {
        each: {group_of(name(test_experiments, test, f"[{each}]")) for test in tests} for each in test_experiments.NAMES
    }
    assert {len(found) for found in groups.values()} == {1}
    assert len(set.union(*groups.values())) == len(groups), "and others to others"
    alone = name(test_experiments, "test_nothing_is_committed_of_what_is_no_experiment")
    assert group_of(alone) == alone


def test_ranks_are_forked_in_one_process_and_notebooks_have_one_kernel() -> None:
    tests = ("test_shards_are_batches_of_their_own_with_folded_keys", "test_ranks_give_the_bits_of_one_process")
    assert len({group_of(name(test_distributed, test)) for test in tests}) == 1
    runs = [name(test_notebooks, "test_it_runs_without_data", f"[{path.stem}]") for path in test_notebooks.NOTEBOOKS]
    assert len({group_of(run) for run in runs}) == 1
    reads = name(test_notebooks, "test_it_is_committed_as_executed", f"[{test_notebooks.NOTEBOOKS[0].stem}]")
    assert group_of(reads) == reads
