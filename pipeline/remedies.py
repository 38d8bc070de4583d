"""What to do about samples that have no defect, for the terminal and for reports."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from manifests.records import SampleStatus

__all__ = ["REMEDIES"]

REMEDIES: Final[Mapping[str, str]] = {  # by status
    SampleStatus.OFF_FOREGROUND: "no place on the part was found; look at `maphc2f inspect`",
    SampleStatus.INVISIBLE: "nothing differs visibly; raise the mechanism's area, or lower label.visible_threshold",
    SampleStatus.AREA_BELOW: "smaller than label.min_area; lower it, or raise the mechanism's area or placement.extent",
    SampleStatus.AREA_ABOVE: "larger than label.max_area; raise it, or lower the mechanism's area or placement.extent",
    SampleStatus.NOT_CONVERGED: "npcF stayed above npcf.tolerance; raise npcf.max_cycles",
    SampleStatus.HIDDEN: "the material's own texture hides it; raise severity or area, or lower label.least_visibility",
    SampleStatus.POOR: "its quality is below sqe.least; lower that, or look at the mechanism with `maphc2f sheet`",
    SampleStatus.CRASHED: "making it ended its process each time; OUT/log says how, more memory may help",
    SampleStatus.CROWDED: "no free place beside the other defects; lower placement.defects or the areas",
}
