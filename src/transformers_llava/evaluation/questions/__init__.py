"""Read what benchmarks ask, from the files of the original and from rows of Hub data sets."""
