"""The node's data set: in PySyft, with a mock that is no copy of a row."""

import json
import re


def private(host):
    with host.sudo():
        found = host.check_output(
            "grep -r . /var/lib/fedrnn/SyftBox/*/private/*/names --include=*.txt -h"
        )
    return set(found.splitlines())


def test_the_node_offers_its_names(host):
    with host.sudo():
        described = json.loads(
            host.check_output("cat /var/lib/fedrnn/published/*/describe.json | head -1")
        )
    assert described["dataset"] == "names"
    assert described["rows"] == sum(described["labels"].values()) > 0


def test_the_mock_repeats_no_private_row(host):
    with host.sudo():
        mock = host.check_output(
            "grep -r . /var/lib/fedrnn/SyftBox/*/public/*/names --include=*.txt -h"
        ).splitlines()
    assert len(mock) >= 5
    assert not private(host) & set(mock)


def rows_in(text, rows):
    """Return the private rows whose words occur in a text, whatever stands around them."""
    words = set(re.findall(r"\w+", text))
    return {row for row in rows if (parts := set(re.findall(r"\w+", row))) and parts <= words}


def test_nothing_private_lies_where_the_gate_reads(host):
    rows = private(host)
    with host.sudo():
        published = host.check_output("find /var/lib/fedrnn/published -type f -exec cat {} +")
        described = host.check_output("cat /var/lib/fedrnn/published/*/describe.json | head -1")
    row = max(rows, key=len)
    assert rows_in(json.dumps({**json.loads(described), "leak": f"1 {row}, 2"}), rows) >= {row}
    # A few surnames are words of an English sentence, of a package's name or of a job's log, too.
    said = rows_in(published, rows)
    assert len(said) < 0.02 * len(rows), said
    assert not {r for r in said if len(r) > 8}, said
