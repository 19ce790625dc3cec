"""The table of the engines beside each other, whichever of them were measured."""

from bench.engines import PURPOSE, Run, beside_each_other

TOOK = Run(seconds=60.0, round_seconds=2.0, node_mb=300.0, here_mb=700.0, accuracy=40.0)


def test_who_was_not_measured_is_nobodys_rival(capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "200")
    rows = beside_each_other({"simulation": TOOK, "superlink": TOOK})
    assert [one["rival"] for one in rows] == [None] * 6 and "rival is" not in rows[0]
    told = " ".join(capsys.readouterr().out.split())
    assert "simulation 2 s 300 MB 40 %" in told


def test_the_lab_is_the_rival_of_the_others_and_each_says_what_it_is_for(capsys):
    rows = beside_each_other({"lab": TOOK, "superlink": TOOK})
    assert [one["rival"] for one in rows] == [None] * 3 + [2.0, 300.0, 40.0]
    assert rows[3]["rival is"] == "the lab" and rows[3]["for"] == PURPOSE["superlink"]
    assert "superlink" in capsys.readouterr().out
