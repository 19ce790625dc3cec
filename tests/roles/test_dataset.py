"""The node's data set: in PySyft, with a mock that is no copy of a row."""

import json


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


def test_nothing_private_lies_where_the_gate_reads(host):
    rows = private(host)
    with host.sudo():
        published = host.check_output("find /var/lib/fedrnn/published -type f -exec cat {} +")
    assert not rows & set(published.split())
