"""The subcommands of ``maphc2f``, by what they are for; ``pipeline.cli`` brings them together."""
