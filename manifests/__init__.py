"""The contract: recipes, plans, records, and the reader of a stored corpus.

Importing this package loads no torch, Dask or Numba.
"""

__version__ = "0.1.0"

from manifests.corpus import Corpus, Sample
from manifests.errors import MaphError

__all__ = ["Corpus", "MaphError", "Sample", "__version__"]
