"""Torch passes that turn physical fields into a photograph's defect: render, npcF."""
