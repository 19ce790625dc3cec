"""What is used of PySyft beyond its public API is still there, with the same arguments."""

import inspect

import pytest
from syft_job import JobClient, SyftJobRunner
from syft_job.job_storage import JobRef, JobStorage


@pytest.mark.parametrize(
    ("owner", "name", "arguments"),
    [
        (SyftJobRunner, "_execute_job", ["ref", "stream_output", "timeout"]),
        (SyftJobRunner, "_prepare_outputs_dir", ["ref"]),
        (SyftJobRunner, "_set_finalized_job_state", ["ref", "returncode"]),
        (SyftJobRunner, "_share_job_results", ["ref", "share_outputs", "share_logs"]),
        (SyftJobRunner, "_get_jobs_with_status", ["status"]),
        (JobStorage, "submission_dir", ["ref"]),
        (JobStorage, "review_dir", ["ref"]),
        (JobStorage, "new_submission_ref", ["do_email", "job_name"]),
        (JobClient, "setup_ds_job_folder_as_do", ["ds_email"]),
    ],
)
def test_the_runner_has_what_is_overridden(owner, name, arguments):
    assert list(inspect.signature(getattr(owner, name)).parameters)[1:] == arguments


def test_a_job_is_its_owner_sender_name_and_protocol():
    assert list(JobRef.__dataclass_fields__) == [
        "datasite_email",
        "ds_email",
        "job_name",
        "protocol_version",
    ]
