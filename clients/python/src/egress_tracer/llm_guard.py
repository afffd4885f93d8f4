"""Marks LLM Guard's scans, so that what a scanner fetches is told apart from what the agent does.

    from egress_tracer.llm_guard import marked

    scan_prompt(marked([BanSubstrings([...])]), prompt)
"""

from __future__ import annotations

from typing import Any, List, Sequence, TypeVar

from ._mark import scan

Scanner = TypeVar("Scanner", bound=Any)


def marked(scanners: Sequence[Scanner]) -> List[Scanner]:
    """The same scanners, whose scans are marked from now on. Doing it twice changes nothing."""
    for scanner in scanners:
        # On the object, not around it: LLM Guard tells results by the scanner's class.
        if "scan" not in vars(scanner):
            scanner.scan = scan(type(scanner).__name__)(scanner.scan)
    return list(scanners)
