"""What is read of an inventory beside names and addresses."""

from pathlib import Path

import pytest

from fedrnn.inventory import InventoryError, read_inventory


def test_the_key_of_a_researcher_may_lie_in_the_home_folder(tmp_path):
    (tmp_path / "hosts.yml").write_text(
        "nodes:\n  hosts: {pi1: {}}\n"
        "  vars: {pysyft_researchers: [{email: me@here.org, key: ~/.ssh/id_ed25519.pub}]}\n"
    )
    found = read_inventory(tmp_path)
    assert found.key == Path.home() / ".ssh" / "id_ed25519"
    assert found.researcher == "me@here.org"


def jump(folder, words):
    hosts = folder / "hosts.yml"
    hosts.write_text(f"nodes: {{hosts: {{pi1: {{ansible_host: 10.0.0.1, {words}}}}}}}\n")
    (node,) = read_inventory(hosts).nodes
    return node.jump


@pytest.mark.parametrize(
    ("words", "way"),
    [
        (
            "ansible_ssh_common_args: -o ProxyJump=me@gate:2222 -o IdentitiesOnly=yes",
            "me@gate:2222",
        ),
        ('ansible_ssh_extra_args: "-C -J gate,inner"', "gate,inner"),
        ("ansible_ssh_common_args: \"-o 'proxyjump gate'\"", "gate"),
        ("ansible_ssh_common_args: -o ProxyJump=none", ""),
        ("ansible_ssh_common_args: -o StrictHostKeyChecking=yes", ""),
        ('ansible_ssh_common_args: "-J {{ inventory_hostname }}-gate"', "pi1-gate"),
    ],
)
def test_ansibles_way_to_a_node_is_ours(tmp_path, words, way):
    assert jump(tmp_path, words) == way


def test_a_way_that_only_ansible_would_know_is_refused_with_the_one_that_both_know(tmp_path):
    words = 'ansible_ssh_common_args: -o ProxyCommand="ssh -W %h:%p gate"'
    with pytest.raises(InventoryError, match=r"pi1: .*say it as -o ProxyJump="):
        jump(tmp_path, words)


def test_two_nodes_of_one_owner_are_refused_for_pysyft_takes_them_for_one(tmp_path):
    (tmp_path / "hosts.yml").write_text(
        "nodes:\n  hosts: {pi1: {}, pi2: {}}\n  vars: {pysyft_owner: me@home.org}\n"
    )
    with pytest.raises(InventoryError, match=r"pi1 and pi2 .* such as pi2@home\.org"):
        read_inventory(tmp_path)


def test_one_node_with_data_of_its_own_makes_the_split_its_users_own(tmp_path):
    (tmp_path / "hosts.yml").write_text(
        "nodes:\n  hosts: {pi1: {}, pi2: {dataset_source: /srv/names}}\n"
        "  vars: {dataset_split: iid}\n"
    )
    assert read_inventory(tmp_path).split == "own"
