"""What is used of PySyft and Flower beyond their public API does what it did; all of it is listed.

After an upgrade each failure says what changed, and where it is used.
"""

import ast
import importlib
import inspect
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from flwr.app import Message, RecordDict
from flwr.common.constant import ErrorCode
from private_parts import OF_OBJECTS, PARTS, Part
from syft_job import JobClient, JobStatus, SyftJobConfig, SyftJobRunner
from syft_job.job_storage import JobRef, JobStateNotFoundError, JobStorage

from fedrnn.transport import wire

ROOT = Path(__file__).parents[2]
OWNER, SENDER = "node1@lab.local", "controller@lab.local"
PACKAGES = ("flwr", "syft", "syft_rds", "syft_job", "syft_datasets", "syft_perms")
PUBLIC = {"flwr.app", "flwr.clientapp", "flwr.serverapp", "flwr.serverapp.strategy",
          "flwr.simulation", *PACKAGES}  # fmt: skip
SOURCES = sorted(
    path
    for folder in ("fedrnn", "bench", "tests/contract", "tests/unit/inprocess.py")
    for path in ([ROOT / folder] if folder.endswith(".py") else (ROOT / folder).rglob("*.py"))
)
LISTED = {part.name for part in PARTS}
NAMES = {name.rpartition(":")[2].rpartition(".")[2] for name in LISTED} | OF_OBJECTS.keys()


def found(name: str) -> Any:
    module, _, path = name.partition(":")
    thing = importlib.import_module(module)
    for attribute in path.split("."):
        thing = getattr(thing, attribute)
    return thing


@pytest.mark.parametrize("part", PARTS, ids=lambda part: part.name.rpartition(":")[2])
def test_a_private_part_is_there_with_the_same_parameters(part: Part) -> None:
    try:
        thing = found(part.name)
    except (ImportError, AttributeError) as error:
        pytest.fail(f"{part.name} is gone ({error}). It is used: {part.used}", pytrace=False)
    if part.parameters is not None:
        now = " ".join(p for p in inspect.signature(thing).parameters if p != "self")
        if now != part.parameters:
            was = f"{part.name} took ({part.parameters}) and takes ({now}) now"
            pytest.fail(f"{was}. It is used: {part.used}", pytrace=False)


@pytest.fixture
def client(tmp_path: Path) -> JobClient:
    """An owner's client with one job that waits."""
    config = SyftJobConfig(syftbox_folder=tmp_path, current_user_email=OWNER, has_do_role=True)
    made = JobClient.from_config(config)
    folder = config.get_job_submission_dir(OWNER, SENDER, "job-1")
    (folder / "code").mkdir(parents=True)
    (folder / "run.sh").write_text("true\n")
    (folder / "config.yaml").write_text(
        "canonical_name: JobSubmissionMetadata\nversion: '1'\nname: job-1\ntype: python\n"
        f"submitted_by: {SENDER}\ndatasite_email: {OWNER}\n"
        "submitted_at: '2026-11-24T00:00:00+00:00'\nentrypoint: main.py\nfiles: [main.py]\n"
    )
    return made


def test_a_job_has_its_ref_and_its_state(client: JobClient) -> None:
    (job,) = client.jobs
    assert job._ref == JobRef(OWNER, SENDER, "job-1", job._ref.protocol_version)
    assert (job._state.status, job._state.return_code) == (JobStatus.PENDING, None)


def test_a_client_reads_and_writes_by_the_manager_that_it_is_given(client: JobClient) -> None:
    """`datasite.py` puts its storage there; a client that kept another would lose power cuts."""
    told = []

    class Told(JobStorage):
        def read_state(self, ref):
            told.append("read")
            return super().read_state(ref)

        def _write(self, codec, path, obj, ref, reader_email):
            told.append(f"write {path.name}")
            return super()._write(codec, path, obj, ref, reader_email)

    client.manager = Told(client.config)
    (job,) = client.jobs
    assert told == ["write state.yaml", "read"]
    job.approve("looks right", approval_method="auto")
    assert told[2:] == ["write state.yaml"]
    assert client.manager.read_state(job._ref).approved_at


def test_the_runner_executes_and_shares_what_is_approved_by_the_methods_overridden(
    client: JobClient,
) -> None:
    called = []

    class Told(SyftJobRunner):
        def _get_jobs_in_approved(self):
            called.append("approved")
            return super()._get_jobs_in_approved()

        def _execute_job(self, ref, stream_output=True, timeout=None):
            called.append(f"execute {ref.job_name}")
            return True

        def _share_job_results(self, ref, share_outputs, share_logs):
            called.append(f"share {share_outputs} {share_logs}")

    runner = Told(client.config)
    runner.manager = client.manager
    client.jobs[0].approve("looks right")
    runner.process_approved_jobs(stream_output=False)
    assert called == ["approved", "execute job-1", "share False False"]
    (ref,) = runner._get_jobs_with_status(JobStatus.APPROVED)
    runner._set_finalized_job_state(ref, 3)
    state = client.manager.read_state(ref)
    assert (state.status, state.return_code) == (JobStatus.FAILED, 3)


def test_a_state_that_is_not_there_has_an_error_of_its_own(client: JobClient) -> None:
    assert issubclass(JobStateNotFoundError, FileNotFoundError)
    with pytest.raises(JobStateNotFoundError):
        client.manager.read_state(JobRef(OWNER, SENDER, "job-1", "1"))


def test_the_id_and_the_sender_of_a_message_are_what_was_put_there() -> None:
    wire.identify(run_id=7, node_id=1)
    message = Message(RecordDict(), 2, "query")
    message.metadata.__dict__["_message_id"] = "mine"
    message.metadata.__dict__["_src_node_id"] = 9
    assert (message.metadata.message_id, message.metadata.src_node_id) == ("mine", 9)
    assert Message(RecordDict(), reply_to=message).metadata.reply_to_message_id == "mine"


def test_a_process_without_an_identity_makes_no_message() -> None:
    """Why `wire.identify` is there: without it Flower would tell us nothing until the first one."""
    wire.identify(run_id=3, node_id=4)
    made = Message(RecordDict(), 2, "query").metadata
    assert (made.run_id, made.src_node_id) == (3, 4)


def test_flowers_error_codes_mean_what_they_did() -> None:
    assert (ErrorCode.CLIENT_APP_RAISED_EXCEPTION, ErrorCode.MESSAGE_UNAVAILABLE) == (2, 3)


def test_the_mock_of_the_drive_has_what_the_bench_replaces() -> None:
    service = found("syft.sync.connections.drive.mock_drive_service:MockDriveService")
    store = found("syft.sync.connections.drive.mock_drive_service:MockDriveBackingStore")
    assert {"_current_user", "_files_resource", "_permissions_resource"} <= vars(
        service(store(), "a@b.c")
    ).keys()


class Used(ast.NodeVisitor):
    """Collects what a file uses of other packages that is private: line and name."""

    def __init__(self, ours: set[str]) -> None:
        self.ours, self.found = ours, []
        self._bases: list[tuple[str, Any]] = []
        self._imported: dict[str, str] = {}

    def _note(self, node: ast.AST, name: str) -> None:
        self.found.append((node.lineno, name))

    def visit_Import(self, node: ast.Import) -> None:
        for alias in node.names:
            if alias.name.partition(".")[0] in PACKAGES and alias.name not in PUBLIC:
                self._note(node, f"{alias.name}:")

    def visit_ImportFrom(self, node: ast.ImportFrom) -> None:
        module = node.module or ""
        if node.level == 0 and module.partition(".")[0] in PACKAGES:
            for alias in node.names:
                self._imported[alias.asname or alias.name] = f"{module}:{alias.name}"
                if module not in PUBLIC or alias.name.startswith("_"):
                    self._note(node, f"{module}:{alias.name}")

    def visit_ClassDef(self, node: ast.ClassDef) -> None:
        names = [base.id for base in node.bases if isinstance(base, ast.Name)]
        foreign = [self._imported[name] for name in names if name in self._imported]
        before, self._bases = self._bases, [(name, found(name)) for name in foreign]
        for part in node.body:
            if isinstance(part, ast.FunctionDef | ast.AsyncFunctionDef):
                self._overridden(part)
        self.generic_visit(node)
        self._bases = before

    def _overridden(self, node: ast.FunctionDef | ast.AsyncFunctionDef) -> None:
        for name, base in self._bases:
            # Flower's bases are made to be derived from; of PySyft's, nobody promises a method.
            wanted = node.name.startswith("_") or not name.startswith("flwr")
            dunder = node.name.startswith("__")
            if wanted and not dunder and hasattr(base, node.name):
                self._note(node, f"{name}.{node.name}")

    def visit_Attribute(self, node: ast.Attribute) -> None:
        name, of = node.attr, node.value
        if name.startswith("_") and not name.startswith("__"):
            own = isinstance(of, ast.Name) and of.id in ("self", "cls")
            inherited = [f"{base}.{name}" for base, thing in self._bases if hasattr(thing, name)]
            above = isinstance(of, ast.Call) and getattr(of.func, "id", "") == "super"
            if (own or above) and inherited:
                self._note(node, inherited[0])
            elif not own and name not in self.ours:
                self._note(node, name)
        self.generic_visit(node)

    def visit_Subscript(self, node: ast.Subscript) -> None:
        of, key = node.value, node.slice
        if (
            isinstance(of, ast.Attribute)
            and of.attr == "__dict__"
            and isinstance(key, ast.Constant)
        ):
            self._note(node, str(key.value))
        self.generic_visit(node)


def defined(tree: ast.AST) -> Iterator[str]:
    """Every private name that a file gives to something of its own."""
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            yield node.name
        elif isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Store):
            if isinstance(node.value, ast.Name) and node.value.id == "self":
                yield node.attr
        elif isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name):
            yield node.target.id


def used(source: str) -> list[tuple[int, str]]:
    tree = ast.parse(source)
    visitor = Used(set(defined(tree)) - OF_OBJECTS.keys())
    visitor.visit(tree)
    return visitor.found


def is_listed(name: str) -> bool:
    return name in LISTED if ":" in name else name in NAMES


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: str(path.relative_to(ROOT)))
def test_every_private_part_that_a_file_touches_is_listed(path: Path) -> None:
    unlisted = [f"{path.name}, line {line}: {name}" for line, name in used(path.read_text())
                if not is_listed(name)]  # fmt: skip
    assert unlisted == [], "list them in tests/contract/private_parts.py, with a test"


@pytest.mark.parametrize(
    ("source", "name"),
    [
        ("import flwr.server.grid", "flwr.server.grid:"),
        ("from flwr.server.grid import Grid", "flwr.server.grid:Grid"),
        ("from syft_job.client import JobClient", "syft_job.client:JobClient"),
        ("from syft_job import _secret", "syft_job:_secret"),
        ("job._client.manager", "_client"),
        ("message.metadata.__dict__['_ttl'] = 1", "_ttl"),
        ("from syft_job import SyftJobRunner\nclass R(SyftJobRunner):\n def run(self): ...",
         "syft_job:SyftJobRunner.run"),
        ("from syft_job import SyftJobRunner\nclass R(SyftJobRunner):\n"
         " def x(self): self._get_pending_jobs()", "syft_job:SyftJobRunner._get_pending_jobs"),
        ("from syft_job import SyftJobRunner\nclass R(SyftJobRunner):\n"
         " def x(self): super()._get_job_state(1)", "syft_job:SyftJobRunner._get_job_state"),
    ],
)  # fmt: skip
def test_what_is_not_listed_is_seen(source: str, name: str) -> None:
    assert [seen for _, seen in used(source) if not is_listed(seen)] == [name]


def test_nothing_is_listed_that_is_not_used() -> None:
    text = "\n".join(path.read_text() for path in SOURCES if path.name != "private_parts.py")
    last = {name: name.rpartition(":")[2].rpartition(".")[2] for name in LISTED}
    assert [name for name, word in last.items() if word not in text] == []
