"""What a run reads of an inventory."""

from pathlib import Path

from fedrnn.inventory import read_inventory


def test_the_key_of_a_researcher_may_lie_in_the_home_folder(tmp_path):
    (tmp_path / "hosts.yml").write_text(
        "nodes:\n  hosts: {pi1: {}}\n"
        "  vars: {pysyft_researchers: [{email: me@here.org, key: ~/.ssh/id_ed25519.pub}]}\n"
    )
    found = read_inventory(tmp_path)
    assert found.key == Path.home() / ".ssh" / "id_ed25519"
    assert found.researcher == "me@here.org"
