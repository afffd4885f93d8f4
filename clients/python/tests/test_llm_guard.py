"""The real LLM Guard with scanners that need no model."""

from __future__ import annotations

import unittest

import model_libraries

model_libraries.stand_in()

from llm_guard import scan_output, scan_prompt  # noqa: E402
from llm_guard.input_scanners import BanSubstrings, Regex  # noqa: E402
from llm_guard.output_scanners import URLReachability  # noqa: E402

from egress_tracer.llm_guard import marked  # noqa: E402
from test_client import Case  # noqa: E402


class LlmGuard(Case):
    def test_each_scan_is_a_call_of_its_own_and_gives_what_it_gave(self) -> None:
        server = self.serve()
        scanners = [BanSubstrings(["password"], redact=True), Regex([r"\d{4}"])]
        expected = scan_prompt(scanners, "my password is 1234")
        self.assertFalse(expected[1]["BanSubstrings"])
        self.assertEqual(scan_prompt(marked(scanners), "my password is 1234"), expected)
        begun = [(m["tool"], m["kind"]) for m in server.of("begin")]
        self.assertEqual(begun, [("BanSubstrings", "scan"), ("Regex", "scan")])
        self.assertEqual(len(server.of("end")), 2)

    def test_a_scan_of_an_output_that_fetches(self) -> None:
        server = self.serve()
        scan_output(marked(marked([URLReachability()])), "?", "http://127.0.0.1:9/")
        self.assertEqual([m["tool"] for m in server.of("begin")], ["URLReachability"])


if __name__ == "__main__":
    unittest.main()
