"""docs/reliability.md has every fault that is tested, and no other."""

from tests.support.reliability import fault_names, names_on_the_page


def test_each_fault_on_the_page_has_its_test_and_each_test_its_row(request):
    assert len(set(fault_names())) == len(fault_names())
    if not request.config.getoption("write_docs"):  # which happens at the end
        assert names_on_the_page() == fault_names(), "write the table anew: pytest --write-docs tests/faults"
