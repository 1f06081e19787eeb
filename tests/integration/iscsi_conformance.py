#!/usr/bin/python3
"""Hold what iscsi-test-cu says of a LUN (standard input) against what docs/iscsi-conformance.md says.

  iscsi_conformance.py DOCUMENT

A test passes, fails, or is skipped, which iscsi-test-cu calls passed too. Every test that does not pass
has a row in the document's table: | Suite.Test | fails or skips | who | why |. Ends with 1 when a test
has another result than there, or a row no test.
"""

import re
import sys


def results(lines):
    found, suite, test, skipped = {}, None, None, False
    for line in lines:
        if begun := re.match(r"Suite: (\w+)", line):
            suite = begun[1]
        elif begun := re.match(r"\s+Test: (.+?) \.\.\.", line):
            test, skipped = begun[1], False
        if not test:
            continue
        skipped = skipped or "SKIPPED" in line
        if ended := re.search(r"(?:^|\.\.\.)(passed|FAILED)", line):
            verdict = "fails" if ended[1] == "FAILED" else "skips" if skipped else "passes"
            found[f"{suite}.{test}"] = verdict
            test = None
    return found


def documented(path):
    with open(path, encoding="utf-8") as document:
        rows = re.findall(r"^\| (\w+\.[^|]+?) \| (fails|skips) \|", document.read(), re.M)
    return dict(rows)


def main():
    found, known = results(sys.stdin), documented(sys.argv[1])
    wrong = [f"{test} {verdict}, but {known.get(test, 'passes')} in the document"
             for test, verdict in found.items() if verdict != known.get(test, "passes")]
    wrong += [f"{test} is in the document, but was not run" for test in known if test not in found]
    counts = {verdict: list(found.values()).count(verdict) for verdict in ("passes", "skips", "fails")}
    print(", ".join(f"{count} {verdict}" for verdict, count in counts.items()), f"of {len(found)}")
    if wrong or not found:
        sys.exit("\n".join(wrong) or "no test was run")


main()
