"""Sources: the photographs of normal parts that a corpus starts from, decoded and fitted to its size."""
