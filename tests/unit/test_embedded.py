import hashlib
import socket

import pytest

from fedrnn.learning import embedded
from fedrnn.learning.data import part, read_folder


@pytest.fixture(autouse=True)
def no_network(monkeypatch):
    def refuse(*args, **keywords):
        raise AssertionError("the embedded data must not touch the network")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    embedded.names.cache_clear()


def pairs(shares):
    return [(label, name) for part in shares for label, names in part.items() for name in names]


def test_it_has_the_measured_size():
    table = embedded.names()
    everything = [name for members in table.values() for name in members]
    assert len(table) == 18
    assert len(everything) == 14_737
    assert len(set(everything)) == 14_277
    assert max(map(len, table.values())) == 1200


@pytest.mark.parametrize("split", ["language", "iid", "dirichlet:0.5"])
@pytest.mark.parametrize("nodes", [1, 3])
def test_shares_have_every_pair_once_and_are_the_same_each_time(split, nodes):
    shares = embedded.share(split, nodes, 4)
    found = pairs(shares)
    assert len(shares) == nodes
    assert len(found) == len(set(found)) == 14_737
    assert shares == embedded.share(split, nodes, 4)
    if nodes > 1:
        assert shares != embedded.share(split, nodes, 5)


@pytest.mark.parametrize("nodes", [2, 3, 10, 18])
def test_by_language_no_two_nodes_share_a_label_and_the_shares_are_balanced(nodes):
    shares = embedded.share("language", nodes, 0)
    labels = [label for share in shares for label in share]
    assert len(labels) == len(set(labels)) == 18
    sizes = [sum(map(len, share.values())) for share in shares]
    if nodes <= 3:
        assert max(sizes) < 1.1 * min(sizes)


def test_iid_gives_every_node_every_label():
    for share in embedded.share("iid", 3, 0):
        assert set(share) == set(embedded.names())


def test_no_test_name_is_in_any_nodes_training_part(tmp_path):
    train, test = set(), set()
    for folder in embedded.write_shares(tmp_path, "iid", 3, 0):
        for names in read_folder(folder).values():
            train |= {name for name in names if part(name, 0) == "train"}
            test |= {name for name in names if part(name, 0) == "test"}
    assert train and test
    assert not train & test


def test_files_are_the_same_byte_for_byte_and_an_older_split_is_removed(tmp_path):
    embedded.main(["--split", "iid", "--nodes", "3", "--seed", "1", "--out", str(tmp_path)])
    embedded.main(["--split", "language", "--nodes", "3", "--seed", "0", "--out", str(tmp_path)])
    files = sorted(tmp_path.glob("*/*.txt"))
    assert len(files) == 18
    digest = hashlib.sha256()
    for file in files:
        digest.update(file.relative_to(tmp_path).as_posix().encode() + file.read_bytes())
    # Changes only when faker's lists, anyascii's tables or the recipe do.
    assert digest.hexdigest() == "a5c7925f7f55318ca6d7e3d58b48907424e83555815b7aecd0df21acef18a442"


@pytest.mark.parametrize(
    "arguments",
    [("nonsense", 3, 0), ("language", 19, 0), ("language", 0, 0), ("dirichlet:0.0001", 50, 0)],
)
def test_what_cannot_be_shared_out_is_refused(arguments):
    with pytest.raises(ValueError):
        embedded.share(*arguments)


def test_a_thousand_nodes_draw_their_names_by_a_mixture_of_their_own():
    shares = embedded.share("dirichlet:0.1:200", 1000, 0)
    assert shares == embedded.share("dirichlet:0.1:200", 1000, 0)
    sizes = [sum(map(len, part.values())) for part in shares]
    assert max(sizes) == 200 and sum(sizes) > 0.98 * 200 * 1000
    assert all(len(set(n)) == len(n) and set(n) <= set(embedded.names()[label])
               for part in shares for label, n in part.items())  # fmt: skip
    # One or two languages are most of a node, and every name is on some node.
    most = [sum(sorted(map(len, part.values()))[-2:]) for part in shares]
    assert sum(most) > 0.75 * sum(sizes)
    everywhere = {(label, name) for part in shares for label, n in part.items() for name in n}
    assert len(everywhere) > 0.99 * sum(map(len, embedded.names().values()))
    even = embedded.share("dirichlet:1000:200", 20, 0)
    assert max(sum(sorted(map(len, part.values()))[-2:]) for part in even) < 0.4 * 200


def test_the_command_line_says_what_is_wrong(tmp_path, capsys):
    with pytest.raises(SystemExit):
        embedded.main(["--split", "language", "--nodes", "19", "--out", str(tmp_path)])
    assert "1 to 18 nodes" in capsys.readouterr().err
