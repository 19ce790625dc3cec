import io
import json
import os
import select
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from fedrnn import predict
from fedrnn.learning import checkpoint
from fedrnn.learning.checkpoint import ModelConfig
from fedrnn.learning.model import parameters_of

CONFIG = ModelConfig(labels=("Greek", "Polish", "[b]Zulu", "Dutch"), hidden=8, embedding=4)
ROOT = Path(__file__).parents[2]
ODD = ["Kowalski", "a", "b" * 10_000, "🎻", "محمد", "[red]x", "\u202eabc", "\ud800"]


@pytest.fixture
def run(tmp_path):
    checkpoint.save(tmp_path, parameters_of(CONFIG.build(3)), CONFIG)
    return tmp_path


@pytest.fixture
def stdin(monkeypatch):
    def give(content: bytes) -> None:
        monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(content)))

    return give


def ask(capsys, *words):
    code = predict.main([str(word) for word in words])
    told = capsys.readouterr()
    return code, told.out, told.err


def test_each_name_gets_its_three_likeliest_labels(run, capsys):
    code, out, _ = ask(capsys, "--run", run, *ODD)
    assert code == 0
    lines = out.splitlines()
    assert len(lines) == len(ODD) and all(line.count(" %") == 3 for line in lines)
    assert lines[0].startswith("Kowalski") and lines[5].startswith("[red]x")
    assert "\u202e" not in out and "\\u202eabc" in out  # nothing turns the terminal's text around
    assert max(map(len, lines)) < 120


def test_json_is_one_object_a_line_and_agrees_with_the_model(run, capsys):
    code, out, _ = ask(capsys, "--json", "--run", run, *ODD)
    answers = [json.loads(line) for line in out.splitlines()]
    assert code == 0 and [answer["name"] for answer in answers] == ODD
    for answer, ranked in zip(answers, checkpoint.load(run).predict(ODD), strict=True):
        assert [pair["label"] for pair in answer["labels"]] == [label for label, _ in ranked[:3]]
        told = [pair["probability"] for pair in answer["labels"]]
        np.testing.assert_allclose(told, [p for _, p in ranked[:3]], atol=1e-6)


@pytest.mark.parametrize("words", [[], ["-"]])
def test_without_a_name_standard_input_is_read(run, capsys, stdin, words):
    stdin("Kowalski\n\n  Łoś \r\nGr\xfc\n".encode() + b"\xff\xfe\n")
    code, out, _ = ask(capsys, "--json", "--run", run, *words)
    assert code == 0
    assert [json.loads(line)["name"] for line in out.splitlines()] == [
        "Kowalski", "Łoś", "Grü", "\ufffd\ufffd",
    ]  # fmt: skip


def test_a_long_input_is_answered_name_by_name(run, capsys, stdin, monkeypatch):
    monkeypatch.setattr(predict, "TOGETHER", 3)
    stdin("".join(f"{name}\n" for name in "abcdefgh").encode())
    _, out, _ = ask(capsys, "--json", "--run", run)
    assert [json.loads(line)["name"] for line in out.splitlines()] == list("abcdefgh")


@pytest.mark.parametrize("words", ["", "--json"])
def test_who_reads_no_further_is_no_error(run, words):
    asking = f"{sys.executable} -m fedrnn.predict --run {run} {words}"
    pipe = f"yes Kowalski | head -n 2000 | {asking} | head -n 1; echo ${{PIPESTATUS[2]}}"
    done = subprocess.run(["bash", "-c", pipe], cwd=ROOT, capture_output=True, text=True)
    answer, code = done.stdout.splitlines()
    assert "Kowalski" in answer and (int(code), done.stderr) == (128 + signal.SIGPIPE, "")


def test_a_name_that_is_typed_is_answered_before_the_next(run):
    ours, theirs = os.openpty()
    buffered = {name: value for name, value in os.environ.items() if name != "PYTHONUNBUFFERED"}
    asking = [sys.executable, "-m", "fedrnn.predict", "--json", "--run", run]
    asked = subprocess.Popen(asking, cwd=ROOT, env=buffered, stdin=theirs, stdout=subprocess.PIPE)
    try:
        os.write(ours, b"Kowalski\n")
        assert select.select([asked.stdout], [], [], 60)[0], "nothing is answered"
        assert json.loads(asked.stdout.readline())["name"] == "Kowalski"
        asked.send_signal(signal.SIGINT)
        assert asked.wait(30) == 130
    finally:
        asked.kill()
        asked.communicate()
        os.close(ours)
        os.close(theirs)


def test_nothing_to_read_is_nothing_to_answer(run, capsys, stdin):
    stdin(b"")
    assert ask(capsys, "--run", run)[:2] == (0, "")


def test_without_a_model_the_answer_is_a_sentence(tmp_path, capsys):
    code, out, err = ask(capsys, "--run", tmp_path / "nowhere", "Kowalski")
    assert code == 2 and out == "" and "train a model first" in err
