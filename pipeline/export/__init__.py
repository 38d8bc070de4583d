"""Corpora in the formats of others: one module a format, all behind `pipeline.export.contract.Format`."""
