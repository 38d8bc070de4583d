"""Sources, plan, stages, Zarr store, verification and command line, run serially or by Dask."""
