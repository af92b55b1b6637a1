"""What is counted how often."""

from sync.core.histogram import Histogram


def test_a_value_counts_up_to_the_first_bound_that_holds_it() -> None:
    histogram = Histogram((1, 2, 5))
    for value in (0, 1, 1.5, 5, 6, 100):
        histogram.observe(value)
    assert (histogram.counts, histogram.sum) == ([2, 1, 1, 2], 113.5)


def test_a_copy_grows_no_further() -> None:
    histogram = Histogram((1,))
    histogram.observe(0.5)
    copy = histogram.copy()
    histogram.observe(3)
    assert (copy.counts, copy.sum, histogram.counts) == ([1, 0], 0.5, [1, 1])
