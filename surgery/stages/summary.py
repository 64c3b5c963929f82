"""`Summary`: the findings of the finished stages of a run, in sections."""

from __future__ import annotations

import itertools
from collections.abc import Hashable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from surgery.errors import printable
from surgery.stages.findings import Finding, Section
from surgery.stages.stage import Finished

SHOWN = 40
"""The most lines of a summary that are printed."""


@dataclass(frozen=True, kw_only=True)
class Summary:
    """Everything that a run found: the findings of each section, in the order of the stages."""

    findings: tuple[Finding, ...]

    def __repr__(self) -> str:
        """The summary as text, at most a screen."""
        lines = self.lines()
        more = [f"and {len(lines) - SHOWN} more lines"] if len(lines) > SHOWN else []
        return "\n".join(["Summary", *(printable(line, 160) for line in lines[:SHOWN]), *more])

    def sections(self) -> list[Section]:
        """The sections that have findings, in the order in which they are shown."""
        found = {finding.section.key: finding.section for finding in self.findings}
        return sorted(found.values(), key=lambda section: section.place)

    def of(self, section: Section) -> list[Any]:
        """The findings of one section."""
        return [finding for finding in self.findings if finding.section.key == section.key]

    def as_json(self) -> dict[str, Any]:
        return {section.key: [finding.as_json() for finding in self.of(section)] for section in self.sections()}

    def lines(self) -> list[str]:
        """The summary as plain text: a title for each section, and its lines below, indented."""
        return [
            line
            for section in self.sections()
            for line in (section.line_title, *(f"  {text}" for text in section.lines(self.of(section))))
        ]


def summarize(stages: Sequence[Finished]) -> Summary:
    """What the finished `stages` found, each by itself and in comparison with the others of its kind."""
    shown: set[Hashable] = set()
    kept = []
    for finding in _all(stages):
        about = finding.identity()
        if about is None or (finding.section.key, about) not in shown:
            shown.add((finding.section.key, about))
            kept.append(finding)
    return Summary(findings=tuple(kept))


def _all(stages: Sequence[Finished]) -> Iterator[Finding]:
    for finished in stages:
        yield from finished.stage.parameters.findings(finished)
    for first, second in itertools.combinations(stages, 2):
        if first.stage.kind == second.stage.kind:
            yield from first.stage.parameters.compare(first, second)
