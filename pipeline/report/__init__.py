"""Reports: a corpus, or two of them side by side, as a folder of pages that open from disk without a server."""
