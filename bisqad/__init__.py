"""BiSQAD: a detector trained from a stored corpus by bi-level optimisation, weighting samples by their quality."""
