"""Write docs/verification.md: every known answer, what the run-time kernels give, and a plot of each.

Run with ``make verification``, or ``python -m benchmarks.verification [--docs docs] [--only fracture]``. Exit code 1 if
a case does not hold.
"""

from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path

import matplotlib as mpl
from matplotlib import pyplot as plt

from benchmarks.verification import contact, craze, fracture, npcf, photograph, pitting, plate, precision, wavelets
from benchmarks.verification.case import Case

TOPICS = {
    "fracture": ("Fracture", fracture),
    "craze": ("Craze", craze),
    "pitting": ("Pitting", pitting),
    "contact": ("Dents: contact", contact),
    "plate": ("Warp: plates", plate),
    "photograph": ("Refinement: the photograph", photograph),
    "npcf": ("Refinement: npcF", npcf),
    "wavelets": ("Refinement: wavelets", wavelets),
    "precision": ("Refinement: number formats", precision),
}
HEAD = """# Verification

What the solvers give beside known answers, at the tolerances that the tests hold them to. Each case runs the kernels
that make the bank, not copies of them. Written by `make verification`, which takes a minute or two; nothing here is
typed by hand. `benchmarks/test_verification.py` runs the same cases in the test-suite.

{holding} of {total} cases hold. Errors are relative unless marked *abs*.
"""


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--docs", type=Path, default=Path("docs"))
    parser.add_argument("--only", choices=list(TOPICS))
    options = parser.parse_args()
    mpl.use("Agg")
    chosen = {name: topic for name, topic in TOPICS.items() if options.only in (None, name)}
    found: dict[str, list[Case]] = {}
    for name, (title, module) in chosen.items():
        start = time.perf_counter()
        found[name] = module.cases()
        failed = [case.title for case in found[name] if not case.holds]
        print(f"{title}: {len(found[name])} cases in {time.perf_counter() - start:.1f} s; failed: {failed or 'none'}")
    if options.only is None:
        write_page(options.docs, found)
    return int(any(not case.holds for cases in found.values() for case in cases))


def write_page(docs: Path, found: dict[str, list[Case]]) -> None:
    """The page and its plots."""
    pictures = docs / "pictures" / "verification"
    pictures.mkdir(parents=True, exist_ok=True)
    cases = [case for group in found.values() for case in group]
    lines = [HEAD.format(holding=sum(case.holds for case in cases), total=len(cases))]
    for name, group in found.items():
        lines += [
            f"## {TOPICS[name][0]}\n",
            "| case | quantity | known | kernel | error | held to | |",
            "|---|---|--:|--:|--:|--:|---|",
        ]
        lines += [row(case) for case in group]
        lines.append("")
        for number, case in enumerate(group):
            lines += [f"**{case.title[:1].upper()}{case.title[1:]}.** {case.statement}\n"]
            if case.plot is not None:
                path = pictures / f"{name}-{number:02d}.png"
                draw(case, path)
                lines += [f"![{case.title}]({path.relative_to(docs).as_posix()})\n"]
    (docs / "verification.md").write_text("\n".join(lines).rstrip() + "\n", encoding="utf-8")


def row(case: Case) -> str:
    mark = " *abs*" if case.absolute else ""
    verdict = "holds" if case.holds else "**FAILS**"
    return (
        f"| {case.title} | {case.quantity} | {case.expected:.6g} | {case.got:.6g} | {case.error:.2g}{mark} "
        f"| {case.tolerance:.2g} | {verdict} |"
    )


def draw(case: Case, path: Path) -> None:
    assert case.plot is not None
    figure, axes = plt.subplots(figsize=(5.2, 3.4), layout="constrained")
    case.plot(axes)
    figure.savefig(path, dpi=90, metadata={"Software": None})
    plt.close(figure)


if __name__ == "__main__":
    sys.exit(main())
