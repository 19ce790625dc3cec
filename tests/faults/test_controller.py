"""A controller that dies."""

from __future__ import annotations


def test_a_controller_killed_in_a_round_resumes_to_the_same_model(start, undisturbed):
    run = start()
    run.until_round(120)
    run.process.kill()
    run.end()
    again = start("--resume")
    again.folder = run.folder
    assert again.end() == 0, again.said
    assert "taken up after round 100 of 300" in again.said
    assert again.summary()["model_sha256"] == undisturbed["model_sha256"]
    assert [event["round"] for event in again.rounds()] == list(range(1, 301))
    assert set(again.summary()["jobs"].values()) == {"done"}
