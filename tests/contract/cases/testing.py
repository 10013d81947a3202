"""Cases of `testing`."""

from tests.contract.case import Case

CASES: list[Case] = []

# name: (why the contract does not fit, the file that tests it)
EXEMPT: dict[str, tuple[str, str]] = {
    f"testing.{name}": ("checks functions; gives no tensor", "test_testing.py")
    for name in (
        "assert_compiles_once", "assert_resumes", "assert_trees_close", "assert_trees_equal", "check",
        "check_augmentation", "check_compiled", "check_loss", "check_module", "check_optimizer", "check_penalty",
        "check_transform", "example", "report",
    )
}  # fmt: skip
