"""`python -m e2e.bench.page RESULTS`: the page of benchmarks, from the lines that they printed.

RESULTS has a line of JSON for each run; the newest of each benchmark is shown, and what has never run is left out. The
plots are SVG files in the folder of RESULTS.
"""

import argparse
from collections.abc import Mapping, Sequence
from os.path import relpath
from pathlib import Path

from e2e.bench import bars, results
from e2e.bench.results import Record
from e2e.bench.sections import SECTIONS

_HEAD = """\
# Benchmarks

Made by `python -m e2e.bench.page` from what was measured; do not edit. All figures are from one machine that other
programs may use as well: what can be compared are the ratios within a run. `python -m e2e.bench.<name> --help` says how
each is measured. Nothing here is a pass or a fail.
"""


def render(records: Mapping[str, Record], plots: str) -> tuple[str, dict[str, str]]:
    """Return the page in Markdown, and its plots by file name; `plots` is the folder that the page refers to."""
    parts, pictures = [_HEAD], {}
    for name, section_of in SECTIONS.items():
        if name not in records:
            continue
        record = records[name]
        section = section_of(record.result)
        parts.append(f"## {section.title}\n\n{section.text}\n\n{section.table}\n")
        if section.bars:
            pictures[f"{name}.svg"] = bars.svg(section.title, section.bars, unit=section.unit, line=section.line)
            parts.append(f"![{section.title}]({plots}/{name}.svg)\n")
        parts.append(_origin(name, record))
    return "\n".join(parts), pictures


def _origin(name: str, record: Record) -> str:
    machine = f"{record.cpus} CPUs, load {record.load} at the end"
    return f"<sub>`python -m e2e.bench.{name}`, {record.at[:10]}, {machine}</sub>\n"


def main(arguments: Sequence[str] | None = None) -> None:
    """Write the page and its plots."""
    parser = argparse.ArgumentParser(
        prog="python -m e2e.bench.page", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("results", type=Path)
    parser.add_argument("--page", type=Path, help="where the page goes (benchmarks.md beside RESULTS)")
    options = parser.parse_args(arguments)
    folder: Path = options.results.parent
    page: Path = options.page or folder / "benchmarks.md"
    lines = options.results.read_text().splitlines() if options.results.exists() else []
    text, pictures = render(results.read(lines), relpath(folder, page.parent))
    for name, picture in pictures.items():
        (folder / name).write_text(picture)
    page.write_text(text)


if __name__ == "__main__":
    main()
