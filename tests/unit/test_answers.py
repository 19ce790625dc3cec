"""A node that is broken, or another one, is refused in words and writes nothing here."""

import io
import json
import tarfile

import pytest
from sites import OWNER, SENDER

from fedrnn.datasite.answers import MAX_TEXT, AnswerError, description, state, unpack

OTHER = "node2@lab.local"
PUBLIC = f"{OWNER}/public/syft_datasets/names"
REVIEW = f"{OWNER}/app_data/job/review/{SENDER}/v1/job-1"
HOLDER = {"job": "job-7", "sender": SENDER, "since": "2026-11-24T00:00:00+00:00"}


def described(**more: object) -> bytes:
    told = {
        "owner": OWNER,
        "dataset": "names",
        "schema": "<Label>.txt",
        "rows": 3,
        "labels": {"Polish": 2, "Greek": 1},
        "mock": {"Polish": ["ba"], "Greek": ["ko"]},
        "node": {"os": "Debian", "packages": {"torch": {"version": "2.9.1"}}},
        "running": None,
    }
    return json.dumps({**told, **more}).encode()


def told_state(**more: object) -> bytes:
    told = {"job": "job-1", "status": "running", "sha256": "a" * 64, "worker": True}
    return json.dumps({**told, "memory_mb": {"python": 12.5}, **more}).encode()


def test_an_honest_answer_is_believed_and_holds_nothing_else():
    told = description(described(running=HOLDER, rows_of_others=["Kowalski"]), OWNER)
    assert told == json.loads(described(running=HOLDER))
    assert state(told_state(evil=1), OWNER, "job-1") == {
        "job": "job-1",
        "status": "running",
        "reason": None,
        "approval": None,
        "return_code": None,
        "sha256": "a" * 64,
        "held_by": None,
        "memory_mb": {"python": 12.5},
        "worker": True,
    }
    assert state(b'{"job": "job-1", "status": "sent"}', OWNER, "job-1")["worker"] is False


def test_another_owners_description_is_refused_and_both_are_named():
    with pytest.raises(AnswerError, match=r"node1@lab.local's node .* 'node2@lab.local'"):
        description(described(owner=OTHER), OWNER)


def test_the_state_of_another_job_is_refused_and_both_are_named():
    with pytest.raises(AnswerError, match="answers for job 'job-2', not for job-1"):
        state(told_state(job="job-2"), OWNER, "job-1")


NO_OBJECT = {
    "nothing": b"",
    "a list": b"[]",
    "deep": b"[" * 100_000,
    "a deep object": b'{"a":' * 100_000,
    "binary": b"\xff\xfe\x00",
    "a number of 5000 digits": b'{"rows": ' + b"9" * 5000 + b"}",
}


@pytest.mark.parametrize("data", NO_OBJECT.values(), ids=NO_OBJECT)
def test_what_is_no_object_is_refused(data):
    with pytest.raises(AnswerError, match=f"{OWNER}'s node sends a description that is no JSON"):
        description(data, OWNER)
    with pytest.raises(AnswerError, match=f"{OWNER}'s node sends a state that is no JSON"):
        state(data, OWNER, "job-1")


def nested(levels: int) -> object:
    deep: object = "x"
    for _ in range(levels):
        deep = {"x": deep}
    return deep


LABELS = {"Polish": 2, "Greek": 1}
NO_DESCRIPTION = [
    {"dataset": None},
    {"schema": ["a"]},
    {"schema": "x" * (MAX_TEXT + 1)},
    {"labels": {}, "mock": {}, "rows": 0},
    {"labels": list(LABELS)},
    {"labels": {"Polish": True, "Greek": 2}},
    {"labels": {"Polish": -1, "Greek": 4}},
    {"labels": {"Polish": 1.5, "Greek": 1.5}},
    {"labels": {"Polish": float("nan"), "Greek": 1}},
    {"labels": {"Polish": 10**400, "Greek": 1}, "rows": 10**400 + 1},
    {"labels": {"x" * (MAX_TEXT + 1): 3}, "mock": {"x" * (MAX_TEXT + 1): []}},
    {"labels": {str(n): 1 for n in range(10_001)}, "mock": {str(n): [] for n in range(10_001)},
     "rows": 10_001},
    {"labels": {"Polish": 1}, "mock": {"Polish": ["ba"]}, "rows": True},
    {"rows": 4},
    {"rows": None},
    {"rows": float("inf")},
    {"mock": {"Polish": ["ba"]}},
    {"mock": {"Polish": "ba", "Greek": []}},
    {"mock": {"Polish": [1], "Greek": []}},
    {"mock": {"Polish": ["x" * (MAX_TEXT + 1)], "Greek": []}},
    {"node": None},
    {"node": {"os": nested(300)}},
    {"node": {"packages": nested(300)}},
    {"node": {"packages": [["torch", "2.9"]]}},
    {"node": {"packages": {"torch": {"version": ["2.9"]}}}},
    {"node": {"os": "x" * (MAX_TEXT + 1)}},
    {"running": "job-7"},
    {"running": {"job": "job-7"}},
    {"running": {**HOLDER, "since": 7}},
    {"running": {**HOLDER, "job": "x'; reboot #"}},
    {"running": {**HOLDER, "sender": "Alice"}},
]  # fmt: skip


@pytest.mark.parametrize("wrong", NO_DESCRIPTION, ids=lambda wrong: repr(wrong)[:40])
def test_a_description_of_another_form_is_refused(wrong):
    with pytest.raises(AnswerError, match=f"{OWNER}'s node describes its data in a form"):
        description(described(**wrong), OWNER)


NO_STATE = [
    {"status": "fine"},
    {"status": None},
    {"status": ["running"]},
    {"reason": "x" * (MAX_TEXT + 1)},
    {"reason": {"a": 1}},
    {"approval": 7},
    {"return_code": "0"},
    {"return_code": True},
    {"return_code": 1 << 60},
    {"sha256": "a" * 63},
    {"sha256": "A" * 64},
    {"sha256": "a" * 64 + "\n"},
    {"sha256": 7},
    {"held_by": []},
    {"held_by": {**HOLDER, "job": "$(reboot)"}},
    {"held_by": {**HOLDER, "job": "x" * (MAX_TEXT + 1)}},
    {"memory_mb": [1]},
    {"memory_mb": {"python": "12"}},
    {"memory_mb": {"python": True}},
    {"memory_mb": {"python": float("nan")}},
    {"memory_mb": {"python": float("-inf")}},
    {"memory_mb": {"python": 10**400}},
    {"memory_mb": {"x" * (MAX_TEXT + 1): 1}},
]


@pytest.mark.parametrize("wrong", NO_STATE, ids=lambda wrong: repr(wrong)[:40])
def test_a_state_of_another_form_is_refused(wrong):
    with pytest.raises(AnswerError, match=f"{OWNER}'s node tells the state of job-1 in a form"):
        state(told_state(**wrong), OWNER, "job-1")


def tar(*members: tuple[str, bytes] | tarfile.TarInfo) -> bytes:
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w") as packed:
        for member in members:
            if isinstance(member, tarfile.TarInfo):
                packed.addfile(member)
                continue
            entry = tarfile.TarInfo(member[0])
            entry.size = len(member[1])
            packed.addfile(entry, io.BytesIO(member[1]))
    return stream.getvalue()


def special(name: str, kind: bytes, target: str = "/etc/passwd") -> tarfile.TarInfo:
    entry = tarfile.TarInfo(name)
    entry.type, entry.linkname = kind, target
    return entry


def hole(name: str) -> tarfile.TarInfo:
    entry = tarfile.TarInfo(name)
    entry.pax_headers = {"GNU.sparse.size": str(1 << 40), "GNU.sparse.map": "0,1"}
    return entry


GOOD = (f"{PUBLIC}/mock/Polish.txt", b"ba\n")
GOOD_OUTPUT = (f"{REVIEW}/outputs/n", b"7")
HOSTILE = {
    "absolute": ("/tmp/evil", b"x"),
    "absolute, below the right folder": (f"/{PUBLIC}/evil", b"x"),
    "way up": (f"{PUBLIC}/../../../../evil", b"x"),
    "way up and back": (f"{OWNER}/../{OWNER}/public/syft_datasets/names/evil", b"x"),
    "another owner's": (f"{OTHER}/public/syft_datasets/names/mock/Polish.txt", b"x"),
    "no owner's": ("public/syft_datasets/names/x", b"x"),
    "beside the data sets": (f"{OWNER}/public/x", b"x"),
    "in the place of the data sets": (f"{OWNER}/public/syft_datasets", b"x"),
    "private": (f"{OWNER}/private/syft_datasets/names/x", b"x"),
    "what was submitted": (f"{OWNER}/app_data/job/inbox/{SENDER}/v1/job-1/code/main.py", b"x"),
    "a job's results, unasked": GOOD_OUTPUT,
    "one name twice": GOOD,
    "one name twice, written otherwise": (f"{PUBLIC}/./mock/Polish.txt", b"x"),
    "symbolic link": special(f"{PUBLIC}/l", tarfile.SYMTYPE),
    "hard link": special(f"{PUBLIC}/l", tarfile.LNKTYPE, GOOD[0]),
    "folder": special(f"{PUBLIC}/l", tarfile.DIRTYPE),
    "pipe": special(f"{PUBLIC}/l", tarfile.FIFOTYPE),
    "device": special(f"{PUBLIC}/l", tarfile.CHRTYPE),
    "hole": hole(f"{PUBLIC}/l"),
    "file in the place of a folder": (f"{PUBLIC}/mock", b"x"),
    "folder in the place of a file": (f"{PUBLIC}/mock/Polish.txt/x", b"x"),
    "a name that no disk takes": (f"{PUBLIC}/{'x' * 300}", b"x"),
}


@pytest.mark.parametrize("member", HOSTILE.values(), ids=HOSTILE)
def test_of_data_sets_with_one_hostile_file_nothing_is_written(tmp_path, member):
    box = tmp_path / "box"
    box.mkdir()
    with pytest.raises(AnswerError, match=OWNER) as refused:
        unpack(tar(GOOD, member), box, OWNER, SENDER)
    assert list(tmp_path.rglob("*")) == [box]
    assert str(refused.value).isprintable()


def test_a_name_with_a_zero_byte_is_refused(tmp_path):
    entry = tarfile.TarInfo("x")
    entry.pax_headers = {"path": f"{PUBLIC}/a\0b"}
    with pytest.raises(AnswerError, match="not asked for"):
        unpack(entry.tobuf(tarfile.PAX_FORMAT) + tar(GOOD), tmp_path, OWNER, SENDER)


HOSTILE_RESULTS = {
    "another job's": (REVIEW.replace("job-1", "job-2") + "/outputs/n", b"x"),
    "another sender's": (REVIEW.replace(SENDER, "mallory@lab.local") + "/outputs/n", b"x"),
    "the job's folder itself": (REVIEW, b"x"),
    "another layout's": (REVIEW.replace("/v1/", "/job-0/") + "/state.yaml", b"x"),
    "data sets, unasked": GOOD,
}


@pytest.mark.parametrize("member", HOSTILE_RESULTS.values(), ids=HOSTILE_RESULTS)
def test_of_results_with_one_hostile_file_nothing_is_written(tmp_path, member):
    with pytest.raises(AnswerError, match=f"{OWNER}'s node sends .* not asked for"):
        unpack(tar(GOOD_OUTPUT, member), tmp_path, OWNER, SENDER, "job-1")
    assert list(tmp_path.rglob("*")) == []


@pytest.mark.parametrize("data", [b"no tar", b"\x1f\x8b" + bytes(600), tar(GOOD)[:700]])
def test_what_is_no_tar_is_refused(tmp_path, data):
    with pytest.raises(AnswerError, match=r"no tar|cannot be written"):
        unpack(data, tmp_path, OWNER, SENDER)
    assert list(tmp_path.rglob("*")) == []


def test_too_many_files_and_too_many_bytes_are_refused(tmp_path, monkeypatch):
    monkeypatch.setattr("fedrnn.datasite.answers.MAX_RESULT_FILES", 1)
    with pytest.raises(AnswerError, match="over 1 files"):
        unpack(tar(GOOD, (f"{PUBLIC}/x", b"x")), tmp_path, OWNER, SENDER)
    monkeypatch.setattr("fedrnn.datasite.answers.MAX_RESULTS", 1 << 10)
    with pytest.raises(AnswerError, match="MiB of results"):
        unpack(tar(GOOD), tmp_path, OWNER, SENDER)
    assert list(tmp_path.rglob("*")) == []


def test_what_was_asked_for_is_laid_out_over_what_was_there(tmp_path):
    unpack(tar(GOOD), tmp_path, OWNER, SENDER)
    unpack(tar((GOOD[0], b"ko\n"), (f"{PUBLIC}/dataset.yaml", b"1")), tmp_path, OWNER, SENDER)
    unpack(tar(GOOD_OUTPUT), tmp_path, OWNER, SENDER, "job-1")
    found = {str(p.relative_to(tmp_path)): p.read_bytes() for p in tmp_path.rglob("*")
             if p.is_file()}  # fmt: skip
    assert found == {
        GOOD[0]: b"ko\n",
        f"{PUBLIC}/dataset.yaml": b"1",
        GOOD_OUTPUT[0]: b"7",
    }
