"""Tar streams as they come to the gate: a job, and what has no place in one."""

import gzip
import io
import pickle
import tarfile


def job(
    extra: dict[str, bytes] | None = None,
    members: list[tarfile.TarInfo] | None = None,
    drop: str = "",
):
    files = {"run.sh": b"true\n", "config.yaml": b"name: x\n", "code/main.py": b"1\n"}
    files.pop(drop, None)
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w") as tar:
        for name, content in {**files, **(extra or {})}.items():
            entry = tarfile.TarInfo(name)
            entry.size = len(content)
            tar.addfile(entry, io.BytesIO(content))
        for member in members or []:
            tar.addfile(member)
    return stream.getvalue()


def named(*names: bytes) -> bytes:
    """A job with files of these raw names beside the ordinary ones."""
    return job({name.decode("utf-8", "surrogateescape"): b"1" for name in names})


def sparse(kind: str) -> bytes:
    """A job with a file that says to be 300 MiB and brings one byte of it."""
    entry = tarfile.TarInfo("code/hole")
    entry.size = 1
    if kind == "pax":
        entry.pax_headers = {"GNU.sparse.size": str(300 << 20), "GNU.sparse.map": "0,1"}
    else:
        entry.type = tarfile.GNUTYPE_SPARSE
    return entry.tobuf(tarfile.PAX_FORMAT) + b"x".ljust(512, b"\0") + job()


def nested_headers(count: int) -> bytes:
    entry = tarfile.TarInfo("././@LongLink")
    entry.type, entry.size = tarfile.GNUTYPE_LONGNAME, 1
    return (entry.tobuf() + b"x".ljust(512, b"\0")) * count + job()


def link(name: str, kind: bytes, target: str = "/etc/passwd") -> tarfile.TarInfo:
    entry = tarfile.TarInfo(name)
    entry.type, entry.linkname = kind, target
    return entry


def huge(name: str) -> bytes:
    entry = tarfile.TarInfo(name)
    entry.size = 1 << 30
    return entry.tobuf()


HOSTILE = {
    "way up": job({"../../evil": b"x"}),
    "way up inside": job({"code/../../evil": b"x"}),
    "absolute": job({"/tmp/evil": b"x"}),
    "state of its own": job({"state.yaml": b"status: approved"}),
    "symbolic link": job(members=[link("code/l", tarfile.SYMTYPE)]),
    "hard link": job(members=[link("code/l", tarfile.LNKTYPE, "run.sh")]),
    "fifo": job(members=[link("code/l", tarfile.FIFOTYPE)]),
    "device": job(members=[link("code/l", tarfile.CHRTYPE)]),
    "one name twice": job(members=[tarfile.TarInfo("run.sh")]),
    "compressed": gzip.compress(job()),
    "said to be 1 GiB": huge("code/big") + b"x" * 4096,
    "review of its own": job({"review/controller@lab.local/v1/x/state.yaml": b"status: approved"}),
    "binary": job({"code/b": b"\xff\xfe"}),
    "empty": b"",
    "no tar": b"not a tar",
    "cut off": job()[:700],
    "too large": job({"code/big": b"x" * (9 << 20)}),
    "name that is not UTF-8": named(b"code/\xff.py"),
    "name with a newline": named(b"code/a\nb"),
    "name that reads backwards": named(b"code/\xe2\x80\xaeyp.a"),
    "hidden": named(b"code/.hidden"),
    "long name": named(b"code/" + b"a" * 65),
    "code is a file": named(b"code"),
    "file and folder of one name": named(b"code/a", b"code/a/b"),
    "nine folders deep": named(b"code/" + b"a/" * 8 + b"b"),
    "2000 folders deep": named(b"code/" + b"a/" * 2000 + b"b"),
    "sparse, GNU": sparse("gnu"),
    "sparse, PAX": sparse("pax"),
    "headers of headers": nested_headers(3000),
    "10,000 files": job({f"code/{n}": b"" for n in range(10_000)}),
    "no code": job({}, drop="code/main.py"),
    "pickle": job({"code/model.pkl": pickle.dumps({"a": 1.5})}),
    "zero byte": job({"code/zero": b"a\0b"}),
}
