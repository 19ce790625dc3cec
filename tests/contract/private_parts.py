"""Every part of PySyft and Flower that is not public API and that we touch: the one list of them.

`test_private_parts.py` holds it against the packages, and our source against it.
"""

from __future__ import annotations

from typing import NamedTuple


class Part(NamedTuple):
    """A private part: where it is imported from, its parameters, and what we do with it."""

    name: str  # module:attribute, or module:Class.attribute
    used: str
    parameters: str | None = None  # of a function, without self; None for what is not called


RUNNER, STORAGE, CLIENT = (
    "syft_job:SyftJobRunner.",
    "syft_job.job_storage:JobStorage.",
    "syft_job:JobClient.",
)
DRIVE = "syft.sync.connections.drive."
MOCK = f"{DRIVE}mock_drive_service:"
ENGINE = "tests/contract/flower.py runs Flower's engine"
HANDS_OVER = "datasite/runner.py overrides it: a job is started by systemd, and ends later"

PARTS = (
    # PySyft's jobs
    Part(f"{RUNNER}__init__", "datasite/runner.py calls it", "config poll_interval"),
    Part(f"{RUNNER}_execute_job", HANDS_OVER, "ref stream_output timeout"),
    Part(f"{RUNNER}_share_job_results", HANDS_OVER, "ref share_outputs share_logs"),
    Part(f"{RUNNER}_get_jobs_in_approved", "datasite/runner.py overrides it: one at a time", ""),
    Part(f"{RUNNER}_get_jobs_with_status", "datasite/runner.py calls it", "status"),
    Part(f"{RUNNER}_prepare_outputs_dir", "datasite/runner.py calls it", "ref"),
    Part(f"{RUNNER}_set_finalized_job_state", "datasite/runner.py calls it", "ref returncode"),
    Part(f"{RUNNER}process_approved_jobs", "datasite/runner.py calls it",
         "stream_output timeout skip_job_names share_outputs_with_submitter"
         " share_logs_with_submitter"),
    Part("syft_job.job_storage:JobStorage", "datasite/storage.py derives from it",
         "config registry peer_schemas"),
    Part(f"{STORAGE}__init__", "datasite/storage.py calls it", "config registry peer_schemas"),
    Part(f"{STORAGE}_write", "datasite/storage.py overrides it: whole files, on the disk",
         "codec path obj ref reader_email"),
    Part(f"{STORAGE}read_state", "datasite/storage.py overrides it: reads past damage", "ref"),
    Part(f"{STORAGE}write_state", "datasite/runner.py calls it", "ref state"),
    Part(f"{STORAGE}read_submission", "mailbox.py and researcher.py call it", "ref"),
    Part(f"{STORAGE}submission_dir", "datasite/archive.py moves it", "ref"),
    Part(f"{STORAGE}review_dir", "datasite/archive.py moves it", "ref"),
    Part(f"{STORAGE}iter_review_refs", "datasite/archive.py calls it", "datasite_email"),
    Part(f"{STORAGE}iter_submission_refs", "datasite/mailbox.py calls it", "datasite_email"),
    Part(f"{STORAGE}find_submission_ref", "datasite/mailbox.py calls it",
         "datasite_email job_name ds_email"),
    Part(f"{STORAGE}new_submission_ref", "datasite/researcher.py calls it", "do_email job_name"),
    Part("syft_job.job_storage:JobRef", "archive.py, runner.py, storage.py: a job's name",
         "datasite_email ds_email job_name protocol_version"),
    Part("syft_job.job_storage:JobStateNotFoundError", "storage.py: no state is no damage"),
    Part(f"{CLIENT}setup_ds_job_folder_as_do", "datasite.py makes a sender's folders", "ds_email"),
    Part("syft_datasets.dataset_manager:SyftDatasetManager", "dataset.py and researcher.py",
         "syftbox_folder_path email"),
    # Flower's messages
    Part("flwr.app.exception:AppExitException", "server_app.py: a strategy of Flower's gives up"),
    Part("flwr.common.constant:ErrorCode", "transport/wire.py makes error replies"),
    Part("flwr.common.serde:message_from_proto", "transport/wire.py decodes", "message_proto"),
    Part("flwr.common.serde:message_to_proto", "transport/wire.py encodes", "message"),
    Part("flwr.common.serde:recorddict_to_proto", "transport/wire.py encodes", "recorddict"),
    Part("flwr.common.serde_utils:metadata_to_proto", "transport/wire.py encodes", "metadata"),
    Part("flwr.proto.message_pb2:Message", "transport/wire.py: what is on the wire"),
    Part("flwr.supercore.run:Run", "transport/grid.py: the run of its messages"),
    Part("flwr.supercore.run:Run.create_empty", "transport/wire.py makes a run", "run_id"),
    Part("flwr.supercore.task_identity:TaskIdentity", "transport/wire.py: whose messages"),
    # Flower's engine without Ray, beside ours
    Part("flwr.common.constant:SUPERLINK_NODE_ID", ENGINE),
    Part("flwr.proto.task_pb2:Task", ENGINE),
    Part("flwr.server.superlink.fleet.vce:vce_api", ENGINE),
    Part("flwr.server.superlink.fleet.vce.vce_api:run_api", ENGINE,
         "app_fn backend_fn nodes_mapping state_factory node_info_stores f_stop metrics"),
    Part("flwr.server.superlink.fleet.vce.vce_api:_register_nodes", ENGINE,
         "num_nodes state_factory"),
    Part("flwr.server.superlink.fleet.vce.vce_api:_register_node_info_stores", ENGINE,
         "nodes_mapping run app_dir"),
    Part("flwr.server.superlink.fleet.vce.backend:Backend", ENGINE),
    Part("flwr.server.superlink.fleet.vce.metrics:VceMetrics", ENGINE),
    Part("flwr.server.superlink.linkstate:LinkStateFactory", ENGINE),
    Part("flwr.server.superlink.linkstate.in_memory_linkstate:RunRecord", ENGINE),
    Part("flwr.supercore.constant:FLWR_IN_MEMORY_DB_NAME", ENGINE),
    Part("flwr.supercore.constant:NOOP_FEDERATION_ID", ENGINE),
    Part("flwr.supercore.object_store:ObjectStoreFactory", ENGINE),
    Part("flwr.superlink.federation:NoOpFederationManager", ENGINE),
    Part("flwr.superlink.grid:InMemoryGrid", ENGINE, "state_factory pull_interval"),
    # The rival of a bench
    Part(f"{DRIVE}gdrive_transport:GDriveConnection", "bench/stock_syft.py derives from it"),
    Part(f"{DRIVE}gdrive_transport:GDriveConnection.copy", "bench/stock_syft.py overrides it", ""),
    Part(f"{DRIVE}gdrive_transport:GDriveConnection._copy_caches_to", "bench/stock_syft.py",
         "other"),
    Part(f"{MOCK}MockDriveBackingStore", "bench/stock_syft.py keeps files in it"),
    Part(f"{MOCK}MockDriveFile", "bench/stock_syft.py passes it on"),
    Part(f"{MOCK}MockDriveService", "bench/stock_syft.py derives from it",
         "backing_store current_user"),
    Part(f"{MOCK}MockDriveService.__init__", "bench/stock_syft.py calls it",
         "backing_store current_user"),
    Part(f"{MOCK}MockGetMediaRequest", "bench/stock_syft.py downloads by it"),
    Part("syft_rds.config:SyftRDSClientConfig", "bench/stock_syft.py"),
    Part("syft_rds.config:SyftRDSClientConfig._base_config_for_testing", "bench/stock_syft.py",
         "email syftbox_folder has_do_role has_ds_role kw"),
    Part("syft.sync.syftbox_manager:SyftboxManager._add_connection", "bench/stock_syft.py",
         "connection"),
)  # fmt: skip

# Attributes that only an object has; a test of its own holds each to what it does.
OF_OBJECTS = {
    "_ref": "JobInfo._ref: datasite.py ends a job by it",
    "_state": "JobInfo._state: datasite.py tells the return code",
    "_message_id": "Metadata: transport/wire.py gives a message its id",
    "_src_node_id": "Metadata: tests/contract/test_grid.py forges a sender",
    "_current_user": "MockDriveService: bench/stock_syft.py",
    "_files_resource": "MockDriveService: bench/stock_syft.py",
    "_permissions_resource": "MockDriveService: bench/stock_syft.py",
}
